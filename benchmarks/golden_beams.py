"""Asks transformers what beam search finds, on networks that are a table: which word follows which, and how likely.

    PYTHON benchmarks/golden_beams.py > tests/support/beam_goldens.json

PYTHON is one with torch and transformers 5.23; nothing of them is used by Fleet. The tests make the same tables, as
graphs, and compare (tests/unit/worker/test_beam_search.py).
"""

import itertools
import json
import sys
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

WORDS, STOP, START = 12, 1, 2
PENALTIES: tuple[float, ...] = (1.0, 0.0, 2.0, -1.0)
STOPPINGS: tuple[Any, ...] = (False, True, "never")


def table(seed: int) -> np.ndarray:
    """float32 [words, words]: the logits of the word behind each word."""
    made = np.random.default_rng(seed).normal(size=(WORDS, WORDS)) * 1.5
    made[:, 0] = made[:, START] = -20
    return made.astype(np.float32)


class Table(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    config_class = PretrainedConfig

    def __init__(self, logits: np.ndarray) -> None:
        config = PretrainedConfig(is_decoder=True, is_encoder_decoder=False)
        config.num_hidden_layers, config.vocab_size = 1, WORDS
        super().__init__(config)
        self.logits = torch.nn.Parameter(torch.from_numpy(logits), requires_grad=False)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> CausalLMOutput:
        return CausalLMOutput(logits=self.logits[input_ids])


def main() -> None:
    cases = []
    for number, (penalty, stopping) in enumerate(itertools.product(PENALTIES, STOPPINGS)):
        for beams, seed in itertools.product((1, 2, 3, 5), range(3)):
            new_tokens = 4 + 4 * (seed % 3)
            config = GenerationConfig(
                num_beams=beams,
                max_new_tokens=new_tokens,
                length_penalty=penalty if beams > 1 else None,
                early_stopping=stopping if beams > 1 else None,
                do_sample=False,
                use_cache=False,
                eos_token_id=STOP,
                pad_token_id=0,
                bos_token_id=START,
            )
            model = Table(table(100 * number + seed)).eval()
            ids = model.generate(torch.tensor([[START]]), generation_config=config)[0].tolist()
            while ids[-1] == 0:
                ids.pop()
            cases.append(
                {
                    "seed": 100 * number + seed,
                    "num_beams": beams,
                    "max_new_tokens": new_tokens,
                    "length_penalty": penalty,
                    "early_stopping": stopping,
                    "ids": ids,
                }
            )
    json.dump({"transformers": "5.23.0", "cases": cases}, sys.stdout)


if __name__ == "__main__":
    main()
