"""Where the api of a local stack listens and who may enter: address, port, API key."""

import ipaddress
import socket
from dataclasses import dataclass

from cli.stack import ports
from cli.stack.state import State
from fleet.errors import ValidationFailed
from fleet.keys import digest
from fleet.settings import Settings

DEFAULT_PORT = 8000


@dataclass(frozen=True)
class FrontDoor:
    """`api_key` is the plain key that the CLI of this machine uses; None when none is needed or it is not ours."""

    host: str
    port: int
    environment: dict[str, str]
    api_key: str | None
    notes: tuple[str, ...]

    @property
    def reachable_host(self) -> str:
        """The address to use on this machine: `0.0.0.0` and `::` are none."""
        return {"0.0.0.0": ports.LOOPBACK, "::": "::1"}.get(self.host, self.host)  # noqa: S104

    @property
    def url(self) -> str:
        host = self.reachable_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def open_front_door(
    settings: Settings, state: State, *, host: str, asked_port: int | None, embedded_objects: bool
) -> FrontDoor:
    """Decides, and notes port and key in `state`. Raises ValidationFailed `port-taken`, `host-unusable`."""
    if not ports.is_free(0, host):
        raise ValidationFailed(f"--host {host} is not an address of this machine", code="host-unusable", host=host)
    port, notes = _choose_port(state, host, asked_port)
    state.ports["api"] = port
    environment = {"API_HOST": host, "API_PORT": str(port)}
    api_key = None
    if not is_loopback(host):
        if embedded_objects:
            # Its presigned URLs would point other machines to their own loopback.
            environment["OBJECT_ACCESS"] = "proxy"
        if not settings.api_keys.get_secret_value():
            api_key = state.ensure_api_key()
            environment["API_KEYS"] = f"default:sha256:{digest(api_key)}"
            notes.append(
                f"{host} can be reached from other machines, so the API asks for a key: "
                "`fleet status --show-key` shows it"
            )
    return FrontDoor(host, port, environment, api_key, tuple(notes))


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to a server on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(address).is_loopback for address in found)


def _choose_port(state: State, host: str, asked: int | None) -> tuple[int, list[str]]:
    """A port that was asked for is taken or refused; the default one gives way, to last time's if that is free."""
    if asked == 0:
        return ports.free_port(host=host), []
    if asked is not None:
        if not ports.is_free(asked, host):
            raise ValidationFailed(
                f"port {asked} on {host} is in use: choose another with --port, or leave it out", code="port-taken"
            )
        return asked, []
    if ports.is_free(DEFAULT_PORT, host):
        return DEFAULT_PORT, []
    last = state.ports.get("api")
    port = last if last is not None and ports.is_free(last, host) else ports.free_port(host=host)
    return port, [f"port {DEFAULT_PORT} is in use by another program, so the API listens on {port}"]
