"""Files that came through the front door: they lie in the object store."""

from fleet.model_source import Uploaded
from worker.house.sources.desk import Desk, Fetched


def fetch_upload(source: Uploaded, desk: Desk) -> Fetched:
    """Raises IntegrityError when an object is not what was announced, NotFound when it is gone."""
    assert desk.objects is not None  # noqa: S101 (imports have one; only a single folder's weights come without)
    total, done = sum(file.object.size for file in source.files), 0
    for file in source.files:
        arrived = desk.incoming / "file"
        begun = done

        def tell(count: int, begun: int = begun) -> None:
            desk.watch.check()
            desk.watch.tell(begun + count, total)

        desk.objects.fetch(file.object, arrived, tell)
        if len(source.files) == 1:
            desk.settle(arrived, file.path)
        else:
            arrived.replace(desk.place(file.path))
        done += file.object.size
    names = ", ".join(file.path for file in source.files[:8])
    return Fetched(f"upload of {names}" + (", ..." if len(source.files) > 8 else ""))
