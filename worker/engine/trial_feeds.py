"""One set of inputs to try a version with: what its author warms it with, else random ones."""

from collections.abc import Sequence

from worker.contract import Array, Tensor
from worker.engine.example_feeds import random_feeds
from worker.engine.model_version import ModelVersion
from worker.engine.warming import warmup_feeds


def trial_feeds(version: ModelVersion, inputs: Sequence[Tensor]) -> dict[str, Array]:
    """`inputs` are those of the loaded graph; shapes that the author declares go before its own.

    Raises ModelError `warmup-invalid`.
    """
    for sample in version.manifest.warmup:
        if sample.inputs:
            return warmup_feeds(version, sample, sample.name)
    shapes = {tensor.name: tuple(tensor.reshape or tensor.shape) for tensor in version.manifest.inputs}
    return random_feeds(inputs, shapes)
