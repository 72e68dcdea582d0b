"""A segmentation whose right answer is known without running it: the voxels that are one, and no others.

Its graph hands the volume through, so any number of volumes can be made, and each mask judged voxel by voxel. With
overlapping windows the same work takes as long as one likes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from isal import igzip
from onnx import TensorProto, helper

from worker.contract import Array

MODEL = "threshold"
#: The same in windows of 16³: the request's `overlap` says how many there are, and so how long a run takes.
WINDOWED = "threshold-windowed"
_HEADER_BYTES = 352


def make_models(repository: Path) -> None:
    """Writes both model folders."""
    windows = {"mode": "windows", "shape": [16, 16, 16], "overlap": 0.5, "blend": "constant"}
    _write(repository / MODEL, {"mode": "whole"})
    _write(repository / WINDOWED, windows)


def _write(folder: Path, run: dict[str, Any]) -> None:
    shape: list[str | int | None] = ["N", 1, "D", "H", "W"]
    image, scores = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "scores"))
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["scores"])], folder.name, [image], [scores])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "1").mkdir(parents=True)
    onnx.save(model, folder / "1" / "model.onnx")
    manifest = {
        "task": "segmentation",
        "device": "any",
        "labels": {1: "one"},
        "pipeline": {
            "axes": "zyx",
            "grid": {"kind": "source"},
            "run": run,
            "scores": "probabilities",
            "decide": {"method": "threshold"},
        },
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest), "utf-8")


def random_volume(seed: int, side: int) -> Array:
    """uint8 [z, y, x] of zeros and ones; no two seeds give the same."""
    return (np.random.default_rng(seed).random((side, side + 1, side + 2)) < 0.4).astype(np.uint8)


def nrrd_of(voxels: Array) -> bytes:
    """The volume as an NRRD file, voxels of 1 mm."""
    z, y, x = voxels.shape
    lines = (
        "NRRD0004",
        "type: uint8",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {x} {y} {z}",
        "space directions: (1,0,0) (0,1,0) (0,0,1)",
        "kinds: domain domain domain",
        "encoding: raw",
        "space origin: (0,0,0)",
    )
    return ("\n".join(lines) + "\n\n").encode() + voxels.tobytes()


def mask_in(nifti: bytes, like: Array) -> Array:
    """The voxels of a stored `mask.nii.gz`, on the grid of `like`."""
    return np.frombuffer(igzip.decompress(nifti)[_HEADER_BYTES:], np.uint8).reshape(like.shape)
