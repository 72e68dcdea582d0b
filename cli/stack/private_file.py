"""Files that only their owner may read, written whole or not at all: secrets and the stack's own records."""

import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Replaces `path` by `text`, mode 0600; a reader or a crash sees the old or the new content, never a part."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)
