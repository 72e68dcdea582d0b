"""As `reference_detection.py`, for YOLO-NAS of super-gradients, which is made for older versions of all it wants.

    pip download --no-deps super-gradients==3.7.1                          and unpack it
    pip install --no-deps onnx-graphsurgeon onnxsim omegaconf==2.3.0 antlr4-python3-runtime==4.9.3 hydra-core treelib \
        termcolor stringcase rapidfuzz json-tricks einops torchmetrics==0.8 deprecated wrapt "setuptools<75"
    python reference_yolo_nas.py FOLDER UNPACKED PHOTOGRAPH...

The raw form against the processing and suppression of its predict(), for the processing of the published weights and
for that of a dataset of one's own; the two forms that suppress in the graph against what they say themselves.
"""

import json
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from reference_detection import SIZE, save, save_above, told
from unused_modules import empty_if_missing
from whole_torchvision import import_torchvision

UNUSED = (
    "boto3", "botocore", "data_gradients", "albumentations", "tensorboard", "wandb", "clearml", "coverage",
    "pycocotools", "jsonschema", "sphinx", "imagesize", "six",
)  # fmt: skip


def main(folder: Path, unpacked: Path, photographs: list[Path]) -> None:
    _torchvision = import_torchvision()
    sys.path.insert(0, str(unpacked))
    empty_if_missing(*UNUSED)
    for name, kind in (("float", float), ("int", int), ("object", object)):
        setattr(np, name, kind)
    torch.onnx.export = partial(torch.onnx.export, dynamo=False)
    from super_gradients.conversion import DetectionOutputFormatMode
    from super_gradients.training import models
    from super_gradients.training.processing import processing

    torch.manual_seed(7)
    network = models.get("yolo_nas_s", num_classes=80)
    excite(network)
    published = processing.default_yolo_nas_coco_processing_params()
    # What its class of datasets says for one that is resized and padded by DetectionPaddedRescale.
    steps = [
        processing.ReverseImageChannels(),
        processing.DetectionLongestMaxSizeRescale((SIZE, SIZE)),
        processing.DetectionBottomRightPadding((SIZE, SIZE), 114),
        processing.StandardizeImage(255.0),
        processing.ImagePermute((2, 0, 1)),
    ]
    own = published | {"image_processor": processing.ComposeProcessing(steps), "iou": 0.65, "conf": 0.5}
    for own_data, said in ((False, published), (True, own)):
        network.set_dataset_processing_params(**said)
        forms = {
            "": None,
            "-batch": DetectionOutputFormatMode.BATCH_FORMAT,
            "-flat": DetectionOutputFormatMode.FLAT_FORMAT,
        }
        confidence = 0.0
        for suffix, form in forms.items():
            home = folder / f"yolo-nas{'-own' if own_data else ''}{suffix}"
            (home / "1").mkdir(parents=True, exist_ok=True)
            settings = {"task": "object-detection", "pipeline": {"own_data": own_data}}
            (home / "model.yaml").write_text(json.dumps(settings), "utf-8")
            graph = str(home / "1" / "model.onnx")
            # The graph cuts what is beyond 1,000 by class, not by score: its threshold has to leave fewer.
            network.export(
                graph, preprocessing=form is not None, postprocessing=form is not None, onnx_simplify=False,
                confidence_threshold=confidence * 0.99, output_predictions_format=form or forms["-flat"],
                onnx_export_kwargs={"opset_version": 14},
            )  # fmt: skip
            session = onnxruntime.InferenceSession(graph)
            found = partial(suppressed if form else predicted, network, said, session)
            if form is None:
                save(home, "super-gradients", photographs, found)
                confidence = json.loads((home / "reference.json").read_text("utf-8"))["confidence"]
            else:
                save_above(confidence, home, "super-gradients", photographs, found)
    print(f"super-gradients 3.7.1, torch {version('torch')}")


def excite(network: Any) -> None:
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
    for number in (1, 2, 3):
        head = getattr(network.heads, f"head{number}")
        head.cls_pred.weight.data.normal_(0, 0.3)
        head.cls_pred.bias.data.fill_(-4)
        head.reg_pred.weight.data.normal_(0, 0.3)


def predicted(network: Any, said: Any, session: Any, photograph: Path, confidence: float) -> Any:
    """What predict() of the network does around it, with the exported graph in its place."""
    processor = said["image_processor"]
    pixels, notes = processor.preprocess_image(image=rgb(photograph))
    boxes, scores = (torch.from_numpy(value) for value in session.run(None, {"input": pixels[None]}))
    (rows,) = network.get_post_prediction_callback(
        conf=confidence, iou=said["iou"], nms_top_k=1024, max_predictions=300, multi_label_per_box=True,
        class_agnostic_nms=False,
    )((boxes, scores))  # fmt: skip
    return back(rows.numpy(), processor, notes, pixels.shape)


def suppressed(network: Any, said: Any, session: Any, photograph: Path, confidence: float) -> Any:
    """The steps that change a picture's size are not in the graph, the others are."""
    from super_gradients.training.processing.processing import ComposeProcessing, ImagePermute

    steps = [step for step in said["image_processor"].processings if step.resizes_image]
    resized = ComposeProcessing([*steps, ImagePermute((2, 0, 1))])
    pixels, notes = resized.preprocess_image(image=rgb(photograph))
    answers = session.run(None, {"input": pixels[None]})
    if len(answers) == 1:
        rows = answers[0][:, 1:]
    else:
        count = int(answers[0][0, 0])
        rows = np.concatenate([answers[1][0], answers[2][0][:, None], answers[3][0][:, None]], axis=1)[:count]
    rows = rows[rows[:, 4] > confidence]
    return back(rows[np.argsort(-rows[:, 4], kind="stable")[:300]], resized, notes, pixels.shape)


def back(rows: Any, processor: Any, notes: Any, shape: tuple[int, ...]) -> Any:
    from super_gradients.training.utils.predict import DetectionPrediction

    made = DetectionPrediction(
        bboxes=rows[:, :4].copy(), confidence=rows[:, 4], labels=rows[:, 5].astype(int), bbox_format="xyxy",
        image_shape=shape,
    )  # fmt: skip
    made = processor.postprocess_predictions(made, notes)
    return told(made.bboxes_xyxy, made.confidence, made.labels)


def rgb(photograph: Path) -> Any:
    picture: Any = cv2.imread(str(photograph))
    return np.ascontiguousarray(picture[..., ::-1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
