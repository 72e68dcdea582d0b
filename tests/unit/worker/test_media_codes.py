"""The codes that bad input ends in are a promise: each stands in the how-to, and the how-to names no other."""

import re

from tests.support.clone import ROOT, package_modules

GUIDE = (ROOT / "docs" / "how-to" / "segment-a-volume.md").read_text("utf-8")
PICTURES_GUIDE = (ROOT / "docs" / "how-to" / "classify-pictures.md").read_text("utf-8")
#: Where a volume is read, judged and decoded.
PLACES = ("worker/media/", "worker/volumes/", "worker/memory/")
#: Inputs that are no volumes: their codes stand in the reference of errors.
OTHERS = (
    "worker/media/tensors.py", "worker/media/texts.py", "worker/media/embeddings.py", "worker/media/strict.py",
    "worker/media/band", "worker/media/libvips.py",
)  # fmt: skip
#: Where a picture is fetched and decoded.
PICTURE_PLACES = ("worker/media/picture", "worker/media/archive.py", "worker/media/child.py", "worker/links.py")
#: Raised on the way of pictures, and by other places.
SHARED = {"decompression-bomb", "decoder-killed", "unsupported-encoding", "timed-out"}
FROM_ELSEWHERE = {"url-refused", "address-refused", "not-enough-memory"}
#: Faults of a model rather than of an input.
OF_MODELS = {"unexpected-output-shape", "non-finite-scores", "unknown-output", "validation-failed"}


def raised() -> set[str]:
    places = {name: text for name, text in package_modules().items() if name.startswith(PLACES)}
    sources = (text for name, text in places.items() if not name.startswith((*OTHERS, "worker/media/picture")))
    return {code for text in sources for code in re.findall(r'code="([a-z0-9-]+)"', text)} - OF_MODELS


def documented() -> set[str]:
    tables = GUIDE.partition("## What is refused")[2].partition("## What stays private")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", tables, re.MULTILINE)
    return {code for cell in cells for code in re.findall(r"`([a-z0-9-]+)`", cell)}


def test_every_code_is_documented_and_every_documented_code_is_raised() -> None:
    assert len(raised()) > 30
    assert raised() == documented()


def test_every_code_of_a_picture_is_documented_and_every_documented_code_is_raised() -> None:
    sources = [text for name, text in package_modules().items() if name.startswith(PICTURE_PLACES)]
    codes = {code for text in sources for code in re.findall(r'code="([a-z0-9-]+)"', text)} - SHARED
    table = PICTURES_GUIDE.partition("## What is refused")[2]
    cells = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    assert codes | FROM_ELSEWHERE == {code for cell in cells for code in re.findall(r"`([a-z0-9-]+)`", cell)}
