"""For scripts that ask the libraries: torchvision also where its own operators are missing, as in some of its builds.

Imports nothing of ours.
"""

import torch


def import_torchvision() -> object:
    """Where it has no operators they are declared, so that it can be imported; calling them fails then.

    They are there as long as what is returned.
    """
    try:
        import torchvision
    except RuntimeError:
        operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision

        return torchvision, operators
    return torchvision
