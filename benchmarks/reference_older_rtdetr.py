"""As `reference_detection.py`, for RT-DETR of an older ultralytics, whose graphs have a score for each class.

pip download --no-deps ultralytics==8.2.103                            and unpack it
python reference_older_rtdetr.py FOLDER UNPACKED PHOTOGRAPH...
"""

import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import reference_detection
import torch
from unused_modules import empty_if_missing
from whole_torchvision import import_torchvision

UNUSED = ("pandas", "seaborn", "cpuinfo", "thop")


def main(folder: Path, unpacked: Path, photographs: list[Path]) -> None:
    _torchvision = import_torchvision()
    sys.path.insert(0, str(unpacked))
    empty_if_missing(*UNUSED)
    # That of its time did so without being asked, with operators that it knew.
    torch.onnx.export = partial(torch.onnx.export, dynamo=False)
    reference_detection.excite = excite
    reference_detection.yolo(folder, "rtdetr-l-8.2", "rtdetr-l.yaml", {"opset": 17}, photographs)
    print(f"ultralytics {version('ultralytics')} of {unpacked.name}, torch {version('torch')}")


def excite(network: torch.nn.Module) -> None:
    """Each box has its best class here, which is 1 for all of them where scores are as far apart as for the others."""
    for level in network.model[-1].dec_score_head:
        level.weight.data.normal_(0, 0.05)
        level.bias.data.fill_(-2.5)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
