"""Show live captions of a microphone in the terminal: ``af3stream-mic``. See ``docs/microphone.md``.

``af3stream.listen.Listening`` captures, sends and resumes; this package is the view (``.app``).
"""
