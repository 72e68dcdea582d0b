"""Parts of Fleet that may not be installed, told in one clear line."""

from collections.abc import Iterator
from contextlib import contextmanager

from cli.exits import CommandFailed, Exit

_OURS = ("fleet", "api", "worker", "cli", "fleet_client")


@contextmanager
def needs(extra: str, purpose: str) -> Iterator[None]:
    """Around a late import: a missing foreign package becomes CommandFailed; a missing module of ours is a bug."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OURS:
            raise
        raise CommandFailed(
            f"{purpose} needs the package {package!r}, which is not installed",
            code="extra-missing",
            exit_code=Exit.LOCAL,
            hint=f'pip install "onnx-fleet[{extra}]"',
        ) from error
