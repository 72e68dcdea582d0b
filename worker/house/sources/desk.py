"""What a fetcher works with, and what it brings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet.addresses import Reach
from fleet.download import Asked, Downloads, Watch
from fleet.model_settings import ModelSettings
from fleet.objects import ObjectStore
from fleet.outward import Outward, trusting
from fleet.partial import Known
from fleet.settings import Settings
from worker.house.unpack import unpack, unpack_members

#: Every address there is: for servers that the operator named.
_EVERYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True)
class Fetched:
    """What came. `note` says from where exactly, in words that may be shown to everybody."""

    note: str
    #: The graph among the files, or all of a version that has several, where the source says which.
    graphs: Sequence[str] = ()
    labels: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Desk:
    """Of one import: the files are to lie in `folder`, and what is on its way lies in `incoming`."""

    downloads: Downloads
    objects: ObjectStore | None
    settings: ModelSettings
    folder: Path
    incoming: Path
    watch: Watch
    #: The files of external data that a graph names, relative to its folder.
    references: Callable[[Path], list[str]] = lambda graph: []
    #: Unpacks an archive into a folder, up to so many bytes; whether it is one.
    unpack: Callable[[Path, Path, int], bool] = unpack
    #: The same for some of its members, each to its place.
    unpack_members: Callable[[Path, dict[str, str], Path, int], object] = unpack_members

    def place(self, path: str) -> Path:
        """Where the file of that path belongs; its folder exists."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def download(self, asked: Asked, path: str, known: Known | None = None) -> Known:
        """One file to its place, through the guarded way out."""
        return self.downloads.file(asked, self.place(path), self.watch, known)

    def bring(self, asked: Asked, name: str, sha256: str | None) -> Known:
        """One file, unpacked where it is an archive."""
        arrived = self.incoming / "file"
        known = self.downloads.file(asked, arrived, self.watch, Known(sha256))
        self.settle(arrived, name)
        return known

    def settle(self, arrived: Path, name: str) -> None:
        """Moves a file to its place; an archive is unpacked there instead."""
        if not self.unpack(arrived, self.folder, self.downloads.max_bytes):
            arrived.replace(self.place(name))
        arrived.unlink(missing_ok=True)

    def after(self, done: int, total: int | None) -> "Desk":
        """For a file that comes after `done` bytes of `total`."""
        watch = self.watch
        told = replace(watch, tell=lambda bytes_done, _: watch.tell(done + bytes_done, total))
        return replace(self, watch=told)


def downloads_of(settings: Settings) -> Downloads:
    """The guarded way out as the settings have it."""
    from ipaddress import ip_network

    tls = trusting(settings.outward_ca_file)
    everywhere = Reach([ip_network(block) for block in _EVERYWHERE])
    return Downloads(
        Outward(Reach(settings.outward_allow_networks), tls=tls),
        Outward(everywhere, allow_http=True, tls=tls),
        max_bytes=settings.model_max_bytes,
    )
