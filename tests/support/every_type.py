"""A model that says back a tensor of every type that ONNX Runtime and Triton have in common."""

from pathlib import Path

from onnx import TensorProto

from tests.support.triton_repository import save_graph

#: Triton's name -> ONNX's.
TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def every_type(path: Path) -> Path:
    """out_X = in_X of shape [n, 2], for each type X."""
    return save_graph(
        path,
        [("Identity", [f"in_{name}"], [f"out_{name}"]) for name in TYPES],
        {f"in_{name}": (kind, [f"n_{name}", 2]) for name, kind in TYPES.items()},
        {f"out_{name}": (kind, [f"n_{name}", 2]) for name, kind in TYPES.items()},
    )
