"""Lengths of time as people write them: `90s`, `45min`, `12h`, `30d`, `2w`."""

import math
import re

import typer

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_FORM = re.compile(rf"([0-9]+(?:\.[0-9]+)?)\s*({'|'.join(_UNITS)})", re.IGNORECASE)


def duration_s(text: str, option: str) -> float:
    """Seconds. The unit must be said: a bare number is a mistake that costs data. Raises BadParameter."""
    match = _FORM.fullmatch(text.strip())
    seconds = float(match[1]) * _UNITS[match[2].lower()] if match else 0.0
    if not 0 < seconds < math.inf:
        raise typer.BadParameter(
            f"{text!r} is not a length of time: write a number and one of {', '.join(_UNITS)}, for instance 30d",
            param_hint=option,
        )
    return seconds


def roughly(seconds: float) -> str:
    """For people who wait: "0 s", "4 s", "40 s", "12 min", "5 h", "3 d"."""
    for unit, size, until in (("s", 1.0, 90.0), ("min", 60.0, 90.0), ("h", 3600.0, 36.0)):
        if seconds / size < until:
            count = seconds / size
            # Two digits are as much as anybody knows of what is to come.
            return f"{count:.0f} {unit}" if count < 20 else f"{round(count / 5) * 5:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
