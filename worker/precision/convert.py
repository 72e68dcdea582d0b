"""A graph in shorter numbers: int8 with ranges found at run time, int8 with calibrated ranges, float16.

Sources: ONNX Runtime's pages "Quantize ONNX models" and "Float16 and mixed precision models".
"""

import logging
import platform
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import onnx
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from fleet.errors import ModelError
from worker.precision.feeds import Feeds

#: What int8 with ranges found at run time makes faster: weights dominate there, and not the pictures between layers.
_DYNAMIC = ("MatMul", "Gemm", "Attention", "LSTM", "Gather", "EmbedLayerNormalization")
_WORTH_IT = frozenset(_DYNAMIC) - {"Gather"}
#: What it makes faster with calibrated ranges. Others follow where they lie between these.
_STATIC = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
_OF_INT8 = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})
#: The first with quantized operators of all kinds; older graphs must be exported anew.
_LEAST_OPSET = 11
#: Of a file in protobuf's format it is 2 GiB; weights beyond this lie in a file of their own.
_LARGE_BYTES = 1_800_000_000


class Precision(StrEnum):
    INT8_DYNAMIC = "int8-dynamic"
    INT8_STATIC = "int8-static"
    FP16 = "fp16"


def convert(source: Path, target: Path, to: Precision, calibration: Iterable[Feeds] = ()) -> None:
    """Writes the graph `target`; its inputs and outputs keep their names and types.

    `calibration`: real inputs, for int8-static. Raises ModelError `graph-unreadable`, `quantization-unsupported` when
    there is nothing in the graph to make shorter, and `quantization-failed`.
    """
    graph = _read(source)
    _refuse_what_cannot(graph, to)
    try:
        with _quiet(), tempfile.TemporaryDirectory(prefix="fleet-quantize-") as scratch:
            if to is Precision.FP16:
                shorter = convert_float_to_float16(graph, keep_io_types=True)
                large = shorter.ByteSize() > _LARGE_BYTES
                onnx.save(shorter, target, save_as_external_data=large, location=f"{target.name}.data")
            else:
                _to_int8(graph, target, to, calibration, Path(scratch))
    except ModelError:
        raise
    except Exception as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0][:500]
        raise ModelError(f"the graph cannot be made {to}: {cause}", code="quantization-failed") from error


def _to_int8(graph: onnx.ModelProto, target: Path, to: Precision, calibration: Iterable[Feeds], scratch: Path) -> None:
    large = graph.ByteSize() > _LARGE_BYTES
    whole, prepared = scratch / "whole.onnx", scratch / "prepared.onnx"
    # With its weights in it, wherever they lay.
    onnx.save(graph, whole, save_as_external_data=large, location="whole.data")
    # Shapes are inferred and constants folded first: a weight behind a Cast is no weight to the quantizer.
    quant_pre_process(whole, prepared, skip_symbolic_shape=True, save_as_external_data=large)
    if to is Precision.INT8_DYNAMIC:
        quantization.quantize_dynamic(
            prepared,
            target,
            op_types_to_quantize=list(_DYNAMIC),
            per_channel=True,
            reduce_range=overflows(),
            use_external_data_format=large,
            extra_options={"MatMulConstBOnly": True},
        )
        return
    quantization.quantize_static(
        prepared,
        target,
        _Reader(calibration),
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        reduce_range=overflows(),
        use_external_data_format=large,
    )


def overflows(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether sums of 8-bit products overflow on this processor, so that weights may have 7 bits only.

    So on x86-64 without VNNI. Seven bits everywhere would double the error: EfficientNet-Lite0 0.39 instead of 0.21.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return re.search(r"\bavx(512)?_vnni\b", cpuinfo.read_text()) is None
    except OSError:
        return True


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Iterable[Feeds]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def _read(source: Path) -> onnx.ModelProto:
    try:
        return onnx.load(source)
    except Exception as error:
        raise ModelError(
            f"{source.name} or the weights beside it cannot be read: {error}", code="graph-unreadable"
        ) from error


def _refuse_what_cannot(graph: onnx.ModelProto, to: Precision) -> None:
    kinds = Counter(node.op_type for node in graph.graph.node)
    if already := sorted(_OF_INT8.intersection(kinds)):
        raise _unsupported(f"it holds {', '.join(already)}: it is quantized already; name another --version")
    if to is Precision.FP16:
        if not any(tensor.data_type == onnx.TensorProto.FLOAT for tensor in graph.graph.initializer):
            raise _unsupported("it has no weights in float32 to make shorter")
        return
    opset = max((it.version for it in graph.opset_import if it.domain in ("", "ai.onnx")), default=0)
    if opset < _LEAST_OPSET:
        raise _unsupported(f"int8 needs opset {_LEAST_OPSET} or newer, and this is {opset}: export the model anew")
    useful = _WORTH_IT if to is Precision.INT8_DYNAMIC else _STATIC
    if not useful.intersection(kinds):
        most = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
        advice = "; int8-static quantizes Conv" if "Conv" in kinds and to is Precision.INT8_DYNAMIC else ""
        raise _unsupported(f"{to} quantizes {', '.join(sorted(useful))}, and this has only {most}{advice}")


def _unsupported(reason: str) -> ModelError:
    return ModelError(f"the graph cannot be quantized: {reason}", code="quantization-unsupported")


@contextmanager
def _quiet() -> Iterator[None]:
    """What these libraries tell the root logger is advice to their callers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
