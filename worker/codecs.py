"""From bytes to media and from outcomes to files: which codec serves which kind."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet.contracts import MediaKind, ResultKind
from fleet.errors import ModelError, ValidationFailed
from worker.contract import Encoded, Progress, Source
from worker.media.encoder import encode_mask
from worker.media.limits import VolumeLimits
from worker.media.reader import VolumeReader


class Codecs:
    """One per process; thread-safe. `prewarm` starts the decoder's child process ahead of the first job."""

    def __init__(self, limits: VolumeLimits, scratch: Path) -> None:
        self._volumes = VolumeReader(limits, scratch)

    def prewarm(self) -> None:
        self._volumes.prewarm()

    def close(self) -> None:
        self._volumes.close()

    def decode(self, kind: MediaKind, sources: Sequence[Source], params: Any, progress: Progress) -> Any:
        """The media that the task reads. Raises InputError for bytes that are not what they should be."""
        match kind:
            case MediaKind.NONE:
                return None
            case MediaKind.VOLUME:
                if len(sources) != 1:
                    raise ValidationFailed(f"this task takes exactly one volume, {len(sources)} were given")
                return self._volumes.read(sources[0], progress, getattr(params, "series_uid", None))
            case _:
                raise ModelError(f"this worker has no decoder for {kind.value}", code="media-unsupported")

    def encode(self, kind: ResultKind, outcome: Any, folder: Path) -> Encoded:
        """What becomes of the task's outcome: JSON for the record, files in `folder` for the object store."""
        match kind:
            case ResultKind.JSON:
                return Encoded(_strict(outcome), [])
            case ResultKind.MASK:
                encoded = encode_mask(outcome, folder)
                _strict(encoded.result)
                return encoded


def _strict(outcome: dict[str, Any]) -> dict[str, Any]:
    """Numbers that are not finite have no form in JSON: better no result than one that cannot be read."""
    try:
        json.dumps(outcome, allow_nan=False)
    except ValueError as error:
        raise ModelError("the model answered with numbers that are not finite", code="result-not-finite") from error
    return outcome
