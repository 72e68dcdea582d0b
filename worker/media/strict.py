"""Results that have a form in JSON."""

import json
from typing import Any

from fleet.errors import ModelError


def strict(outcome: dict[str, Any]) -> dict[str, Any]:
    """Numbers that are not finite have no form in JSON: better no result than one that cannot be read."""
    try:
        json.dumps(outcome, allow_nan=False)
    except ValueError as error:
        raise ModelError("the model answered with numbers that are not finite", code="result-not-finite") from error
    return outcome
