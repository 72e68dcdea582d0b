"""Every error code that the sources raise is explained in docs/reference/errors.md."""

import re

import pytest

from tests.support.clone import ROOT, package_modules

#: `code="..."` at a raise, `code = "..."` and `code: str = "..."` in a class.
CODE = re.compile(r'\bcode(?:: str)?\s*=\s*"([a-z0-9]+(?:-[a-z0-9]+)*)"')
PAGE = (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8")
USED = {code: name for name, text in package_modules().items() for code in CODE.findall(text)}


def test_codes_were_found() -> None:
    assert {"validation-failed", "job-not-found", "truncated-gzip", "connection-failed"} <= USED.keys()


@pytest.mark.parametrize("code", sorted(USED))
def test_every_code_is_explained(code: str) -> None:
    assert f"`{code}`" in PAGE, USED[code]
