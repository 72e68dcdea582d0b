"""Settings of the model house: where models come from, and what a worker keeps of them on disk and in memory."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode


class ModelSettings(BaseSettings):
    """Part of `fleet.settings.Settings`."""

    models_path: Path = Path("models")
    #: Where a worker keeps the models that it fetched; by default a folder in the user's cache.
    model_cache_path: Path | None = None
    model_cache_gb: float = Field(default=50.0, gt=0)
    model_max_bytes: int = Field(default=20 * 1024**3, ge=1024)
    preload_models: Annotated[list[str], NoDecode] = []

    # Which loaded models stay in memory
    cache_strategy: Literal["vram_aware", "fixed_size"] = "vram_aware"
    cache_max_models: int = Field(default=8, ge=1)
    cache_vram_safety_margin_gb: float = Field(default=1.0, ge=0)
    #: Of the processor's memory, for models that run there; 0: half of what the worker may use.
    cache_ram_gb: float = Field(default=0.0, ge=0)

    # ONNX Runtime
    onnx_providers: list[str] = Field(default_factory=list)
    inference_device: Literal["auto", "cuda", "cpu", "simulated-gpu"] = "auto"
    simulated_gpu_speed: float = Field(default=1.0, gt=0, le=1000)
    onnx_intra_op_threads: int = Field(default=0, ge=0, le=1024)

    #: Of detection: the least score that counts where neither request nor model says; None: what its library does.
    model_confidence_threshold: float | None = Field(default=None, ge=0, le=1)

    # Where models may be fetched from besides an upload
    hf_endpoint: str = "https://huggingface.co"
    hf_token: SecretStr = SecretStr("")
    github_endpoint: str = "https://api.github.com"
    github_token: SecretStr = SecretStr("")
    #: An index of wheels, in the form of PEP 503/691; empty: wheels are named by their URL alone.
    wheel_index: str = ""

    @field_validator("onnx_providers")
    @classmethod
    def _measured_or_named(cls, names: list[str]) -> list[str]:
        if "auto" in names and len(names) > 1:
            raise ValueError('"auto" measures all that work here, and stands alone: ["auto"]')
        return names

    @property
    def model_cache(self) -> Path:
        """The folder of fetched models, of engines that were built from them, and of what was measured of them."""
        return self.model_cache_path or Path("~/.cache/onnx-fleet/models").expanduser()
