"""`fleet version`."""

import platform
from importlib.metadata import version as distribution_version

import typer

from cli.output import JsonOption, print_json


def version(as_json: JsonOption = False) -> None:
    """Print the versions of Fleet, its client and Python."""
    versions = {
        "fleet": distribution_version("onnx-fleet"),
        "client": distribution_version("onnx-fleet-client"),
        "python": platform.python_version(),
    }
    if as_json:
        print_json(versions)
    else:
        for name, number in versions.items():
            typer.echo(f"{name} {number}")
