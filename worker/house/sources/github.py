"""A release's asset, or a file or folder at a ref, through GitHub's REST API or one that speaks as it does.

https://docs.github.com/rest: releases, commits and contents. Large files that Git keeps elsewhere (LFS) come as
pointers; their bytes are fetched from where the API says that they lie, and checked against the pointer.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from fleet.download import Asked
from fleet.errors import IntegrityError, ModelError
from fleet.model_source import InnerPath, OnGitHub
from fleet.objects import file_digest
from fleet.partial import Known
from worker.house.refused import REFUSED_SUFFIXES
from worker.house.sources.desk import Desk, Fetched

_PATH: TypeAdapter[str] = TypeAdapter(InnerPath)
_JSON, _RAW = "application/vnd.github+json", "application/vnd.github.raw+json"
_SHA = "application/vnd.github.sha"
_MAX_FILES, _MAX_FOLDERS = 500, 100
_POINTER_BYTES = 1024
_POINTER = re.compile(rb"version https://git-lfs[^\n]*\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\n(?:.*\n)*?size (\d+)\n")


@dataclass(frozen=True)
class _Entry:
    path: str
    size: int
    download_url: str


def fetch_from_github(source: OnGitHub, desk: Desk) -> Fetched:
    """Raises ModelError `asset-missing`, which names what there is, besides what downloads raise."""
    if source.asset is not None:
        return _fetch_asset(source, source.asset, desk)
    return _fetch_path(source, source.path or "", desk)


def _fetch_asset(source: OnGitHub, name: str, desk: Desk) -> Fetched:
    which = f"tags/{quote(source.ref, safe='')}" if source.ref else "latest"
    release = _json(f"{_root(source, desk)}/releases/{which}", desk)
    assets = {str(asset.get("name")): asset for asset in _listed(release, "assets", source)}
    if name not in assets:
        raise ModelError(
            f"the release {release.get('tag_name')} of {source.repository} has no asset {name!r}; it has "
            f"{', '.join(sorted(assets)[:32]) or 'none'}",
            code="asset-missing",
        )
    asset = assets[name]
    digest = str(asset.get("digest") or "").removeprefix("sha256:")
    told = digest if re.fullmatch("[0-9a-f]{64}", digest) else None
    url = f"{_root(source, desk)}/releases/assets/{int(asset['id'])}"
    known = desk.bring(_asked(url, "application/octet-stream", desk), _file_name(name), source.sha256 or told)
    tag = release.get("tag_name")
    return Fetched(f"github:{source.repository}@{tag}, asset {name}, SHA-256 {known.sha256}")


def _fetch_path(source: OnGitHub, path: str, desk: Desk) -> Fetched:
    ref = quote(source.ref or "HEAD", safe="")
    told = desk.downloads.document(_asked(f"{_root(source, desk)}/commits/{ref}", _SHA, desk), desk.watch)
    commit = told.body.decode("ascii", "replace").strip()
    if not re.fullmatch("[0-9a-f]{40,64}", commit):
        raise ModelError(
            f"the commit of {source.repository} cannot be read: is GITHUB_ENDPOINT right?", code="source-unreadable"
        )
    entries, is_file = _entries(source, path, commit, desk)
    total, done = sum(entry.size for entry in entries), 0
    for entry in entries:
        name = PurePosixPath(entry.path).name if is_file else str(PurePosixPath(entry.path).relative_to(path or "."))
        arrived = desk.incoming / "file"
        _fetch_file(source, entry, commit, desk.after(done, total), arrived)
        if is_file and source.sha256 is not None:
            _check(arrived, source.sha256, entry)
        if is_file:
            desk.settle(arrived, name)
        else:
            arrived.replace(desk.place(name))
        done += entry.size
    return Fetched(f"github:{source.repository}@{commit}" + (f"/{path}" if path else ""))


def _entries(source: OnGitHub, path: str, commit: str, desk: Desk) -> tuple[list[_Entry], bool]:
    """The files at a path, and whether it is one itself. Programs and pickles in a folder are not looked at."""
    told = _json(_contents(source, path, commit, desk), desk)
    if isinstance(told, dict):
        return [_entry(told, source)], True
    found: list[_Entry] = []
    folders = [told]
    seen = 0
    while folders:
        seen += 1
        for entry in folders.pop():
            kind, name = entry.get("type"), str(entry.get("path"))
            if kind == "dir":
                folders.append(_json(_contents(source, name, commit, desk), desk))
            elif kind == "file" and PurePosixPath(name).suffix.lower() not in REFUSED_SUFFIXES:
                found.append(_entry(entry, source))
        if len(found) > _MAX_FILES or seen > _MAX_FOLDERS:
            raise ModelError(
                f"{path or 'the repository'} holds more than {_MAX_FILES} files: name the model's own folder",
                code="too-many-files",
            )
    return sorted(found, key=lambda entry: entry.path), False


def _fetch_file(
    source: OnGitHub, entry: _Entry, commit: str, desk: Desk, arrived: Path, *, sha256: str | None = None
) -> None:
    asked = _asked(_contents(source, entry.path, commit, desk), _RAW, desk)
    desk.downloads.file(asked, arrived, desk.watch)
    pointed = _pointed(arrived)
    if pointed is not None:
        if not entry.download_url:
            raise _unreached(entry)
        try:
            media = Asked(entry.download_url)
            if media.origin == asked.origin:
                media = replace(media, own=True, secret=asked.secret)
            desk.downloads.file(media, arrived, desk.watch, pointed)
        except IntegrityError as error:
            raise _unreached(entry) from error


def _pointed(path: Path) -> Known | None:
    """What an LFS pointer points to; None for everything else."""
    if path.stat().st_size > _POINTER_BYTES:
        return None
    found = _POINTER.match(path.read_bytes())
    return None if found is None else Known(found[1].decode(), int(found[2]))


def _check(path: Path, sha256: str, entry: _Entry) -> None:
    digest = file_digest(path)
    if digest != sha256:
        path.unlink()
        raise IntegrityError(f"{entry.path} has the SHA-256 {digest}, and {sha256} was announced", sha256=digest)


def _unreached(entry: _Entry) -> ModelError:
    return ModelError(
        f"{entry.path} is kept by Git LFS, and its bytes cannot be had there: publish it as a release's asset, or "
        "upload it",
        code="lfs-pointer",
    )


def _entry(told: dict[str, Any], source: OnGitHub) -> _Entry:
    try:
        path = _PATH.validate_python(told["path"])
        return _Entry(path, int(told.get("size") or 0), str(told.get("download_url") or ""))
    except (KeyError, ValidationError) as error:
        raise _unreadable(source) from error


def _listed(told: Any, name: str, source: OnGitHub) -> list[dict[str, Any]]:
    listed = told.get(name) if isinstance(told, dict) else None
    if not isinstance(listed, list):
        raise _unreadable(source)
    return listed


def _unreadable(source: OnGitHub) -> ModelError:
    return ModelError(
        f"what the API says of {source.repository} cannot be read: is GITHUB_ENDPOINT an API of GitHub?",
        code="source-unreadable",
    )


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "file"


def _contents(source: OnGitHub, path: str, commit: str, desk: Desk) -> str:
    return f"{_root(source, desk)}/contents/{quote(path)}?ref={commit}"


def _root(source: OnGitHub, desk: Desk) -> str:
    return f"{desk.settings.github_endpoint.rstrip('/')}/repos/{source.repository}"


def _json(url: str, desk: Desk) -> Any:
    return desk.downloads.document(_asked(url, _JSON, desk), desk.watch).json()


def _asked(url: str, accept: str, desk: Desk) -> Asked:
    return Asked(url, accept, secret=desk.settings.github_token.get_secret_value(), own=True)
