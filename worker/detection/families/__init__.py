"""All families of detectors. A new one is a file here and a line below."""

from worker.detection.families import (
    centerface,
    detr,
    detr_in_graph,
    ultralytics,
    ultralytics_end_to_end,
    ultralytics_rtdetr,
    yolo_nas,
    yolov5,
    yolov7_end_to_end,
    yolox,
)
from worker.detection.family import Reading

READINGS: tuple[Reading, ...] = (
    ultralytics.READING,
    ultralytics_end_to_end.READING,
    ultralytics_rtdetr.READING,
    yolov5.READING,
    yolov7_end_to_end.READING,
    yolox.READING,
    yolo_nas.READING,
    detr.READING,
    detr_in_graph.READING,
    centerface.READING,
)
