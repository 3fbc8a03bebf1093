"""Lengths of time as people write them in a configuration: 48h, 30d, 6w, 15y."""

import re

from agent.errors import ConfigInvalid

_S = 10**9
_UNITS = {"h": 3600 * _S, "d": 86_400 * _S, "w": 7 * 86_400 * _S, "y": 31_557_600 * _S}  # Julian
_DURATION = re.compile(r"([0-9]{1,6})([hdwy])")


def duration_ns(text: str) -> int:
    """Return nanoseconds; 0 for an empty text.  Raise ConfigInvalid for what is no duration."""
    if not text:
        return 0
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigInvalid(
            f"{text!r} is no length of time", hint="write a number and h, d, w or y: 48h, 30d, 15y"
        )
    return int(match[1]) * _UNITS[match[2]]
