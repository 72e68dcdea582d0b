"""How to run PostgreSQL when we are root, which it refuses to be.

First choice on Linux is a user namespace: inside it the server is `nobody`, outside the files stay root's, so that
folders keep their owner and mode, also below a closed home. Where namespaces are forbidden (many containers),
the server runs as the system's `nobody`, who must be able to walk to both the programs and the data.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fleet.errors import ValidationFailed

_NOBODY = 65534


@dataclass(frozen=True)
class RunAs:
    """Put `prefix` before the argv, and give `popen` to Popen. `owner` is (uid, gid) when files must change hands."""

    mode: Literal["user", "namespace", "nobody"]
    prefix: tuple[str, ...] = ()
    popen: dict[str, Any] = field(default_factory=dict)
    owner: tuple[int, int] | None = None


def unprivileged() -> RunAs:
    """Raises ValidationFailed `root-not-possible` when we are root and there is no way to step down."""
    if os.geteuid() != 0:
        return RunAs("user")
    unshare = shutil.which("unshare")
    if unshare is not None:
        prefix = (unshare, "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
        probe = subprocess.run([*prefix, "id", "-u"], capture_output=True, text=True, check=False)
        if probe.returncode == 0 and probe.stdout.strip() == str(_NOBODY):
            return RunAs("namespace", prefix)
    import pwd

    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise ValidationFailed(
            "PostgreSQL refuses to run as root, user namespaces are forbidden here and there is no user `nobody`: "
            "run as an ordinary user, or give --database-url",
            code="root-not-possible",
        ) from None
    return RunAs(
        "nobody",
        popen={"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []},
        owner=(nobody.pw_uid, nobody.pw_gid),
    )


def closed_folder(path: Path) -> Path | None:
    """The first folder on the way to `path` that other users cannot enter, or None."""
    for folder in reversed([path, *path.parents]):
        if folder.is_dir() and not folder.stat().st_mode & 0o001:
            return folder
    return None
