"""Files of the house in the object store: `models/{name}/{version}/{attempt}/{path}`, with their SHA-256.

The attempt is the import's fencing token: a worker that lost its import writes beside the one that has it, never over.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fleet.contracts import ObjectRef
from fleet.errors import DependencyError, IntegrityError
from fleet.logs import get_logger
from fleet.model_records import HousedVersion, StoredFile
from fleet.objects import ObjectStore, file_digest

_TRIES = 4
_PAUSE_S = 1.0
log = get_logger(__name__)


def prefix_of(name: str, version: int, attempt: int | None = None) -> str:
    """Of all objects of a version, or of one attempt to bring it in."""
    return f"models/{name}/{version}/" + (f"{attempt}/" if attempt is not None else "")


def store_folder(
    folder: Path, held: HousedVersion, objects: ObjectStore, told: Callable[[int], object]
) -> list[StoredFile]:
    """Every file of a model's folder; `told` hears how many bytes are stored, and ends it by raising."""
    stored: list[StoredFile] = []
    prefix = prefix_of(held.name, held.version, held.attempt)
    for file in sorted(entry for entry in folder.rglob("*") if entry.is_file()):
        told(sum(one.size for one in stored))
        path = file.relative_to(folder).as_posix()
        digest, size = file_digest(file), file.stat().st_size
        key = f"{prefix}{path}"
        objects.put_file(key, file, media_type="application/octet-stream", name=file.name, sha256=digest)
        stored.append(StoredFile(path=path, size=size, sha256=digest, key=key))
    told(sum(one.size for one in stored))
    return stored


def fetch_files(
    files: Sequence[StoredFile],
    folder: Path,
    objects: ObjectStore,
    check: Callable[[], object],
    came: Callable[[int], object] = lambda count: None,
) -> None:
    """Into the folder, checked; what is there from a try before is used. `came` hears of bytes as they come.

    Raises DependencyError after some tries, and IntegrityError.
    """
    for file in files:
        target = folder / file.path
        if target.is_file() and target.stat().st_size == file.size:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        for left in reversed(range(_TRIES)):
            check()
            try:
                _go_on(file, part, objects, check, came)
                break
            except DependencyError as error:
                if left == 0 or not error.retryable:
                    raise
                log.warning("a model's file broke off", object=file.key, code=error.code)
                time.sleep(_PAUSE_S)
        digest = file_digest(part)
        if digest != file.sha256 or part.stat().st_size != file.size:
            part.unlink()
            raise IntegrityError(
                f"{file.path} in the object store has the SHA-256 {digest}, and {file.sha256} was stored",
                sha256=digest,
                announced_sha256=file.sha256,
            )
        part.replace(target)


def _go_on(
    file: StoredFile, part: Path, objects: ObjectStore, check: Callable[[], object], came: Callable[[int], object]
) -> None:
    have = part.stat().st_size if part.is_file() else 0
    if have > file.size:
        part.unlink()
        have = 0
    if have == file.size and part.is_file():
        return
    reference = ObjectRef(bucket=objects.bucket, key=file.key, size=file.size, sha256=file.sha256)
    with part.open("ab") as out:
        if file.size:
            for chunk in objects.stream(reference, have):
                check()
                came(len(chunk))
                out.write(chunk)
