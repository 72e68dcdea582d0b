"""From bytes to media and from outcomes to files: which codec serves which kind."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from fleet.contracts import MediaKind, ResultKind
from fleet.errors import ValidationFailed
from worker.contract import Encoded, Progress, Source
from worker.media.embeddings import encode_embeddings
from worker.media.encoder import encode_mask
from worker.media.items import encode_items
from worker.media.limits import VolumeLimits
from worker.media.picture_limits import PictureLimits
from worker.media.pictures import PictureReader
from worker.media.placed import placed
from worker.media.reader import VolumeReader
from worker.media.strict import strict
from worker.media.tensors import encode_tensors, read_tensors
from worker.media.texts import read_texts
from worker.pictures.items import Pictures


class Codecs:
    """One per process; thread-safe. `prewarm` starts decoders' child processes ahead of the first job."""

    def __init__(self, limits: VolumeLimits, scratch: Path, pictures: PictureLimits | None = None) -> None:
        self._volumes = VolumeReader(limits, scratch)
        self._pictures = PictureReader(pictures or PictureLimits(), scratch)

    def prewarm(self, kinds: Collection[MediaKind]) -> None:
        """For media of these kinds."""
        if MediaKind.VOLUME in kinds:
            self._volumes.prewarm()
        if MediaKind.IMAGE in kinds:
            self._pictures.prewarm()

    def close(self) -> None:
        self._volumes.close()
        self._pictures.close()

    def decode(self, kind: MediaKind, sources: Sequence[Source], params: Any, progress: Progress) -> Any:
        """The media that the task reads. Raises InputError for bytes that are not what they should be."""
        if kind not in (MediaKind.TENSORS, MediaKind.IMAGE):
            sources = [placed(source) for source in sources]
        match kind:
            case MediaKind.NONE:
                return None
            case MediaKind.VOLUME:
                if len(sources) != 1:
                    raise ValidationFailed(f"this task takes exactly one volume, {len(sources)} were given")
                return self._volumes.read(sources[0], progress, getattr(params, "series_uid", None))
            case MediaKind.TENSORS:
                return read_tensors(sources)
            case MediaKind.TEXT:
                return read_texts(sources)
            case MediaKind.IMAGE:
                if not sources and getattr(params, "texts", None):
                    return Pictures([], many=True)
                tiled = getattr(params, "tiles", None) is not None
                return self._pictures.pictures(sources, getattr(params, "alpha", "white"), tiled=tiled)

    def encode(self, kind: ResultKind, outcome: Any, folder: Path) -> Encoded:
        """What becomes of the task's outcome: JSON for the record, files in `folder` for the object store."""
        if kind is ResultKind.MASK:
            folder.mkdir(mode=0o700, exist_ok=True)
        match kind:
            case ResultKind.JSON:
                return Encoded(strict(outcome), [])
            case ResultKind.MASK:
                encoded = encode_mask(outcome, folder)
                strict(encoded.result)
                return encoded
            case ResultKind.TENSORS:
                return encode_tensors(outcome, folder)
            case ResultKind.EMBEDDINGS:
                return encode_embeddings(outcome, folder)
            case ResultKind.ITEMS:
                return encode_items(outcome, folder)
