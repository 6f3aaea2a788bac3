"""Audio: PCM from the wire, files, voice detection, and the cutting of one timeline into utterances and windows.

Everything is a pure function of the samples pushed in, however they are chunked. Inside, audio is mono float32 at
``SAMPLE_RATE``, and a position is an int sample index from the session's start.
"""

SAMPLE_RATE = 16_000  # Hz
