"""The Python of docs/how-to/openai-clients.md, run as it stands there against another server."""

import re
from typing import Any

from tests.support.clone import ROOT
from tests.support.front_door import Door
from tests.support.tiny_embedder import MODEL

PAGE = (ROOT / "docs" / "how-to" / "openai-clients.md").read_text("utf-8")


def run_page(door: Door, library: str, **more: Any) -> dict[str, Any]:
    """Its names after the block that imports the library. `more` goes behind the key."""
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if f"import {library}" in block)
    code = code.replace("http://127.0.0.1:8000", door.url).replace("all-minilm-l6-v2", MODEL)
    key = 'api_key="none needed"'
    names = dict(more)
    exec(code.replace(key, ", ".join([key, *(f"{name}={name}" for name in more)])), names)
    return names
