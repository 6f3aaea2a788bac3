"""Benches: each prints one JSON line last."""

import af3stream.engine  # noqa: F401 - it sets how threads wait, before NumPy and torch read that
