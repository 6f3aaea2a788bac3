"""Show live captions of a microphone in the terminal: ``af3stream-mic``. See ``docs/microphone.md``.

:class:`af3stream.listen.Listening` captures, sends and resumes; this package is the view (:mod:`.app`).
"""
