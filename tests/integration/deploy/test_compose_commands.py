"""The commands that the compose file gives to Redis and Flower, run for real, without containers."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from cli.stack.binaries import redis_server
from cli.stack.ports import free_port
from tests.support.clone import ROOT
from tests.support.compose import read_env_file, render
from tests.support.waiting import eventually

SERVICES = render([ROOT / "docker-compose.yml"], read_env_file(ROOT / ".env.example")).services
PASSWORD = "between-these-walls"


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The compose file's shell command, with our server program under the name `redis-server`."""
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    (folder / "redis-server").symlink_to(redis_server())
    shell, flag, script = SERVICES["redis"]["command"]
    assert "dir /data\n" in script
    script = script.replace("dir /data\n", f"dir {folder}\nport {port}\nbind 127.0.0.1\n")
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "REDIS_PASSWORD": PASSWORD}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([shell, flag, script], env=environment, stdout=log, stderr=subprocess.STDOUT) as server,
    ):
        try:
            eventually(lambda: connected(port).ping(), errors=(redis.ConnectionError, redis.BusyLoadingError))
            yield port
        finally:
            server.terminate()


def connected(port: int, password: str | None = PASSWORD) -> redis.Redis:
    return redis.Redis(port=port, password=password)


def test_redis_asks_for_the_password(redis_port: int) -> None:
    with connected(redis_port, None) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_redis_keeps_a_log_and_refuses_rather_than_forgets(redis_port: int) -> None:
    with connected(redis_port) as client:
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}
        assert client.config_get(*wanted) == wanted


def test_the_password_of_redis_is_in_no_argument_list(redis_port: int) -> None:
    with connected(redis_port) as client:
        arguments = psutil.Process(client.info("server")["process_id"]).cmdline()
    assert "redis-server" in arguments[0]
    assert PASSWORD not in " ".join(arguments)


def test_flower_asks_for_a_password_and_knows_the_depth_of_our_queues(redis_port: int, tmp_path: Path) -> None:
    port = free_port()
    program, *arguments = SERVICES["flower"]["command"]
    arguments = [f"--port={port}" if word.startswith("--port=") else word for word in arguments]
    environment = os.environ | {
        "REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:{redis_port}/0",
        "FLOWER_BASIC_AUTH": "somebody:secret",
        "FLOWER_ADDRESS": "127.0.0.1",
    }
    with connected(redis_port) as client:
        client.lpush("cpu.bulk.normal", "1", "2", "3")
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", program, *arguments], env=environment, stdout=log, stderr=log, cwd=ROOT
        ) as flower,
    ):
        try:
            eventually(lambda: answer(port, "/healthcheck")[0] == 200, errors=(OSError,))
            assert answer(port, "/api/queues/length")[0] == 401
            assert answer(port, "/api/queues/length", "somebody:wrong")[0] == 401
            status, body = answer(port, "/api/queues/length", "somebody:secret")
            depths = {queue["name"]: queue["messages"] for queue in json.loads(body)["active_queues"]}
            assert status == 200
            assert depths["cpu.bulk.normal"] == 3
            assert answer(port, "/api/worker/shutdown/nobody", "somebody:secret", method="POST")[0] == 403
        finally:
            flower.terminate()


def answer(port: int, path: str, credentials: str | None = None, method: str = "GET") -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    if credentials:
        request.add_header("Authorization", f"Basic {b64encode(credentials.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
