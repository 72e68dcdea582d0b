"""What answers questions about pictures with one loaded model, and makes captions of them."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fleet.contracts import Stage
from fleet.errors import ModelError
from worker.contract import Array, Model, Picture, Progress
from worker.pictures.feed import PictureFeed
from worker.pictures.items import Stages
from worker.vqa.agreement import refuse_strangers
from worker.vqa.asked import Asked, Caption, Questions, asked_of
from worker.vqa.decoding import Decoding, ran
from worker.vqa.forms import Part
from worker.vqa.publisher import Publisher, Search
from worker.vqa.roles import roles_of
from worker.vqa.searching import Said, Way, beamed, greedy
from worker.vqa.settings import VqaParams, VqaSettings
from worker.vqa.words import Vocabulary

Graphs = Mapping[str, Model]
#: Rows of one pass at most, where the author says nothing of batches.
_ROWS = 32
#: Float numbers that the layers of a text graph hold at a time, for each one of what it looks at; besides its cache.
_LAYER_NUMBERS = 8
#: Of a cache: keys and values, as they were and as they come out of a pass.
_CACHE_NUMBERS = 4


class Answerer:
    """Thread-safe. Made once per loaded model: `model.derived(Answerer)`."""

    def __init__(self, model: Model) -> None:
        """Raises ModelError for a model that cannot be used so, with what is wrong."""
        settings: VqaSettings = model.settings
        publisher = Publisher(model)
        self.words = Vocabulary(model, publisher)
        self.roles = roles_of(model.graphs, settings.graphs, self.words.size)
        self.pictures = PictureFeed(self.roles.vision.inputs[Part.PIXELS], publisher.recipe())
        self.search = publisher.search()
        self.positions = publisher.positions
        #: Of what a picture becomes.
        self._tokens, self._width = self._size_of_states(model)
        for speaker in (self.roles.answer, self.roles.caption):
            if speaker is not None:
                refuse_strangers(speaker, model.graphs, self.words.start, self.words.size, self._width)
        self._unused = sorted(model.graphs.keys() - self.roles.used)

    def answer(
        self, picture: Picture, asked: Asked, model: Model, stages: Stages, check: Callable[[], None]
    ) -> dict[str, Any]:
        """{"answer", "kind", …} of one question or caption, {"answers": [{"question", "answer", …}], …} of a list.

        `check` ends the work by raising, before each token. Raises ModelError, and as `model.batched`.
        """
        graphs = model.graphs
        with stages(Stage.PREPARE):
            fed = self.pictures.numbers([self.pictures.preprocess.pixels(picture.array)])
        with stages(Stage.INFER):
            states = self.pictures.runs(graphs[self.roles.vision.name], fed)[self.roles.vision.output.name]
            if isinstance(asked, Caption):
                said = [self._captioned(states, asked, graphs, check)]
            else:
                said = self._answered(states, asked, graphs, check)
        with stages(Stage.FINISH):
            how = {"num_beams": asked.search.num_beams, "search": "beam" if asked.search.num_beams > 1 else "greedy"}
            if isinstance(asked, Caption):
                return {**self._told(said[0]), "kind": "caption", **how}
            answers = [{"question": text, **self._told(one)} for text, one in zip(asked.texts, said, strict=True)]
            return {**(answers[0] if asked.alone else {"answers": answers}), "kind": "answer", **how}

    def asked(self, params: VqaParams) -> Asked:
        """What a request wants. Raises as `asked_of`."""
        search = self.search
        if params.max_new_tokens is not None:
            search = replace(search, max_new_tokens=params.max_new_tokens)
        if params.num_beams is not None:
            search = replace(search, num_beams=params.num_beams)
        return asked_of(params, self.words, self.roles, search, self.positions)

    def trials(self) -> Iterator[Asked]:
        """One of everything that can be asked."""
        if self.roles.answer is not None:
            yield self.asked(VqaParams(question=["what is it?", "is it?"], max_new_tokens=3))
        if self.roles.caption is not None:
            yield self.asked(VqaParams(kind="caption", max_new_tokens=3))

    def run_bytes(self, asked: Asked, model: Model, progress: Progress) -> int:
        """Memory that a picture takes besides itself: what is fed, the vision encoder's run, and the rows decoded."""
        around = self.pictures.run_bytes(model.graphs[self.roles.vision.name], progress)
        beams = asked.search.num_beams
        # As many as `_answered` lets run together.
        texts = 1 if isinstance(asked, Caption) else min(len(asked.texts), max(1, self._most_rows(model) // beams))
        return around + beams * texts * self._row_bytes(asked)

    def told(self) -> Iterator[str]:
        """For who checks a model."""
        yield from self.roles.told()
        if self._unused:
            yield f"not used: {', '.join(self._unused)}"
        yield self.pictures.told()
        beams = f"{self.search.num_beams} beams" if self.search.num_beams > 1 else "greedy"
        yield f"{self.words.size} words, texts of up to {self.positions} tokens; {beams}"
        if self.search.left_out:
            yield f"the publisher also asks for {', '.join(self.search.left_out)}, which is not done"

    def _told(self, said: Said) -> dict[str, Any]:
        if not math.isfinite(said.log_probability):
            raise ModelError("the model answered with numbers that are not finite", code="result-not-finite")
        return {
            "answer": self.words.text(said.ids),
            "confidence": math.exp(min(0.0, said.log_probability)),
            "tokens": said.new,
            "finish_reason": "stop" if said.ended else "length",
        }

    def _captioned(self, states: Array, asked: Caption, graphs: Graphs, check: Callable[[], None]) -> Said:
        assert self.roles.caption is not None  # noqa: S101 (what cannot be made is not asked for)
        given = np.asarray([asked.beginning], np.int64)
        return self._searched(Decoding(self.roles.caption, graphs, states), given, asked.search, check)[0]

    def _answered(self, states: Array, asked: Questions, graphs: Graphs, check: Callable[[], None]) -> list[Said]:
        """Questions of the same length run together: nothing is filled up, so each is answered as if it came alone."""
        roles = self.roles
        assert roles.question is not None  # noqa: S101 (what cannot be answered is not asked)
        assert roles.answer is not None  # noqa: S101
        said: list[Said | None] = [None] * len(asked.ids)
        most = self._most_rows(graphs[roles.question.name])
        for places in asked.alike(max(1, most // asked.search.num_beams)):
            ids = np.asarray([asked.ids[place] for place in places], np.int64)
            feeds = {
                Part.IDS: ids,
                Part.MASK: np.ones_like(ids),
                Part.STATES: np.repeat(states, len(ids), axis=0),
                Part.STATES_MASK: np.ones((len(ids), states.shape[1]), np.int64),
            }
            declared = roles.question.inputs.items()
            fed = {tensor.name: feeds[part].astype(tensor.dtype, copy=False) for part, tensor in declared}
            encoded = ran(graphs[roles.question.name], fed)[roles.question.output.name]
            given = np.full((len(ids), 1), self.words.start, np.int64)
            found = self._searched(Decoding(roles.answer, graphs, encoded), given, asked.search, check)
            for place, one in zip(places, found, strict=True):
                said[place] = one
        return [one for one in said if one is not None]

    def _searched(self, decoding: Decoding, given: Array, search: Search, check: Callable[[], None]) -> list[Said]:
        new_tokens = min(search.new_tokens(given.shape[1]), self.positions - given.shape[1])
        way = Way(given, self.words.stop, new_tokens, check)
        return greedy(decoding, way) if search.num_beams == 1 else beamed(decoding, way, search)

    def _most_rows(self, model: Model) -> int:
        return model.max_batch_size or _ROWS

    def _row_bytes(self, asked: Asked) -> int:
        """Of what one row looks at and says, by its cache and by the layers that compute it, and of its words' numbers.

        A graph gives those of each token that it is fed: without a cache, of the whole row.
        """
        if isinstance(asked, Caption):
            speaker, read, given = self.roles.caption, 0, len(asked.beginning)
        else:
            speaker, read, given = self.roles.answer, max(map(len, asked.ids)), 1
        assert speaker is not None  # noqa: S101 (what cannot be said is not asked for)
        said = min(given + asked.search.new_tokens(given), self.positions)
        cache, fed = (0, said) if speaker.further is None else (_CACHE_NUMBERS * speaker.first.layers, given)
        tokens = self._tokens + read + said
        return 4 * (tokens * self._width * (cache + _LAYER_NUMBERS) + (fed + 4) * self.words.size)

    def _size_of_states(self, model: Model) -> tuple[int, int]:
        """Tokens, and numbers of each. Exported with free sizes, a graph does not say them before it ran."""
        vision = self.roles.vision
        shape = vision.output.shape
        if min(shape[1:]) < 0:
            black = np.zeros((*self.pictures.probe_size, 3), np.uint8)
            outputs = self.pictures.runs(model.graphs[vision.name], self.pictures.numbers([black]))
            shape = outputs[vision.output.name].shape
        return shape[1], shape[2]
