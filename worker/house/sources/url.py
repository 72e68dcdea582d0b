"""An ONNX file, or an archive of a model, at a URL."""

from urllib.parse import unquote, urlsplit

from fleet.download import Asked
from fleet.model_source import AtUrl
from worker.house.sources.desk import Desk, Fetched


def fetch_from_url(source: AtUrl, desk: Desk) -> Fetched:
    asked = Asked(source.url)
    last = unquote(urlsplit(source.url).path).rpartition("/")[2]
    known = desk.bring(asked, last if last.endswith(".onnx") and "\\" not in last else "model.onnx", source.sha256)
    # Of the URL only its server: paths and queries may hold secrets.
    return Fetched(f"file from {asked.shown}, SHA-256 {known.sha256}")
