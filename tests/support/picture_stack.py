"""A front door, one worker that tells colours apart, and a site with pictures and worse: what dialects are tried on."""

import base64
import io
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import numpy as np

from fleet.settings import Settings
from tests.support.classifiers import MODEL, colours, make_model
from tests.support.file_server import Site
from tests.support.fleet_of_one import ROOT, worker_process
from tests.support.front_door import Door, front_door
from tests.support.pictures import encoded
from tests.support.waiting import eventually
from worker.contract import Array


def plain(*colour: int) -> Array:
    return np.broadcast_to(np.array(colour, np.uint8), (30, 40, 3))


RED, GREEN = encoded(plain(250, 20, 10), "PNG"), encoded(plain(10, 250, 10), "PNG")
ASKED = "shapes-vqa"
#: The site's port is open in this network, and nothing else is.
_REACH = "127.0.0.1/32"


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def zipped(pictures: Sequence[bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, picture in enumerate(pictures):
            archive.writestr(f"{number:04}.png", picture)
    return packed.getvalue()


@dataclass(frozen=True)
class PictureStack:
    """The models are `tiny-classifier`, whose classes are red, green and blue, and `shapes-vqa`, which ships."""

    door: Door
    site: Site
    worker: "subprocess.Popen[bytes]"

    @contextmanager
    def standstill(self) -> Iterator[None]:
        """Of the worker."""
        self.worker.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.worker.send_signal(signal.SIGCONT)

    def upload(self, name: str, content: bytes) -> str:
        """The upload's id."""
        ticket = self.door.http.post("/api/v1/uploads", json={"name": name, "size": len(content)}).json()
        self.door.http.put(ticket["url"], content=content).raise_for_status()
        return str(ticket["id"])

    def key_of(self, upload: str) -> dict[str, str]:
        """Bucket and key of an upload."""
        told = self.door.http.get(f"/api/v1/uploads/{upload}").json()["object"]
        return {"bucket": told["bucket"], "key": told["key"]}


@contextmanager
def picture_stack(settings: Settings, folder: Path, **changes: Any) -> Iterator[PictureStack]:
    """`changes` are of the front door's settings."""
    make_model(folder / "models", colours(gain=20), max_attempts=1)
    shutil.copytree(ROOT / "models" / ASKED, folder / "models" / ASKED)
    places = {"MODELS_PATH": str(folder / "models"), "OUTWARD_ALLOW_NETWORKS": _REACH, "WORKER_NAME": "only"}
    worker = worker_process(settings, folder, IMAGE_MAX_PIXELS="1000000", IMAGE_MAX_SIZE="1000000", **places)
    site = Site({"/red.png": RED, "/page.html": b"<!DOCTYPE html><html></html>", "/large.png": bytes(1_000_001)})
    site.redirect("/inside", "http://10.0.0.1/secret.png")
    site.redirect("/round", f"{site.url}/round")
    reach = [ip_network(_REACH)]
    try:
        with front_door(settings, max_wait_s=60, outward_allow_networks=reach, **changes) as door, worker as process:
            eventually(lambda: any(f"{MODEL}/1" in live.word.models for live in door.core.catalogue.workers()))
            yield PictureStack(door, site, process)
    finally:
        site.close()
