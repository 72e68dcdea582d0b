"""How many inputs a model takes: told before anything is stored."""

import pytest

from api.inputs import check_count
from fleet.card import Card
from fleet.contracts import MediaKind, ResultKind
from fleet.errors import ValidationFailed


def card(accepts: MediaKind, *params: str) -> Card:
    return Card(
        name="any",
        version=1,
        task="any",
        accepts=accepts,
        returns=ResultKind.JSON,
        params_schema={"type": "object", "properties": {name: {} for name in params}},
        size_bytes=0,
        sha256="0" * 64,
    )


@pytest.mark.parametrize(
    ("accepts", "task", "right"),
    [
        (MediaKind.NONE, "any", {0}),
        (MediaKind.VOLUME, "any", {1}),
        (MediaKind.TEXT, "any", {0, 1, 2}),
        (MediaKind.TENSORS, "tensors", {1}),
        (MediaKind.TEXT, "tensors", {1}),
    ],
)
def test_a_model_takes_as_many_inputs_as_its_media_say(accepts: MediaKind, task: str, right: set[int]) -> None:
    for count in range(3):
        if count in right:
            check_count(count, card(accepts), task)
        else:
            with pytest.raises(ValidationFailed):
                check_count(count, card(accepts), task)


def test_a_model_of_pictures_that_takes_texts_can_do_without_pictures() -> None:
    check_count(0, card(MediaKind.IMAGE, "texts"), "any")
    with pytest.raises(ValidationFailed):
        check_count(0, card(MediaKind.IMAGE, "top_k"), "any")
