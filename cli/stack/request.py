"""What `fleet up` was asked for, in a form that can be handed to the process that carries it out.

It may hold passwords of external servers: it goes through a pipe, never through an argv.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cli.stack.external import External
from cli.stack.interruption import Interruption
from cli.stack.journal import Listener
from cli.stack.ports import LOOPBACK
from cli.stack.stack import Stack
from fleet.errors import ValidationFailed
from fleet.settings import Settings


class Request(BaseModel):
    """`external` are settings by server, as in `External`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    host: str = LOOPBACK
    port: int | None = None
    workers: int = 1
    models: Path | None = None
    external: dict[str, dict[str, str]] = {}

    def run(self, on_ready: Callable[[Stack], None], listener: Listener | None = None) -> None:
        """Starts the stack, calls `on_ready`, watches until a signal comes, and stops it.

        Raises what `Stack.start` raises, before `on_ready` was called. Main thread only.
        """
        interruption = Interruption()
        stack = Stack(
            self.data,
            workers=self.workers,
            host=self.host,
            port=self.port,
            models=self.models,
            external=External(self.external),
            base=read_settings(),
            interruption=interruption,
            listener=listener,
        )
        with interruption.from_signals():
            stack.start()
            try:
                on_ready(stack)
                stack.supervise()
            finally:
                stack.stop()


def read_settings() -> Settings:
    """The user's own. Raises ValidationFailed `invalid-settings`, whose message names them and repeats no value."""
    try:
        return Settings()
    except ValidationError as error:
        faults: list[Any] = error.errors(include_input=False, include_url=False, include_context=False)
        told = "; ".join(f"{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in faults)
        raise ValidationFailed(
            f"settings in the environment or .env are wrong: {told}", code="invalid-settings"
        ) from None
