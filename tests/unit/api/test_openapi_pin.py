"""What outsiders see of the API is written down: a change of it is a decision, made in `openapi.json` beside this file.

To accept one, print `outline(document())` into that file.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from fleet.settings import Settings

PINNED = Path(__file__).with_name("openapi.json")


def document() -> dict[str, Any]:
    app = create_app(Settings(_env_file=None))
    document = app.openapi()
    app.state.services.broker.close()
    return document


def outline(document: dict[str, Any]) -> dict[str, Any]:
    """Operations with their parameters and status codes, and every schema with its fields."""
    operations = {
        f"{method.upper()} {path}": {
            "parameters": sorted(f"{p['in']} {p['name']}" for p in operation.get("parameters", [])),
            "statuses": sorted(operation["responses"]),
            "guarded": "security" in operation,
        }
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    schemas = {
        name: sorted(schema.get("properties", schema.get("enum", [])))
        for name, schema in document["components"]["schemas"].items()
    }
    return {"operations": operations, "schemas": schemas}


def test_the_surface_is_the_one_that_was_decided() -> None:
    assert outline(document()) == json.loads(PINNED.read_text("utf-8"))


def test_every_error_is_documented_as_problem_details() -> None:
    for methods in document()["paths"].values():
        for path, operation in methods.items():
            for status, response in operation["responses"].items():
                if status[0] in "45" and "health" not in operation["tags"]:
                    assert list(response["content"]) == ["application/problem+json"], (path, status)


def test_every_operation_is_described() -> None:
    operations = [operation for methods in document()["paths"].values() for operation in methods.values()]
    assert operations
    assert not [operation["operationId"] for operation in operations if not operation.get("description")]


@pytest.mark.parametrize("module", ["api.app", "api.__main__"])
def test_the_front_door_brings_in_no_arrays_no_models_and_no_celery(module: str) -> None:
    heavy = ["numpy", "onnxruntime", "SimpleITK", "scipy", "PIL", "celery", "kombu"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
