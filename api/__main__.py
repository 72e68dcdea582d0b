"""`python -m api`: the front door as a process of its own."""

import ipaddress
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from api.app import create_app
from api.waiting import Waiters
from fleet.errors import FleetError, ValidationFailed
from fleet.logs import configure_logs, get_logger
from fleet.outward import trusting
from fleet.settings import Settings, read_settings

#: What a request gets to finish when the process is told to end.
GRACE_S = 15
#: After so long without a sign of a caller who is owed bytes, its connection ends: it holds a place, and some memory.
_DEAD_PEER_MS = 120_000
log = get_logger("api")


class Server(uvicorn.Server):
    """Lets waiting and following callers go first when it is told to end: their jobs go on without them."""

    def __init__(self, config: uvicorn.Config, waiters: Waiters) -> None:
        super().__init__(config)
        self._waiters = waiters

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                if hasattr(socket, "TCP_USER_TIMEOUT"):
                    # What is accepted here has it, too.
                    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER_MS)
                host, port = listening.getsockname()[:2]
                log.info("listening", host=host, port=port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Without a pause before the door is shut: nobody who is let go here comes back to this process.
        self._waiters.release()
        await super().shutdown(sockets)


def serve(settings: Settings) -> int:
    """Serves until a signal comes; returns the exit code. Logs must be configured."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        # Unlike httptools it bounds the headers of a request.
        http="h11",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=GRACE_S,
        lifespan="on",
    )
    server = Server(config, app.state.services.waiters)
    server.run()
    return 0 if server.started else 1


def check(settings: Settings) -> None:
    """Raises ValidationFailed `api-keys-missing` when strangers could come in, or for a secret that cannot be one."""
    _ = settings.webhook_keys
    trusting(settings.outward_ca_file)
    if not settings.tenant_keys and not _is_loopback(settings.api_host):
        raise ValidationFailed(
            f"API_HOST={settings.api_host} can be reached from outside and API_KEYS is empty: "
            "set API_KEYS=tenant:key, or API_HOST=127.0.0.1",
            code="api-keys-missing",
        )


def main() -> int:
    # uvicorn closes in order when a signal comes and then repeats the signal, which has been obeyed by then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        settings = read_settings()
        check(settings)
    except FleetError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 2
    configure_logs(settings)
    for name in settings.unknown_names(Path(".env")):
        log.warning("unknown name in .env: is it spelled right?", name=name)
    if not settings.tenant_keys:
        log.warning("authentication is off: everybody on this machine is the tenant `default`")
    return serve(settings)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
