"""Triton's model repository: which models there are, and the wish to have one loaded, or gone.

Loading and unloading are wishes in the record that every worker follows, those that are away when they are back. The
answer waits for the first worker that has done it.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from reprlib import repr as shown
from typing import Any

import orjson
from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from api.kserve.body import received_json
from api.kserve.envelope import wrong
from api.kserve.errors import refusal
from api.kserve.serving import Serving, Wish
from fleet.catalogue import ModelState
from fleet.model_records import Desired
from fleet.plain import check_plain

#: Between two looks at what the workers say.
_LOOK_EVERY_S = 0.2
#: A worker that is busy to unload keeps nobody longer: new requests are refused from the start.
_UNLOAD_S = 30.0


async def index_filter(request: Request) -> bool:
    """Whether only ready ones are wanted."""
    said = await received_json(request)
    ready = said.get("ready", False)
    if not isinstance(ready, bool):
        raise wrong(f"`ready` must be true or false, not {shown(ready)}")
    return ready


def index(serving: Serving, only_ready: bool) -> list[dict[str, str]]:
    entries = [entry for entry in serving.index() if not only_ready or entry.standing.state == "READY"]
    return [
        {
            "name": entry.name,
            "version": str(entry.version),
            "state": entry.standing.state,
            **({"reason": entry.standing.reason} if entry.standing.reason else {}),
        }
        for entry in entries
    ]


async def load(request: Request, serving: Serving, model: str, wait_s: float) -> Response:
    """Raises NotFound, ValidationFailed."""
    parameters = _parameters(await received_json(request))
    version, config = _version(parameters), _config(parameters)
    _check_known(parameters, {"version", "config"})
    wishes = await run_in_threadpool(_wish, serving, model, version, config)
    ends_at = asyncio.get_running_loop().time() + wait_s
    # Each is looked after, whatever becomes of the others.
    outcomes = [await _outcome(serving, wish, ends_at) for wish in wishes]
    failed = [outcome for outcome in outcomes if outcome is not None]
    if not failed:
        return Response(status_code=200)
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "; ".join(failed))


async def unload(request: Request, serving: Serving, model: str, wait_s: float) -> Response:
    """Running requests end as they would have. Raises NotFound, ValidationFailed."""
    parameters = _parameters(await received_json(request))
    version = _version(parameters)
    # Models that a model is made of: there are none, so nothing hangs on the answer.
    _check_known(parameters, {"version", "unload_dependents"})
    wishes = await run_in_threadpool(_unwish, serving, model, version)
    clock = asyncio.get_running_loop().time
    ends_at = clock() + min(wait_s, _UNLOAD_S)
    for wish in wishes:
        while clock() < ends_at:
            if not await run_in_threadpool(serving.holders, wish.key):
                break
            await asyncio.sleep(_LOOK_EVERY_S)
    return Response(status_code=200)


def _wish(serving: Serving, model: str, version: str | None, config: dict[str, Any] | None) -> list[Wish]:
    cards = serving.versions(model, version)
    if config is not None and config.get("name", cards[0].name) != cards[0].name:
        raise wrong(f"`config` is of the model {shown(config['name'])}, and {cards[0].name!r} is to be loaded")
    return [serving.load(card, config) for card in cards]


def _unwish(serving: Serving, model: str, version: str | None) -> list[Desired]:
    cards = serving.versions(model, version)
    return [serving.records.desire(card.name, card.version, "unloaded") for card in cards]


async def _outcome(serving: Serving, wish: Wish, ends_at: float) -> str | None:
    """None when a worker has it; else why not."""
    desired = wish.desired
    while True:
        words = await run_in_threadpool(serving.words, wish)
        told = [word for word in words.values() if word is not None]
        # With a reason the old one serves on, in the place of one that could not be loaded.
        if any(word.state == "READY" and not word.reason for word in told):
            return None
        failed = len(told) == len(words) > 0 and all(word.state in ("READY", "UNAVAILABLE") for word in told)
        if failed and desired.config is not None:
            # A worker that starts later is not to go by it.
            await run_in_threadpool(serving.take_back, wish)
        if failed or not words or asyncio.get_running_loop().time() >= ends_at:
            return f"failed to load {desired.key!r}: {_reasons(words)}"
        await asyncio.sleep(_LOOK_EVERY_S)


def _reasons(words: Mapping[str, ModelState | None]) -> str:
    if not words:
        return "no live worker can serve it; the first one that can will load it"
    told = (
        f"{name}: {'no answer yet' if word is None else f'{word.state} {word.reason}'.strip()}"
        for name, word in sorted(words.items())
    )
    return "; ".join(told)


def _parameters(said: Mapping[str, object]) -> dict[str, object]:
    parameters = said.get("parameters", {})
    if not isinstance(parameters, dict):
        raise wrong("`parameters` must be an object")
    return parameters


def _version(parameters: Mapping[str, object]) -> str | None:
    version = parameters.get("version")
    if version is not None and (isinstance(version, bool) or not isinstance(version, int | str)):
        raise wrong(f"parameter 'version' must be a number, not {shown(version)}")
    return None if version is None else str(version)


def _config(parameters: Mapping[str, object]) -> dict[str, Any] | None:
    text = parameters.get("config")
    if text is None:
        return None
    if not isinstance(text, str):
        raise wrong("parameter 'config' must be a string that holds JSON, not the JSON itself")
    try:
        config = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise wrong(f"parameter 'config' is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise wrong("parameter 'config' must hold a JSON object")
    try:
        check_plain(config)
    except ValueError as error:
        raise wrong(f"parameter 'config': {error}") from error
    return config


def _check_known(parameters: Mapping[str, object], known: set[str]) -> None:
    for name in parameters:
        if name.startswith("file:"):
            raise wrong(
                f"parameter {name[:128]!r}: a model's files cannot come with `load`: bring them in as a version, "
                "POST /api/v1/models/upload"
            )
        if name not in known:
            raise wrong(f"parameter {name[:128]!r} is not known here; known are: {', '.join(sorted(known))}")
