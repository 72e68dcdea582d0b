"""How requests name a model: `name`, `name@alias` or `name@3`."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fleet.errors import NotFound, ValidationFailed

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_ALIAS = r"[A-Za-z][A-Za-z0-9._-]{0,63}"
MAX_VERSION = 2**31 - 1

#: Begins with a letter, so that it is never taken for a version.
Alias = Annotated[str, Field(pattern=rf"^{_ALIAS}$")]
Version = Annotated[int, Field(ge=1, le=MAX_VERSION)]
ModelReference = Annotated[str, Field(pattern=rf"^{_NAME}(@({_ALIAS}|[1-9][0-9]{{0,9}}))?$")]


@dataclass(frozen=True)
class Asked:
    """A model as a request names it; at most one of `version` and `alias` is given."""

    name: str
    version: int | None
    alias: str | None


def asked(reference: str, version: int | None = None) -> Asked:
    """Raises NotFound `model-not-found` for what can be no model's name, ValidationFailed for two versions at once."""
    name, at, which = reference.partition("@")
    if "\0" in reference:
        raise NotFound("a model's name has no NUL character", code="model-not-found")
    if not at:
        return Asked(name, version, None)
    if version is not None and which != str(version):
        raise ValidationFailed(f"{reference!r} names a version already: leave out `version`, {version}")
    if not which.isdecimal() or not which.isascii():
        return Asked(name, None, which)
    if not 1 <= int(which[:11]) <= MAX_VERSION:
        raise NotFound(f"there is no version {which[:11]} of {name!r}", code="model-not-found", model=name)
    return Asked(name, int(which), None)
