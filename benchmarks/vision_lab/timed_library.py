"""A picture by the library itself, timed: run with a Python that has it, imports nothing of ours.

python timed_library.py ultralytics|timm|transformers PICTURE [GRAPH]: says its version, then for each line it reads
answers the picture once, from its file to the answer, and writes the seconds and the seconds of processor. PYTHONPATH
leads to the folder of `whole_torchvision`.
"""

import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from whole_torchvision import import_torchvision


def main(library: str, picture: str, graph: str = "") -> None:
    _torchvision = import_torchvision()
    answer = {"ultralytics": by_ultralytics, "timm": by_timm, "transformers": by_transformers}[library](picture, graph)
    for _ in range(3):
        answer()
    runtime = "onnxruntime" if library == "ultralytics" else "torch"
    print(f"{library} {version(library)}, {runtime} {version(runtime)}", flush=True)
    for _ in sys.stdin:
        began, spent = time.perf_counter(), time.process_time()
        answer()
        print(time.perf_counter() - began, time.process_time() - spent, flush=True)


def by_ultralytics(picture: str, graph: str) -> Callable[[], Any]:
    """The very graph, in the session that ultralytics makes of it."""
    from ultralytics import YOLO

    network = YOLO(graph, task="detect")
    return lambda: network.predict(picture, conf=0.6, verbose=False, device="cpu")


def by_timm(picture: str, graph: str) -> Callable[[], Any]:
    """The same architecture in PyTorch; what its weights are makes no difference to time."""
    import timm
    import torch
    from PIL import Image

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(network))

    def answer() -> Any:
        with torch.inference_mode():
            return network(prepare(Image.open(picture).convert("RGB"))[None]).softmax(-1).topk(5)

    return answer


def by_transformers(picture: str, graph: str) -> Callable[[], Any]:
    import torch
    import transformers
    from PIL import Image

    network = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000)).eval()
    processor = transformers.ViTImageProcessor()

    def answer() -> Any:
        with torch.inference_mode():
            given = processor(Image.open(picture).convert("RGB"), return_tensors="pt")
            return network(**given).logits.softmax(-1).topk(5)

    return answer


if __name__ == "__main__":
    main(*sys.argv[1:])
