"""Rows of six numbers, [pictures, rows, 6]: of two families that write different things into them."""

from typing import Literal

import numpy as np

from worker.detection.facts import Facts

#: More rows are no answers but places.
_MOST_ROWS = 1000
#: Boxes that are shares of the picture stay below it, a little beyond the edge included.
_SHARES_BELOW = 1.5


def rows_of_six(facts: Facts) -> str | None:
    """The name of an output of that form."""
    name = facts.only_output
    if name is None or len(shape := facts.shapes[name]) != 3:
        return None
    return name if shape[2] == 6 and shape[1] <= _MOST_ROWS else None


def units(facts: Facts, name: str) -> Literal["pixels", "shares"] | None:
    """Whether boxes are corners in pixels, or centres and sides as shares of the picture; None: it does not show."""
    noted = facts.ultralytics
    if noted is not None and noted.head is not None:
        return "shares" if noted.head == "RTDETRDecoder" else "pixels"
    if noted is not None and (noted.end_to_end or noted.suppressed):
        return "pixels"
    if "GridSample" in facts.operators:
        return "shares"
    boxes = np.abs(facts.probe[name][..., :4])
    if not boxes.size or not np.isfinite(boxes).all() or boxes.max() == 0:
        return None
    return "pixels" if boxes.max() > _SHARES_BELOW else "shares"
