"""A checkpoint that a training job wrote, and what its classes mean."""

from fleet.download import Asked
from fleet.model_source import Trained
from worker.house.sources.desk import Desk, Fetched


def fetch_trained(source: Trained, desk: Desk) -> Fetched:
    asked = Asked(source.checkpoint_url)
    known = desk.bring(asked, "model.onnx", source.sha256)
    return Fetched(f"checkpoint from {asked.shown}, SHA-256 {known.sha256}", labels=source.class_mapping)
