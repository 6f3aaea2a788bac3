"""af3stream: audio in over a WebSocket, live captions out, and answers about what was heard at any moment."""

__version__ = "0.1.0"
