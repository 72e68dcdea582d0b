"""Versions that were made here from another one: what their `report.json` says of where they come from."""

import json
from pathlib import Path
from typing import Any

#: Beside the graph of such a version (see worker/precision/).
REPORT_NAME = "report.json"


def origin_of(folder: Path, graph_sha256: str) -> str:
    """The SHA-256 of the graph that its author published: the version's own one, unless it was made from another."""
    report = _report(folder)
    if report.get("after", {}).get("graph_sha256") != graph_sha256:
        return graph_sha256
    return str(report.get("origin_sha256", graph_sha256))


def _report(folder: Path) -> dict[str, Any]:
    try:
        report = json.loads((folder / REPORT_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) and isinstance(report.get("after"), dict) else {}
