"""What tasks and kinds of networks are called in requests of other services, and the tasks here that they mean."""

from fleet.card import Card
from fleet.errors import ValidationFailed

_CLASSIFICATION, _DETECTION = "image-classification", "object-detection"
_EMBEDDING, _ANSWERS = "image-embedding", "visual-qa"
#: Spelling -> task. A model's own task is understood besides, whatever it is called.
TASKS = {
    "classification": _CLASSIFICATION,
    _CLASSIFICATION: _CLASSIFICATION,
    "detection": _DETECTION,
    _DETECTION: _DETECTION,
    "embedding": _EMBEDDING,
    _EMBEDDING: _EMBEDDING,
    "image-feature-extraction": _EMBEDDING,
    _ANSWERS: _ANSWERS,
    "vqa": _ANSWERS,
    "visual-question-answering": _ANSWERS,
    "captioning": _ANSWERS,
    "image-captioning": _ANSWERS,
    "image-to-text": _ANSWERS,
    "segmentation": "segmentation",
    "text-embedding": "text-embedding",
}
#: Kind of network -> what it does.
MODEL_TYPES = {
    **dict.fromkeys(("vit", "deit", "beit", "swin", "convnext", "efficientnet", "resnet"), _CLASSIFICATION),
    **dict.fromkeys(("yolo", "yolov5u", "yolov8", "yolov9", "yolov10", "yolo11", "yolov11", "yolov12"), _DETECTION),
    **dict.fromkeys(("yolo12", "yolo26", "rtdetr", "rt-detr", "dfine", "d-fine", "yolos"), _DETECTION),
    **dict.fromkeys(("dino", "dinov2", "clip", "siglip"), _EMBEDDING),
    "blip": _ANSWERS,
}
#: Those that are a `pipeline.family` of a detector: then a file that can be read in two ways is read in this one.
FAMILIES = {
    "ultralytics": "ultralytics",
    "ultralytics-end-to-end": "ultralytics-end-to-end",
    "ultralytics-rtdetr": "ultralytics-rtdetr",
    "detr": "detr",
    "detr-in-graph": "detr-in-graph",
    "centerface": "centerface",
    "yolov5": "yolov5",
    "yolov7": "yolov7-end-to-end",
    "yolov7-end-to-end": "yolov7-end-to-end",
    "yolox": "yolox",
    "yolo-nas": "yolo-nas",
}


def task_named(task: str) -> str:
    """Raises ValidationFailed `task-unknown`."""
    found = TASKS.get(_spelled(task))
    if found is None:
        raise _fault("task-unknown", "#/task", f"there is no task {task!r}: say one of {', '.join(TASKS)}")
    return found


def task_of_type(model_type: str) -> str:
    """What a network of this kind does. Raises ValidationFailed `model-type-unknown`."""
    name = _spelled(model_type)
    if name in FAMILIES:
        return _DETECTION
    if name not in MODEL_TYPES:
        known = ", ".join([*MODEL_TYPES, *FAMILIES])
        message = f"there is no kind of network called {model_type!r}: say one of {known}, or leave `model_type` out"
        raise _fault("model-type-unknown", "#/model_type", message)
    return MODEL_TYPES[name]


def family_of_type(model_type: str) -> str | None:
    return FAMILIES.get(_spelled(model_type))


def check_task(task: str | None, model_type: str | None, card: Card) -> None:
    """That the model does what the request says. Raises ValidationFailed, `task-mismatch` among its codes."""
    if task is not None and task != card.task:
        _check(task_named(task), card, "#/task")
    if model_type is not None:
        _check(task_of_type(model_type), card, "#/model_type")


def _check(task: str, card: Card, pointer: str) -> None:
    if task != card.task:
        field = pointer.removeprefix("#/")
        message = f"the model {card.name!r} does {card.task!r}, not {task!r}: correct `{field}` or leave it out"
        raise _fault("task-mismatch", pointer, message)


def _spelled(word: str) -> str:
    return word.strip().lower().replace("_", "-")


def _fault(code: str, pointer: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, [{"detail": message, "pointer": pointer}], code=code)
