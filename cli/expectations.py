"""What a job may expect, in words: "in about 40 s (20 s to 2 min), 12 before it"."""

from datetime import datetime
from typing import TYPE_CHECKING

from cli.durations import roughly

if TYPE_CHECKING:
    from fleet_client import Forecast
    from fleet_client.records import Span


def start(forecast: "Forecast") -> str | None:
    """None when there is nothing to say: the job runs."""
    if forecast.why is not None:
        return f"nobody can take it now: {forecast.why}"
    parts = [_when(forecast.start, forecast.at)] if forecast.start else []
    return ", ".join([*parts, *_place(forecast)]) or None


def end(forecast: "Forecast") -> str | None:
    if forecast.end is None:
        return None
    basis = {"measured": "as measured", "similar sizes": "by similar sizes", "the model's card": "by the model's card"}
    told = basis.get(forecast.basis or "")
    return _when(forecast.end, forecast.at) + (f", {told}" if told else "")


def sentence(forecast: "Forecast") -> str | None:
    """All in one line, for a job that was just submitted."""
    parts = [f"{verb} {told}" for verb, told in (("starts", start(forecast)), ("ends", end(forecast))) if told]
    return "; ".join(parts) if forecast.why is None else start(forecast)


def _place(forecast: "Forecast") -> list[str]:
    if forecast.position is None:
        return []
    if forecast.position == 1:
        return ["next in its queue"]
    return [f"{'at least ' if forecast.position_at_least else ''}{forecast.position - 1:,} before it"]


def _when(span: "Span", now: datetime) -> str:
    earliest, expected, latest = (
        max(0.0, (moment - now).total_seconds()) for moment in (span.earliest, span.expected, span.latest)
    )
    if latest < 2:
        return "at once"
    return f"in about {roughly(expected)} ({roughly(earliest)} to {roughly(latest)})"
