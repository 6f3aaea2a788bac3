"""Decode PCM and files, detect voice, and cut one timeline into utterances and windows.

Every result is a pure function of the samples, however they are chunked. Internal audio is mono float32 at
``SAMPLE_RATE``. A position is an int, the sample index from the session's start.
"""

SAMPLE_RATE = 16_000  # Hz
