"""The command as a whole: its table, its help, what it imports, which server it speaks to."""

import subprocess
import sys
from pathlib import Path

import pytest

from cli.connection import FALLBACK_URL, resolve
from cli.exits import MEANINGS, Exit
from cli.main import COMMANDS
from tests.support.protocol_server import ProtocolServer
from tests.unit.cli.conftest import Fleet

HEAVY = {"onnxruntime", "SimpleITK", "numpy", "scipy", "celery", "kombu", "fastapi", "uvicorn", "minio", "psycopg"}


def imported_by(*arguments: str) -> set[str]:
    """The modules that `fleet ...` has imported when it ends."""
    code = "import sys; from cli.main import run; run(sys.argv[1:]); print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["jobs", "list", "--url", "http://127.0.0.1:1"], ["submit", "--help"], ["version"]]
)
def test_quick_commands_import_nothing_heavy(arguments: list[str]) -> None:
    modules = imported_by(*arguments)
    assert "cli.main" in modules
    assert not modules & HEAVY


def test_listing_jobs_loads_nothing_of_the_servers_commands() -> None:
    modules = imported_by("jobs", "list", "--url", "http://127.0.0.1:1")
    assert {"cli.commands.jobs", "fleet_client"} <= modules
    assert not {name for name in modules if name.startswith(("api", "worker", "cli.stack"))}
    assert "cli.commands.demo" not in modules


def test_help_lists_every_command_and_every_exit_code(fleet: Fleet) -> None:
    said = fleet("--help")
    assert said.code == 0
    words = said.out.split()
    assert set(COMMANDS) <= set(words)
    flat = " ".join(words)
    for exit_code, meaning in MEANINGS.items():
        assert f"{exit_code.value} {meaning}" in flat


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_exists_and_has_help(fleet: Fleet, name: str) -> None:
    said = fleet(name, "--help")
    assert said.code == 0
    assert f"fleet {name}" in said.out


def test_every_exit_code_is_documented() -> None:
    assert set(MEANINGS) == set(Exit)
    page = (Path(__file__).parents[3] / "docs" / "reference" / "cli.md").read_text("utf-8")
    for exit_code in Exit:
        assert f"| {exit_code.value} | {MEANINGS[exit_code]}" in page


def test_a_misspelt_command_is_told_its_neighbour(fleet: Fleet) -> None:
    said = fleet("job", "list")
    assert said.code == 2
    assert "Did you mean 'jobs'?" in said.err


def test_no_command_shows_the_help(fleet: Fleet) -> None:
    said = fleet()
    assert said.code == 2
    assert "Usage: fleet" in said.out + said.err


def test_version_is_that_of_the_distributions(fleet: Fleet) -> None:
    versions = fleet("version", "--json").json
    assert set(versions) == {"fleet", "client", "python"}
    assert fleet("version").out.splitlines()[0] == f"fleet {versions['fleet']}"


def test_models_are_listed_and_shown(fleet: Fleet, server: ProtocolServer) -> None:
    schema = {"properties": {"format": {"enum": ["nifti", "nrrd"], "default": "nifti", "description": "of the mask"}}}
    server.models = [
        {"name": "brain-extraction", "version": 1, "task": "segmentation", "params_schema": schema, "ready_workers": 2}
    ]
    assert "brain-extraction" in fleet("models", "list").out
    assert fleet("models", "list", "--json").json[0]["ready_workers"] == 2
    shown = fleet("models", "show", "brain-extraction")
    assert "nifti | nrrd" in shown.out
    assert "of the mask" in shown.out
    missing = fleet("models", "show", "other")
    assert missing.code == 3
    assert "fleet models list" in missing.err


def test_checking_a_model_that_is_nowhere_is_3(fleet: Fleet) -> None:
    assert fleet("models", "check", "no-such-model").code == 3


def test_checking_a_folder_that_is_no_model_is_1(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "model.onnx").write_bytes(b"this is no graph")
    said = fleet("models", "check", tmp_path / "broken", "--json")
    assert said.code == 1
    assert said.json["faults"]


def test_checking_the_example_model_shows_its_tensors_and_finds_nothing_wrong(fleet: Fleet) -> None:
    folder = Path(__file__).parents[3] / "models" / "brain-extraction"
    said = fleet("models", "check", folder)
    assert said.code == 0
    assert "  input   image FP32 [-1, 1, -1, -1, -1]\n" in said.out
    assert said.out.endswith(f"{folder} can be served\n")


def test_a_missing_extra_is_told_in_one_line(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in [name for name in sys.modules if name.startswith("worker")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = fleet("models", "check", tmp_path)
    assert said.code == 9
    assert "onnx-fleet[worker]" in said.err
    assert "Traceback" not in said.err


def test_an_unreachable_database_is_5(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://fleet:secret-word@127.0.0.1:1/fleet")
    said = fleet("migrate", "--check")
    assert said.code == 5
    assert "secret-word" not in said.err


@pytest.fixture
def no_local_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("FLEET_URL", raising=False)
    monkeypatch.delenv("FLEET_API_KEY", raising=False)
    return tmp_path / "nothing"


def test_the_option_wins_over_the_environment(no_local_stack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_URL", "http://named:1")
    monkeypatch.setenv("FLEET_API_KEY", "key")
    assert resolve(None, no_local_stack) == ("http://named:1", "key")
    assert resolve("http://option:2", no_local_stack) == ("http://option:2", "key")


def test_without_anything_the_usual_address_is_tried(no_local_stack: Path) -> None:
    assert resolve(None, no_local_stack) == (FALLBACK_URL, None)
