"""Files that only their owner may read, written whole or not at all: secrets and the stack's own records."""

import os
from pathlib import Path


def write_private(path: Path, text: str, *, sync: bool = False) -> None:
    """Replaces `path` by `text`, mode 0600; a reader or a crash sees the old or the new content, never a part.

    With `sync` that holds for a power failure, too.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
            file.flush()
            if sync:
                os.fsync(descriptor)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
