"""Listens, admits, and pumps bytes between a socket and a session."""
