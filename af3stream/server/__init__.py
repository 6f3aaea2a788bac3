"""Listen on a port, admit connections, and connect each socket to a session."""
