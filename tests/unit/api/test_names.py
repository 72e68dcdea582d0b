"""File names of callers, made safe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from api.names import clean_name
from fleet.contracts import FileName
from fleet.objects import content_disposition


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("head.nii.gz", "head.nii.gz"),
        ("/data/a/head.nii.gz", "head.nii.gz"),
        ("C:\\a\\head.nii.gz", "head.nii.gz"),
        ("..", "file"),
        ("", "file"),
        ("dir/", "file"),
        ("a\x00\x1f\x7fb", "ab"),
        ("Ro\u0308ntgen.dcm", "Röntgen.dcm"),
        (".hidden", ".hidden"),
        ("x" * 300 + ".nii.gz", "x" * 248 + ".nii.gz"),
        ("ä" * 300 + ".nii.gz", "ä" * 124 + ".nii.gz"),
        ("x." + "y" * 300, "x." + "y" * 253),
    ],
)
def test_a_name_is_kept_readable_and_made_safe(given_name: str, kept: str) -> None:
    assert clean_name(given_name) == kept


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=600))
def test_every_name_becomes_one_that_the_contract_takes(text: str) -> None:
    name = clean_name(text)
    TypeAdapter(FileName).validate_python(name)
    assert 1 <= len(name.encode()) <= 255
    assert name not in (".", "..")
    assert clean_name(name) == name


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100).map(clean_name))
def test_every_name_fits_into_a_header(name: str) -> None:
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
