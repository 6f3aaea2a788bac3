"""Format times and error reasons for people."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Format seconds as ``1:02`` or ``1:02:03``."""
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def duration(seconds: float) -> str:
    """Format a duration as ``4 s`` or ``2 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def as_sentence(reason: object) -> str:
    """Capitalise a clause and end it with a full stop."""
    text = str(reason).strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}." if text else "Something went wrong."
