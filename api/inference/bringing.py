"""A model that a request brings along: asked for once, however many requests name it, and waited for.

What makes it the same model is where it comes from. A name whose source has changed gets another version, and each
request runs on the version that its own source became. Only of a model of the caller's own: the newest version is what
everybody gets who says no number.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from api.inference.request import InferenceRequest
from api.inference.tasks import family_of_type, task_named, task_of_type
from api.model_house import ModelHouse
from api.model_requests import GitHubModel, HubModel, TrainedModel
from api.problems import pointer
from fleet.catalogue import Entry
from fleet.contracts import Lane, ModelName
from fleet.errors import Conflict, NoCapableWorker, NotFound, ValidationFailed
from fleet.model_records import HousedVersion
from fleet.model_source import ModelSource, OnGitHub, OnHub, Trained

_LOCAL, _TRAINED, _HUB, _GITHUB = "local", "trained", "huggingface", "github"
_SOURCES = {_LOCAL: _LOCAL, _TRAINED: _TRAINED, _HUB: _HUB, "hub": _HUB, "hf": _HUB, _GITHUB: _GITHUB}
_ON_GITHUB = re.compile(
    r"https://github\.com/(?P<owner>[^/]+)/(?P<name>[^/]+)/"
    r"(?:releases/download/(?P<tag>[^/]+)/(?P<asset>[^/?#]+)|(?:blob|raw|tree)/(?P<ref>[^/]+)/(?P<path>[^?#]+))"
)
_NAME: TypeAdapter[str] = TypeAdapter(ModelName)
_LOOK_EVERY_S = 0.25
#: What a caller is told to wait before he asks again for a model that is still on its way.
_AGAIN_S = 5.0
_TRIES = 5


@dataclass(frozen=True)
class Named:
    """The model that a job is to run on. `version` is None where the reference says it, or nobody does."""

    reference: str
    version: int | None = None
    brought: bool = False


@dataclass(frozen=True)
class _Seen:
    """What a look at the record shows of a name."""

    #: The newest version that comes from where this one is to come from.
    held: HousedVersion | None
    #: The number of a next version.
    free: int
    #: The tenants that brought its versions in; None: a folder of the workers has some.
    owners: set[str | None]


class Bringing:
    """Used by one event loop."""

    def __init__(self, house: ModelHouse) -> None:
        self._house = house
        #: By version: a look at it that those who ask within a moment share.
        self._looks: dict[str, asyncio.Task[Entry]] = {}

    async def named(self, asked: InferenceRequest, tenant: str, patience_s: float) -> Named:
        """Waits up to `patience_s` seconds for a model that is on its way.

        Raises ValidationFailed; NotFound `model-import-failed`; NoCapableWorker `model-importing` when time is over,
        with nothing lost: the import goes on, and the same request finds it done.
        """
        source = _source(asked)
        name = asked.model_id
        if name is None:
            raise _fault("validation-failed", "#/model_id", "a model is needed: say its name as `model_id`")
        if source == _LOCAL:
            return Named(name)
        held = await run_in_threadpool(self._requested, asked, source, name, tenant)
        await self._ready(held, patience_s)
        return Named(held.name, held.version, brought=True)

    def _requested(self, asked: InferenceRequest, source: str, name: str, tenant: str) -> HousedVersion:
        manifest = _manifest(asked)
        if source == _HUB:
            return self._from_hub(name, manifest, tenant)
        _check_name(name)
        wanted: ModelSource
        if source == _GITHUB:
            wanted = _on_github(asked.checkpoint_url)
        else:
            assert asked.checkpoint_url is not None  # noqa: S101 (a trained model without one is a local one)
            classes = asked.class_mapping
            numbered = {int(key): word for key, word in classes.items() if key.isascii() and key.isdecimal()}
            wanted = Trained(checkpoint_url=asked.checkpoint_url, class_mapping=numbered)
        return self._once(name, wanted, manifest, tenant)

    def _from_hub(self, repository: str, manifest: dict[str, Any], tenant: str) -> HousedVersion:
        """Under the repository's own name, or with its owner's before it where that is another model's."""
        try:
            wanted = OnHub(repository=repository)
        except ValidationError:
            message = f"{repository!r} is no repository of the hub: write `org/name`"
            raise _fault("validation-failed", "#/model_id", message) from None
        name, longer = repository.rpartition("/")[2], repository.replace("/", "--")
        seen = self._seen(name, wanted)
        if seen.held is None and seen.free > 1:
            name = longer
        _check_name(name)
        return self._once(name, wanted, manifest, tenant)

    def _once(self, name: str, wanted: ModelSource, manifest: dict[str, Any], tenant: str) -> HousedVersion:
        """Two who ask at the same moment ask for the same number, so that one of them finds what the other did."""
        for _ in range(_TRIES):
            seen = self._seen(name, wanted)
            if seen.held is not None:
                return seen.held
            if seen.owners - {tenant}:
                message = f"the model {name!r} is not yours: say another name, or leave its source out to run it"
                raise _fault("model-name-taken", "#/model_id", message)
            try:
                return self._ask(name, seen.free, wanted, manifest, tenant)
            except Conflict:
                continue
        raise Conflict(f"too many versions of {name!r} are brought in at this moment: send the request again")

    def _ask(
        self, name: str, version: int, wanted: ModelSource, manifest: dict[str, Any], tenant: str
    ) -> HousedVersion:
        more: dict[str, Any] = {"name": name, "version": version, "manifest": manifest}
        intake = self._house.intake
        match wanted:
            case OnHub():
                return intake.hub(HubModel(repository=wanted.repository, **more), tenant)
            case OnGitHub():
                return intake.github(GitHubModel(**wanted.model_dump(exclude={"kind"}), **more), tenant)
            case _:
                assert isinstance(wanted, Trained)  # noqa: S101 (there are three)
                classes = {"checkpoint_url": wanted.checkpoint_url, "class_mapping": wanted.class_mapping}
                return intake.trained(TrainedModel(**classes, **more), tenant)

    def _seen(self, name: str, wanted: ModelSource) -> _Seen:
        """Cards come first: a version that has one by now is among those that are looked at then."""
        carded = {card.version for card in self._house.catalogue.cards(name)}
        versions = self._house.records.versions(name)
        housed = {each.version for each in versions}
        owners: set[str | None] = {each.tenant for each in versions if each.state != "removing"}
        return _Seen(
            held=next((each for each in reversed(versions) if _same(each, wanted)), None),
            free=1 + max(carded | housed, default=0),
            owners=owners | ({None} if carded - housed else set()),
        )

    async def _ready(self, held: HousedVersion, patience_s: float) -> None:
        clock = asyncio.get_running_loop().time
        ends_at = clock() + patience_s
        while True:
            try:
                await asyncio.shield(self._look(held))
                return
            except NotFound as error:
                if error.code != "model-importing":
                    raise
                if clock() >= ends_at:
                    late = NoCapableWorker(f"{error.message}: send the request again", code=error.code, **error.facts)
                    late.retry_after_s = _AGAIN_S
                    raise late from None
            await asyncio.sleep(min(_LOOK_EVERY_S, max(0.0, ends_at - clock())))

    def _look(self, held: HousedVersion) -> asyncio.Task[Entry]:
        """Whoever waits for a model looks often, and many wait for the same one."""
        looking = self._looks.get(held.key)
        if looking is None:
            look = run_in_threadpool(self._house.catalogue.get, held.name, held.version)
            looking = self._looks[held.key] = asyncio.create_task(look)
            asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._looks.pop, held.key, None)
        return looking


def _source(asked: InferenceRequest) -> str:
    said = (asked.model_source or (_TRAINED if asked.checkpoint_url else _LOCAL)).strip().lower()
    source = _SOURCES.get(said)
    if source is None:
        known = ", ".join(_SOURCES)
        message = f"there is no model source {asked.model_source!r}: say one of {known}, or leave `model_source` out"
        raise _fault("model-source-unknown", "#/model_source", message)
    if asked.checkpoint_url is not None and source in (_LOCAL, _HUB):
        message = f"a model whose source is {said!r} has no `checkpoint_url`: leave one of the two out"
        raise _fault("validation-failed", "#/checkpoint_url", message)
    if asked.checkpoint_url is None and source == _GITHUB:
        message = "say which file of GitHub it is: https://github.com/owner/name/blob/main/model.onnx, or a release's"
        raise _fault("validation-failed", "#/checkpoint_url", message)
    # One that was registered before is known by its name.
    return _LOCAL if source == _TRAINED and asked.checkpoint_url is None else source


def _manifest(asked: InferenceRequest) -> dict[str, Any]:
    """What model.yaml would say. Raises ValidationFailed."""
    task = task_named(asked.task) if asked.task is not None else None
    if asked.model_type is not None:
        of_type = task_of_type(asked.model_type)
        if task not in (None, of_type):
            message = f"a network called {asked.model_type!r} does {of_type!r}, not {task!r}"
            raise _fault("task-mismatch", "#/model_type", message)
        task = of_type
    if task is None:
        message = "nothing says what the model is to do: say its `task` or its `model_type`"
        raise _fault("validation-failed", "#/task", message)
    manifest: dict[str, Any] = {"task": task, "lane": Lane.INTERACTIVE.value}
    if asked.model_type is not None and (family := family_of_type(asked.model_type)) is not None:
        manifest["pipeline"] = {"family": family}
    return manifest


def _on_github(url: str | None) -> OnGitHub:
    found = _ON_GITHUB.fullmatch(url or "")
    try:
        if found is not None:
            repository = f"{found['owner']}/{found['name']}"
            return OnGitHub(
                repository=repository, ref=found["tag"] or found["ref"], path=found["path"], asset=found["asset"]
            )
    except ValidationError as error:
        where = pointer([str(error.errors()[0]["loc"][0])])
        raise _fault("validation-failed", "#/checkpoint_url", f"{url!r}: {where} is not one of GitHub") from None
    message = f"{url!r} is no file of GitHub: write https://github.com/owner/name/blob/main/model.onnx, or a release's"
    raise _fault("validation-failed", "#/checkpoint_url", message)


def _same(held: HousedVersion, wanted: ModelSource) -> bool:
    """Whether that is where the version comes from; what its classes are called makes no other model of it."""
    if held.state == "removing" or type(held.source) is not type(wanted):
        return False
    left_out = {"class_mapping", "sha256"}
    return held.source.model_dump(exclude=left_out) == wanted.model_dump(exclude=left_out)


def _check_name(name: str) -> None:
    try:
        _NAME.validate_python(name)
    except ValidationError:
        message = f"{name!r} cannot be a model's name: letters, digits, `.`, `_` and `-`, at most 128"
        raise _fault("validation-failed", "#/model_id", message) from None


def _fault(code: str, where: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, [{"detail": message, "pointer": where}], code=code)
