"""The table of status codes, and the pointers of faults."""

import pytest

from api.problems import pointer, status_of
from fleet import errors


def every(kind: type[errors.FleetError]) -> list[type[errors.FleetError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in every(child))]


EXPECTED = {
    "FleetError": 500,
    "InputError": 422,
    "MalformedRequest": 400,
    "ValidationFailed": 422,
    "UnsupportedMedia": 415,
    "CorruptInput": 422,
    "GeometryError": 422,
    "InputTooLarge": 413,
    "ForeignObject": 422,
    "UrlRefused": 422,
    "NotFound": 404,
    "Conflict": 409,
    "IdempotencyKeyReused": 422,
    "Unauthorized": 401,
    "ModelError": 500,
    "RunStopped": 500,
    "NoCapableWorker": 503,
    "Busy": 503,
    "LaneFull": 503,
    "TooManyWaiting": 429,
    "DependencyError": 503,
    "IntegrityError": 503,
    "NoAnswer": 503,
}


def test_every_error_of_the_tree_has_its_status() -> None:
    ours = [kind for kind in every(errors.FleetError) if kind.__module__ == errors.__name__]
    assert {kind.__name__: int(status_of(kind("x"))) for kind in ours} == EXPECTED


@pytest.mark.parametrize(
    ("path", "text"),
    [([], "#"), (["inputs", 0, "data"], "#/inputs/0/data"), (["a/b", "c~d"], "#/a~1b/c~0d")],
)
def test_pointers_are_rfc_6901(path: list[str | int], text: str) -> None:
    assert pointer(path) == text
