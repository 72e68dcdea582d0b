"""For scripts that ask the libraries: torchvision also where it has no operators, as beside some builds of torch.

Imports nothing of ours.
"""

import numpy as np
import torch


def import_torchvision() -> object:
    """Where it has no operators they are declared, so that it can be imported, and its `nms` is done here.

    They are there as long as what is returned.
    """
    try:
        import torchvision
    except RuntimeError:
        operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision

        torchvision.ops.nms = torchvision.ops.boxes.nms = suppressed
        return torchvision, operators
    return torchvision


def suppressed(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """As torchvision's CPU kernel does it, in single precision: places of the boxes that stay, best first."""
    left, top, right, bottom = boxes.numpy(force=True).T
    areas = (right - left) * (bottom - top)
    places = scores.sort(stable=True, descending=True)[1].numpy(force=True)
    kept = []
    while len(places):
        best, places = places[0], places[1:]
        kept.append(int(best))
        wide = np.minimum(right[best], right[places]) - np.maximum(left[best], left[places])
        high = np.minimum(bottom[best], bottom[places]) - np.maximum(top[best], top[places])
        shared = np.maximum(wide, 0) * np.maximum(high, 0)
        places = places[~(shared / (areas[best] + areas[places] - shared) > iou_threshold)]
    return torch.tensor(kept, dtype=torch.int64)
