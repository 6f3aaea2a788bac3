"""The ``listen`` command: a file, a microphone or standard input goes in, captions and answers are printed."""

from af3stream.listen.options import ListenOptions
from af3stream.listen.run import listen

__all__ = ["ListenOptions", "listen"]
