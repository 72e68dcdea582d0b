"""Valkey, the embedded Redis-protocol server: every write is logged, and fsynced once a second."""

import signal

from cli.stack import binaries, probes
from cli.stack.child import Launch, Service
from cli.stack.layout import Layout
from cli.stack.ports import LOOPBACK
from cli.stack.private_file import write_private
from cli.stack.state import State

NAME = "valkey"
PORTS = ("redis",)


def url(state: State) -> str:
    """With the password: never show it."""
    return f"redis://:{state.secrets['redis']}@{LOOPBACK}:{state.ports['redis']}/0"


def settings(state: State) -> dict[str, str]:
    return {"REDIS_URL": url(state)}


def service(layout: Layout, state: State) -> Service:
    program = binaries.redis_server()

    def prepare() -> Launch:
        # Its own default keeps nothing on disk, and an argv would show the password to every user.
        write_private(layout.valkey / "valkey.conf", _configuration(state))
        return Launch(
            [str(program), "valkey.conf"],
            {"LC_ALL": "C", "TZ": "UTC", "HOME": str(layout.valkey)},
            layout.valkey,
        )

    return Service(
        NAME,
        prepare,
        ready=lambda _pid: probes.redis_answers(url(state)),
        stop=((signal.SIGTERM, 10.0),),
        ports=PORTS,
    )


def _configuration(state: State) -> str:
    return f"""\
bind {LOOPBACK}
port {state.ports["redis"]}
protected-mode yes
requirepass {state.secrets["redis"]}
daemonize no
logfile ""
dir .
appendonly yes
appendfsync everysec
aof-load-truncated yes
save ""
maxmemory-policy noeviction
"""
