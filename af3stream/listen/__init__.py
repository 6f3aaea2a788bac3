"""The ``listen`` command: stream a file, a microphone or standard input, and print captions and answers."""

from af3stream.listen.microphone import Device, Lost, devices
from af3stream.listen.options import FOLLOW_UP, ListenOptions, follow_up, parse_speakers
from af3stream.listen.run import Listening, listen
from af3stream.listen.screen import clean, clock

__all__ = [
    "FOLLOW_UP",
    "Device",
    "ListenOptions",
    "Listening",
    "Lost",
    "clean",
    "clock",
    "devices",
    "follow_up",
    "listen",
    "parse_speakers",
]
