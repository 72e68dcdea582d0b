"""What is told of one picture."""

from collections.abc import Mapping
from typing import Any

from worker.detection.found import Found

#: Of shares: a hundredth of a pixel in pictures of 100,000 pixels.
_DIGITS = 7


def answer_of(found: Found, size: tuple[int, int], names: Mapping[int, str]) -> dict[str, Any]:
    """{"detections", "count", "image_size"}: best first, boxes as shares of the upright picture.

    size: (width, height) of that picture in pixels. names: of the classes that were found; others are their number.
    `area` is that of the box as a share of the picture's. Models that find points have them as `landmarks`.
    """
    width, height = size
    detections = []
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
    for place, ((left, top, right, bottom), score, class_id) in enumerate(rows):
        detection: dict[str, Any] = {
            "id": place,
            "class_name": names.get(class_id, str(class_id)),
            "class_id": class_id,
            "confidence": round(score, _DIGITS),
            "bbox": {
                "x1": round(left / width, _DIGITS),
                "y1": round(top / height, _DIGITS),
                "x2": round(right / width, _DIGITS),
                "y2": round(bottom / height, _DIGITS),
            },
            "area": round((right - left) * (bottom - top) / (width * height), _DIGITS),
        }
        if found.landmarks is not None:
            detection["landmarks"] = [
                {"x": round(float(x) / width, _DIGITS), "y": round(float(y) / height, _DIGITS)}
                for x, y in found.landmarks[place]
            ]
        detections.append(detection)
    return {"detections": detections, "count": len(detections), "image_size": {"width": width, "height": height}}
