"""Questions about pictures, for litserve_server.py: four graphs of BLIP around a greedy search, nothing of ours.

`POST /predict {"data": base64, "question": text}` -> {"answer": text}. The version's folder has the graphs and what its
publisher says beside them. Each worker has a session for each graph; keys and values go from one pass to the next as
the arrays they came out as, which is quicker here than ORT values are.
"""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer


class Questions(litserve.LitAPI):  # type: ignore[misc]  # the library is not here
    def __init__(self, folder: Path, threads: int) -> None:
        super().__init__()
        self.folder, self.threads = folder, threads

    def setup(self, device: str) -> None:
        self.vision, self.text = self._session("vision_encoder"), self._session("text_encoder")
        self.first, self.further = self._session("text_decoder"), self._session("text_decoder_with_past")
        #: What goes into the next pass, in the order in which it comes out behind the logits.
        self.begun, self.grown = _fed_again(self.first), _fed_again(self.further)
        self.tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        words, search = self._said("config")["text_config"], self._said("generation_config")
        self.start, self.stop = search["decoder_start_token_id"], words["sep_token_id"]
        #: The token that every answer begins with counts.
        self.most = search["max_length"] - 1
        recipe = self._said("preprocessor_config")
        self.size, self.filter = (recipe["size"]["width"], recipe["size"]["height"]), recipe["resample"]
        mean, std = np.asarray(recipe["image_mean"]), np.asarray(recipe["image_std"])
        # Both steps of it in one: a factor and a summand for each colour.
        self.factor = (recipe["rescale_factor"] / std).astype(np.float32)[:, None, None]
        self.summand = (-mean / std).astype(np.float32)[:, None, None]

    def decode_request(self, request: dict[str, Any]) -> tuple[Any, Any]:
        picture = Image.open(io.BytesIO(base64.b64decode(request["data"]))).convert("RGB")
        small = np.asarray(picture.resize(self.size, self.filter)).transpose(2, 0, 1)
        ids = np.asarray([self.tokenizer.encode(request["question"]).ids], np.int64)
        return (small * self.factor + self.summand)[None], ids

    def predict(self, asked: tuple[Any, Any]) -> list[int]:
        pixels, ids = asked
        mask = np.ones_like(ids)
        (seen,) = self.vision.run(None, {"pixel_values": pixels})
        (states,) = self.text.run(None, {"input_ids": ids, "attention_mask": mask, "image_embeds": seen})
        return list(self._words(states, mask))

    def encode_response(self, words: list[int]) -> dict[str, str]:
        return {"answer": self.tokenizer.decode(words)}

    def _words(self, states: Any, mask: Any) -> Iterator[int]:
        """The likeliest token after those so far, until it is the one that ends an answer."""
        feeds = {"encoder_attention_mask": mask}
        token = np.asarray([[self.start]], np.int64)
        logits, *kept = self.first.run(None, {**feeds, "input_ids": token, "encoder_hidden_states": states})
        feeds |= zip(self.begun, kept, strict=True)
        for _ in range(self.most):
            word = int(logits[0, -1].argmax())
            if word == self.stop:
                return
            yield word
            feeds["input_ids"] = np.asarray([[word]], np.int64)
            logits, *kept = self.further.run(None, feeds)
            feeds |= zip(self.grown, kept, strict=True)

    def _session(self, name: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = str(self.folder / f"{name}.onnx")
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def _said(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text("utf-8"))


def _fed_again(session: Any) -> list[str]:
    """Names of inputs: present.0.decoder.key becomes past_key_values.0.decoder.key."""
    names = [output.name for output in session.get_outputs()]
    return [name.replace("present", "past_key_values") for name in names[1:]]
