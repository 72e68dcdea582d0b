"""The catalogue as the hot path needs it: cards with their params validators, kept for a moment.

Only what was found is kept, so that a new model is known at once; what changes is known after `KEEP_S`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry

from api.problems import pointer
from fleet.card import Card
from fleet.catalogue import Catalogue
from fleet.errors import NoCapableWorker, ValidationFailed
from fleet.routing import Member

#: Seconds. A job may be routed to a pool whose last worker died as long ago.
KEEP_S = 1.5
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class CheckedCard:
    """A card, and what checks a request's params against it."""

    card: Card
    validator: Draft202012Validator
    #: Nobody is to serve it, until it is loaded again.
    unloaded: bool = False

    def check_served(self) -> None:
        """Raises NoCapableWorker `model-unloaded`."""
        if self.unloaded:
            card = self.card
            raise NoCapableWorker(
                f"version {card.version} of the model {card.name!r} was unloaded: POST "
                f"/api/v1/models/{card.name}/versions/{card.version}/load to serve it again, or name another version",
                code="model-unloaded",
                model=card.name,
                version=card.version,
            )

    def check_params(self, params: dict[str, Any]) -> None:
        """Raises ValidationFailed that lists every fault."""
        faults = [
            {"detail": _explained(fault), "pointer": pointer(["params", *fault.absolute_path])}
            for found in self.validator.iter_errors(params)
            for fault in _meant(found)
        ]
        if faults:
            shown = "; ".join(f"{fault['pointer']}: {fault['detail']}" for fault in faults[:3])
            raise ValidationFailed(f"the params do not fit the model {self.card.name!r}: {shown}", faults)


class Cards:
    """Thread-safe: at worst two threads ask the same at once."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._cards: dict[tuple[str, int | None], tuple[float, CheckedCard]] = {}
        self._workers: dict[None, tuple[float, tuple[Member, ...]]] = {}

    def get(self, reference: str, version: int | None) -> CheckedCard:
        """See `Catalogue.get`."""
        return _kept(self._cards, (reference, version), lambda: self._checked(reference, version))

    def members(self) -> tuple[Member, ...]:
        """The workers that are alive and take jobs."""
        return _kept(self._workers, None, self._alive)

    def _checked(self, reference: str, version: int | None) -> CheckedCard:
        entry = self._catalogue.get(reference, version)
        card = entry.card
        # The empty registry: a schema may refer to its own parts and to nothing that would be fetched.
        registry: Registry[Any] = Registry()
        return CheckedCard(card, Draft202012Validator(card.params_schema, registry=registry), entry.unloaded)

    def _alive(self) -> tuple[Member, ...]:
        return tuple(worker.member() for worker in self._catalogue.workers() if not worker.word.draining)


Key = TypeVar("Key")


def _kept(store: dict[Key, tuple[float, Kept]], key: Key, ask: Callable[[], Kept]) -> Kept:
    found = store.get(key)
    if found is not None and time.monotonic() - found[0] < KEEP_S:
        return found[1]
    asked_at = time.monotonic()
    value = ask()
    store[key] = asked_at, value
    return value


def _meant(fault: ValidationError) -> list[ValidationError]:
    """Of several choices the faults of the one whose type was given, or the list of what may be given."""
    inner = fault.context or [] if fault.validator == "anyOf" else []
    for place in dict.fromkeys(one.schema_path[0] for one in inner):
        choice = [one for one in inner if one.schema_path[0] == place]
        if not any(one.validator in ("type", "const", "enum") and not one.path for one in choice):
            return [deeper for one in choice for deeper in _meant(one)]
    return [one for one in inner if one.validator == "enum" and not one.path] or [fault]


def _explained(fault: ValidationError) -> str:
    """What is wrong and what is allowed, without repeating a long value."""
    if (
        fault.validator == "additionalProperties"
        and isinstance(fault.schema, dict)
        and isinstance(fault.instance, dict)
    ):
        known = sorted(fault.schema.get("properties", {}))
        unknown = sorted(set(fault.instance) - set(known))
        return f"unknown: {', '.join(map(repr, unknown))[:200]}; known are: {', '.join(known) or 'none'}"
    value = repr(fault.instance)
    message = fault.message.replace(value, value[:80] + "…") if len(value) > 80 else fault.message
    return message[:500]
