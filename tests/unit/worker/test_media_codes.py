"""The codes that bad input ends in are a promise: each stands in the how-to, and the how-to names no other."""

import re

from tests.support.clone import ROOT, package_modules

GUIDE = (ROOT / "docs" / "how-to" / "segment-a-volume.md").read_text("utf-8")
#: Where a volume is read, judged and decoded.
PLACES = ("worker/media/", "worker/volumes/", "worker/memory/")
#: Faults of a model rather than of an input.
OF_MODELS = {"unexpected-output-shape", "non-finite-scores", "unknown-output", "validation-failed"}


def raised() -> set[str]:
    sources = (text for name, text in package_modules().items() if name.startswith(PLACES))
    return {code for text in sources for code in re.findall(r'code="([a-z0-9-]+)"', text)} - OF_MODELS


def documented() -> set[str]:
    tables = GUIDE.partition("## What is refused")[2].partition("## What stays private")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", tables, re.MULTILINE)
    return {code for cell in cells for code in re.findall(r"`([a-z0-9-]+)`", cell)}


def test_every_code_is_documented_and_every_documented_code_is_raised() -> None:
    assert len(raised()) > 30
    assert raised() == documented()
