"""The ``listen`` command: a file, a microphone or standard input to the service, captions and answers to the terminal."""

from af3stream.listen.options import ListenOptions
from af3stream.listen.run import listen

__all__ = ["ListenOptions", "listen"]
