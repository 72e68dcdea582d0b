"""Every setting, in one typed tree, read once at start from the environment and `.env`.

Each process builds `Settings()` in its composition root and passes on the smallest part that a piece needs.
Names in the environment are the flat upper-case names of the fields (`MINIO_ENDPOINT`, `LEASE_S`, ...).
"""

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from fleet.contracts import Lane, Pool
from fleet.errors import ValidationFailed
from fleet.model_settings import ModelSettings

if TYPE_CHECKING:
    from fleet.webhook_keys import WebhookKeys

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
OPENVINO_PROVIDER = "OpenVINOExecutionProvider"
#: Providers that keep a `gpu` pool's promise.
GPU_PROVIDERS = frozenset(
    {
        CUDA_PROVIDER,
        TENSORRT_PROVIDER,
        "ROCMExecutionProvider",
        "MIGraphXExecutionProvider",
        "DmlExecutionProvider",
    }
)

#: Names in `.env` that docker-compose reads for the servers around Fleet.
COMPOSE_NAMES = frozenset(
    {"REDIS_PASSWORD", "FLOWER_BASIC_AUTH", "API_PUBLISH", "MINIO_PUBLISH", "FLOWER_PUBLISH", "MINIO_IMAGE"}
)
#: How long a run waits for the record or the object store to come back before it gives up its work.
STORE_PATIENCE_S = 120.0
#: What `.env.example` has in the place of each secret.
EXAMPLE_SECRET = "change-me"  # noqa: S105


class Settings(ModelSettings, BaseSettings):
    """See `.env.example` for the same list with comments; a test keeps the two equal."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        hide_input_in_errors=True,  # the input holds secrets
    )

    # Where things are
    environment: Literal["development", "test", "production"] = "development"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"

    # PostgreSQL: the truth
    database_url: SecretStr | None = None
    postgres_server: str = "localhost"
    postgres_port: int = Field(default=5432, ge=1, le=65535)
    postgres_user: str = "fleet"
    postgres_password: SecretStr = SecretStr("")
    postgres_db: str = "fleet"
    postgres_pool_size: int = Field(default=10, ge=1, le=200)

    # Redis: the doorbell
    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")
    broker_ack_emulation: bool = False

    # Objects: MinIO or any S3
    minio_endpoint: str = "localhost:9000"
    minio_public_endpoint: str | None = None
    minio_access_key: str = ""
    minio_secret_key: SecretStr = SecretStr("")
    minio_secure: bool = False
    minio_region: str = "us-east-1"
    minio_bucket: str = "fleet"
    object_access: Literal["presigned", "proxy"] = "presigned"
    presigned_ttl_s: int = Field(default=3600, ge=60, le=604800)

    # The front door
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=0, le=65535)
    api_keys: SecretStr = SecretStr("")
    public_url: str | None = None
    max_body_bytes: int = Field(default=64 * 1024**2, ge=1024)
    max_upload_bytes: int = Field(default=16 * 1024**3, ge=1024)
    max_wait_s: int = Field(default=300, ge=0, le=3600)
    sse_max_streams: int = Field(default=500, ge=0)
    sse_heartbeat_s: float = Field(default=15.0, gt=0, le=15)
    upload_ttl_s: int = Field(default=86400, ge=60)
    idempotency_ttl_s: int = Field(default=86400, ge=60)

    # Jobs
    lease_s: float = Field(default=30.0, gt=0, le=3600)
    reconcile_every_s: float = Field(default=2.0, gt=0, le=600)
    default_deadline_s: float = Field(default=86400.0, gt=0)
    job_retention_s: float = Field(default=604800.0, gt=0)
    orphan_sweep_every_s: float = Field(default=3600.0, ge=0)
    orphan_grace_s: float = Field(default=3600.0, gt=0)

    # Fairness, and how much may wait
    tenant_weights: Annotated[dict[str, Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]], NoDecode] = {}
    max_waiting_jobs: int = Field(default=1_000_000, ge=1)
    max_waiting_jobs_per_tenant: int = Field(default=200_000, ge=1)
    ageing_interactive_s: Annotated[
        list[Annotated[float, Field(gt=0)]], NoDecode, Field(min_length=3, max_length=3)
    ] = [
        5.0,
        15.0,
        60.0,
    ]
    ageing_bulk_s: Annotated[list[Annotated[float, Field(gt=0)]], NoDecode, Field(min_length=3, max_length=3)] = [
        300.0,
        900.0,
        3600.0,
    ]

    # Webhooks, and other ways out to URLs of users
    webhook_secrets: SecretStr = SecretStr("")
    webhook_allow_http: bool = False
    webhook_timeout_s: float = Field(default=20.0, gt=0, le=60)
    webhook_retention_s: float = Field(default=604800.0, gt=0)
    outward_allow_networks: Annotated[list[IPv4Network | IPv6Network], NoDecode] = []
    outward_ca_file: Path | None = None

    # Workers
    worker_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")
    worker_pool: Literal["auto", "gpu", "cpu"] = "auto"
    worker_lanes: Annotated[list[Lane], NoDecode] = [Lane.INTERACTIVE, Lane.BULK]
    worker_concurrency: int = Field(default=0, ge=0, le=256)
    worker_nice: int | None = Field(default=None, ge=0, le=19)
    worker_overflow: bool = True
    worker_drain_s: float = Field(default=30.0, ge=0)
    worker_stop_patience_s: float = Field(default=180.0, gt=0)
    worker_stuck_s: float = Field(default=60.0, ge=1)
    worker_scratch: Path | None = None
    worker_memory_bytes: int = Field(default=0, ge=0)
    worker_ready_file: Path | None = None
    worker_task_events: bool = False
    worker_metrics_port: int = Field(default=0, ge=0, le=65535)

    # What a volume may be
    volume_max_voxels: int = Field(default=1_500_000_000, ge=1)
    volume_max_bytes: int = Field(default=4 * 1024**3, ge=1)
    archive_max_files: int = Field(default=20_000, ge=1)

    # What a picture may be: bytes of its file, pixels (in tiles: so many more), and its long side by its short one
    image_max_size: int = Field(default=64 * 1024**2, ge=1)
    image_max_pixels: int = Field(default=50_000_000, ge=1)
    image_max_tiled_pixels: int = Field(default=900_000_000, ge=0)
    image_max_aspect: float = Field(default=100.0, ge=1)

    @field_validator(
        "worker_lanes",
        "preload_models",
        "outward_allow_networks",
        "ageing_interactive_s",
        "ageing_bulk_s",
        mode="before",
    )
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        """Accepts `a,b` as well as a list."""
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("tenant_weights", mode="before")
    @classmethod
    def _name_equals_weight(cls, value: Any) -> Any:
        """Accepts `tenant=2,other=0.5`."""
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if any("=" not in part for part in parts):
            raise ValueError("must look like tenant=2,other=0.5")
        return dict(part.rsplit("=", 1) for part in parts)

    @model_validator(mode="after")
    def _coherent(self) -> "Settings":
        if self.inference_device == "cpu" and self.worker_pool == "gpu":
            raise ValueError("WORKER_POOL=gpu contradicts INFERENCE_DEVICE=cpu: change one of them")
        if self.inference_device == "simulated-gpu" and self.environment == "production":
            raise ValueError(
                "INFERENCE_DEVICE=simulated-gpu is for trying things out: ENVIRONMENT=production refuses it"
            )
        if self.inference_device in ("cuda", "simulated-gpu") and self.worker_pool == "cpu":
            raise ValueError(
                f"WORKER_POOL=cpu contradicts INFERENCE_DEVICE={self.inference_device}: change one of them"
            )
        if self.orphan_grace_s < self.lease_s + STORE_PATIENCE_S:
            raise ValueError(
                f"ORPHAN_GRACE_S={self.orphan_grace_s:g} is too short: a worker may hold objects without a lease for "
                f"LEASE_S and {STORE_PATIENCE_S:g} s more"
            )
        if self.environment == "production":
            secrets = {name: value for name, value in self if isinstance(value, SecretStr)}
            copied = [name.upper() for name, value in secrets.items() if EXAMPLE_SECRET in value.get_secret_value()]
            if copied:
                raise ValueError(
                    f"{', '.join(copied)} still says {EXAMPLE_SECRET!r} as .env.example does: choose a secret"
                )
        return self

    @property
    def database_dsn(self) -> str:
        """The libpq URL of the record, with its password: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        password = self.postgres_password.get_secret_value()
        credentials = quote(self.postgres_user, safe="") + (f":{quote(password, safe='')}" if password else "")
        return f"postgresql://{credentials}@{self.postgres_server}:{self.postgres_port}/{self.postgres_db}"

    @property
    def effective_onnx_providers(self) -> list[str]:
        """The providers to try, best first; the CPU is always last, so that a model can run somewhere.

        `ONNX_PROVIDERS` wins where it is set; otherwise `INFERENCE_DEVICE` decides. Whether one really works
        is only known after a session was made with it: see `worker/engine/providers.py`.
        """
        if self.inference_device in ("cpu", "simulated-gpu"):
            return [CPU_PROVIDER]
        # "auto" measures which is best: of all that can be.
        measured = [TENSORRT_PROVIDER, CUDA_PROVIDER, OPENVINO_PROVIDER]
        wanted = measured if self.onnx_providers == ["auto"] else self.onnx_providers or [CUDA_PROVIDER]
        return [name for name in wanted if name != CPU_PROVIDER] + [CPU_PROVIDER]

    @property
    def declared_pool(self) -> Pool | None:
        """The pool that was promised by the settings, or None when the device decides."""
        if self.worker_pool != "auto":
            return Pool(self.worker_pool)
        return {"auto": None, "cpu": Pool.CPU}.get(self.inference_device, Pool.GPU)

    @property
    def simulated_gpu(self) -> bool:
        """Whether this process plays a GPU on the CPU, so that a fleet of both kinds can be tried without one."""
        return self.inference_device == "simulated-gpu"

    @cached_property
    def tenant_keys(self) -> dict[str, str]:
        """SHA-256 of each API key -> tenant. See `fleet/keys.py` for the accepted forms."""
        from fleet.keys import parse_api_keys

        return parse_api_keys(self.api_keys.get_secret_value())

    @cached_property
    def webhook_keys(self) -> "WebhookKeys":
        """What webhooks are signed with. Raises ValidationFailed `invalid-webhook-secrets`."""
        from fleet.webhook_keys import WebhookKeys, parse_secrets

        return WebhookKeys(parse_secrets(self.webhook_secrets.get_secret_value()))

    def unknown_names(self, env_file: Path = Path(".env")) -> list[str]:
        """Names in `.env` that no setting carries: most likely a spelling mistake."""
        if not env_file.is_file():
            return []
        known = {name.upper() for name in type(self).model_fields} | COMPOSE_NAMES
        names = (line.split("=", 1)[0].strip() for line in env_file.read_text("utf-8").splitlines())
        return [name for name in names if name and not name.startswith(("#", "COMPOSE_")) and name.upper() not in known]


def read_settings(**chosen: Any) -> Settings:
    """The settings of this process; what is `chosen`, by field, outranks them.

    Raises ValidationFailed `invalid-settings`, which repeats no value (or secret).
    """
    try:
        return Settings(**chosen)
    except ValidationError as error:
        faults = [
            {"detail": fault["msg"].removeprefix("Value error, "), "pointer": ".".join(map(str, fault["loc"])).upper()}
            for fault in error.errors()
        ]
        told = "; ".join(f"{fault['pointer']}: {fault['detail']}".removeprefix(": ") for fault in faults)
        raise ValidationFailed(f"the settings are wrong: {told}", faults, code="invalid-settings") from None
    except SettingsError as error:
        raise ValidationFailed(f"the settings are wrong: {error}", code="invalid-settings") from None
