"""The microphone in the terminal: ``python -m clients.mic``. ``docs/microphone.md`` tells how to use it.

Capturing, sending and resuming are :class:`af3stream.listen.Listening`'s; this is the view (:mod:`.app`).
"""
