"""LitServe around ONNX Runtime sessions: run with a Python that has both, imports nothing of ours.

python litserve_server.py yolo|lite|vit|vqa VERSION PORT WORKERS THREADS: `POST /predict {"data": base64}`. VERSION is a
folder with its graph, or graphs; each worker has a session of each, with so many threads, which do not spin, as Fleet's
do not. Pictures are prepared as quickly as Pillow and OpenCV, or numpy, can. PYTHONPATH leads to the folder of
`vision_lab`, where litserve_vqa.py answers questions.
"""

import base64
import io
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime
from PIL import Image


class Pictures(litserve.LitAPI):  # type: ignore[misc]  # the library is not here
    def __init__(self, kind: str, graph: Path, threads: int) -> None:
        super().__init__()
        self.kind, self.graph, self.threads = kind, graph, threads

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(str(self.graph), options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def decode_request(self, request: dict[str, Any]) -> Any:
        picture = Image.open(io.BytesIO(base64.b64decode(request["data"]))).convert("RGB")
        return letterboxed(np.asarray(picture)) if self.kind == "yolo" else cropped(picture, self.kind)

    def predict(self, numbers: Any) -> Any:
        return self.session.run(None, {self.name: numbers[None]})[0][0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        return boxes(output) if self.kind == "yolo" else classes(output)


def letterboxed(picture: Any) -> Any:
    import cv2

    height, width = picture.shape[:2]
    gain = min(640 / height, 640 / width)
    small = cv2.resize(picture, (round(width * gain), round(height * gain)), interpolation=cv2.INTER_LINEAR)
    canvas = np.full((640, 640, 3), 114, np.uint8)
    top, left = (640 - small.shape[0]) // 2, (640 - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return np.stack(cv2.split(canvas)).astype(np.float32) / np.float32(255)


def cropped(picture: Any, kind: str) -> Any:
    if kind == "vit":
        small = picture.resize((224, 224), Image.Resampling.BILINEAR)
    else:
        width, height = picture.size
        gain = 256 / min(width, height)
        small = picture.resize((int(width * gain), int(height * gain)), Image.Resampling.BICUBIC)
        left, top = (small.width - 224) // 2, (small.height - 224) // 2
        small = small.crop((left, top, left + 224, top + 224))
    return np.ascontiguousarray(((np.asarray(small, np.float32) - 127) / 128).transpose(2, 0, 1))


def boxes(rows: Any) -> dict[str, Any]:
    import cv2

    best = rows[4:].max(axis=0)
    chosen = np.flatnonzero(best > 0.6)
    sides = rows[:4, chosen].T
    corners = np.concatenate([sides[:, :2] - sides[:, 2:] / 2, sides[:, 2:]], axis=1)
    kept = cv2.dnn.NMSBoxes(corners.tolist(), best[chosen].tolist(), 0.6, 0.7)
    found = rows[4:, chosen].argmax(axis=0)
    return {"boxes": [[*corners[at].tolist(), float(best[chosen][at]), int(found[at])] for at in kept]}


def classes(logits: Any) -> dict[str, Any]:
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    return {"classes": [[int(at), float(shares[at])] for at in np.argsort(-shares)[:5]]}


def api_of(kind: str, version: Path, threads: int) -> Any:
    if kind == "vqa":
        # It needs a library more than the others.
        from vision_lab.litserve_vqa import Questions

        return Questions(version, threads)
    return Pictures(kind, version / "model.onnx", threads)


if __name__ == "__main__":
    chosen, folder, port, workers, each = sys.argv[1:6]
    api = api_of(chosen, Path(folder), int(each))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(workers))
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="error")
