"""The compose files, the Dockerfiles, the settings and the commands agree. No engine is needed to see that."""

import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from fleet.settings import COMPOSE_NAMES, Settings
from tests.support.compose import MissingVariable, Project, interpolate, read_env_file, render, seconds
from tests.support.dockerfile import PINNED
from tests.support.env_example import read_entries

ROOT = Path(__file__).resolve().parents[2]
BASE, CPU, GPU = (ROOT / f"docker-compose{kind}.yml" for kind in ("", ".cpu", ".gpu"))
COMBINATIONS = [[BASE], [BASE, CPU], [BASE, GPU], [BASE, CPU, GPU]]
ENVIRONMENT = read_env_file(ROOT / ".env.example")
OURS = ("migrate", "api", "flower", "inference-worker-cpu", "inference-worker-gpu")
ONE_SHOT = ("migrate",)
#: What the servers of others read; each is documented by its image.
SERVER_NAMES = {
    "postgres": {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "POSTGRES_INITDB_ARGS"},
    "redis": {"REDIS_PASSWORD", "REDISCLI_AUTH"},
    "minio": {"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_REGION", "MINIO_BROWSER"},
    "flower": {"FLOWER_BASIC_AUTH"},
}


@pytest.fixture(params=COMBINATIONS, ids=lambda files: "+".join(path.stem for path in files))
def project(request: pytest.FixtureRequest) -> Project:
    return render(request.param, ENVIRONMENT)


@pytest.fixture
def everything() -> Project:
    return render([BASE, CPU, GPU], ENVIRONMENT)


def settings_of(service: dict[str, Any]) -> Settings:
    """The settings that a container of this service starts with."""
    given = (ENVIRONMENT if service.get("env_file") else {}) | service["environment"]
    fields = {name.lower(): value for name, value in given.items() if name.lower() in Settings.model_fields}
    return Settings(_env_file=None, **(fields | {"environment": "development"}))


def test_every_variable_is_in_the_example(project: Project) -> None:
    assert project.variables <= {entry.name for entry in read_entries(ROOT / ".env.example")}


def test_every_name_for_compose_alone_is_used(everything: Project) -> None:
    assert everything.variables >= COMPOSE_NAMES


def test_defaults_in_the_files_are_those_of_the_example() -> None:
    stated = {entry.name: entry.value for entry in read_entries(ROOT / ".env.example") if entry.is_default}
    text = "".join(path.read_text("utf-8") for path in (BASE, CPU, GPU))
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", text):
        assert default.removeprefix("./") == stated[name], name


@pytest.mark.parametrize(
    "name", ["POSTGRES_PASSWORD", "REDIS_PASSWORD", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "FLOWER_BASIC_AUTH"]
)
def test_a_missing_secret_stops_compose_and_says_what_to_do(name: str) -> None:
    without = {key: value for key, value in ENVIRONMENT.items() if key != name}
    with pytest.raises(MissingVariable, match=rf"{name}: copy \.env\.example"):
        render([BASE], without)


def test_no_secret_stands_in_the_files() -> None:
    for path in (BASE, CPU, GPU):
        for name, value in re.findall(r"(\w*(?:PASSWORD|SECRET|AUTH|KEYS)\w*): (.+)", path.read_text("utf-8")):
            assert value == '""' or value.startswith("${"), f"{path.name}: {name}"


def test_every_name_passed_to_a_container_is_known(project: Project) -> None:
    known = {name.upper() for name in Settings.model_fields}
    for name, service in project.services.items():
        allowed = SERVER_NAMES.get(name, set()) | (known if name in OURS else set())
        assert set(service.get("environment", {})) <= allowed, name


def test_containers_of_ours_find_the_servers_by_their_service_names(project: Project) -> None:
    for name in project.services.keys() & set(OURS):
        settings = settings_of(project.services[name])
        redis = urlsplit(settings.redis_url.get_secret_value())
        assert (redis.hostname, redis.port, redis.password) == ("redis", 6379, ENVIRONMENT["REDIS_PASSWORD"])
        if name != "flower":
            assert (settings.postgres_server, settings.minio_endpoint) == ("postgres", "minio:9000")
            assert "inside" in project.services[name]["networks"]


def test_the_server_passwords_are_those_that_ours_use(everything: Project) -> None:
    api = settings_of(everything.services["api"])
    postgres, minio = (everything.services[name]["environment"] for name in ("postgres", "minio"))
    assert postgres["POSTGRES_PASSWORD"] == api.postgres_password.get_secret_value()
    assert (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]) == (api.postgres_user, api.postgres_db)
    assert minio["MINIO_ROOT_PASSWORD"] == api.minio_secret_key.get_secret_value()
    assert (minio["MINIO_ROOT_USER"], minio["MINIO_REGION"]) == (api.minio_access_key, api.minio_region)


def test_the_api_listens_where_it_is_published_and_asked_for_its_health(everything: Project) -> None:
    api = everything.services["api"]
    settings = settings_of(api)
    assert settings.api_host == "0.0.0.0"
    assert settings.tenant_keys
    assert api["ports"] == [f"127.0.0.1:8000:{settings.api_port}"]
    assert f"http://127.0.0.1:{settings.api_port}/readyz" in api["healthcheck"]["test"][-1]


def test_every_port_is_published_on_loopback_unless_the_user_says_otherwise(project: Project) -> None:
    ports = list(chain.from_iterable(service.get("ports", []) for service in project.services.values()))
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    opened = render([BASE], ENVIRONMENT | {"API_PUBLISH": "0.0.0.0:80"})
    assert opened.services["api"]["ports"] == ["0.0.0.0:80:8000"]


def test_databases_are_reached_from_inside_only(everything: Project) -> None:
    assert everything.networks["inside"] == {"internal": True}
    for name in ("postgres", "redis"):
        assert everything.services[name]["networks"] == ["inside"]
        assert "ports" not in everything.services[name]


def test_every_service_is_watched_restarted_and_stopped_in_time(project: Project) -> None:
    for name, service in project.services.items():
        if name in ONE_SHOT:
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert seconds(service["stop_grace_period"]) >= 15, name


@pytest.mark.parametrize("name", ["inference-worker-cpu", "inference-worker-gpu"])
def test_a_worker_drains_before_it_is_killed(everything: Project, name: str) -> None:
    service = everything.services[name]
    assert seconds(service["stop_grace_period"]) > settings_of(service).worker_drain_s + 10


def test_workers_keep_their_pool_and_read_the_models_where_they_are_mounted(everything: Project) -> None:
    for pool, device in (("cpu", "cpu"), ("gpu", "cuda")):
        service = everything.services[f"inference-worker-{pool}"]
        settings = settings_of(service)
        assert (settings.worker_pool, settings.inference_device) == (pool, device)
        assert not settings.tenant_keys
        mounts = {mount["target"]: mount for mount in service["volumes"]}
        assert mounts[str(settings.models_path)]["read_only"] is True
        assert mounts[str(settings.models_path)]["source"] == "./models"
        assert str(settings.worker_scratch) in mounts
        assert str(settings.worker_ready_file) in service["healthcheck"]["test"][1]
    devices = everything.services["inference-worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


def test_what_a_service_waits_for_exists_and_can_say_that_it_is_ready(project: Project) -> None:
    for name, service in project.services.items():
        for other, wait in service.get("depends_on", {}).items():
            awaited = project.services[other]
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in awaited, (name, other)
            if wait["condition"] == "service_completed_successfully":
                assert other in ONE_SHOT


def test_volumes_and_networks_are_declared(project: Project) -> None:
    for name, service in project.services.items():
        named = (mount.split(":")[0] for mount in service.get("volumes", []) if isinstance(mount, str))
        assert set(named) <= project.volumes, name
        assert set(service["networks"]) <= project.networks.keys(), name


def test_images_are_pinned_or_built_here(project: Project) -> None:
    for name, service in project.services.items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        else:
            assert PINNED.fullmatch(service["image"]), service["image"]


@pytest.mark.parametrize("files", COMBINATIONS, ids=lambda files: "+".join(path.stem for path in files))
def test_docker_compose_itself_accepts_the_files(files: list[Path], tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode:
        pytest.skip("docker compose is not installed; the tests above read the files without it")
    for path in (*files, ROOT / ".env.example"):
        shutil.copy(path, tmp_path / path.name.replace(".env.example", ".env"))
    chosen = chain.from_iterable(("-f", path.name) for path in files)
    checked = subprocess.run(
        [docker, "compose", *chosen, "config", "--quiet"], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert checked.returncode == 0, checked.stderr


def test_interpolation_follows_the_rules_of_compose() -> None:
    used: set[str] = set()
    given = {"SET": "value", "EMPTY": ""}
    text = {"a": ["${SET} ${EMPTY:-other} ${MISSING:-}", "$${SET}"], "b": 3}
    assert interpolate(text, given, used) == {"a": ["value other ", "${SET}"], "b": 3}
    assert used == {"SET", "EMPTY", "MISSING"}
    with pytest.raises(MissingVariable, match="set it"):
        interpolate("${EMPTY:?set it}", given, used)
    with pytest.raises(ValueError, match="otherwise"):
        interpolate("$SET", given, used)


def test_the_files_are_plain_yaml_with_no_key_twice() -> None:
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if key.value != "<<"]
        assert len(names) == len(set(names)), node.start_mark
        loader.flatten_mapping(node)
        return dict(yaml.SafeLoader.construct_mapping(loader, node, deep=True))

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for path in (BASE, CPU, GPU):
        assert yaml.load(path.read_text("utf-8"), Loader=Strict)["services"]
