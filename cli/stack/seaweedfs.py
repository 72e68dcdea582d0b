"""SeaweedFS, the embedded S3-compatible server: `weed mini`, all of it in one process, all of it on loopback."""

import json
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from cli.stack import binaries, probes
from cli.stack.child import Launch, Service
from cli.stack.layout import Layout
from cli.stack.ports import LOOPBACK
from cli.stack.private_file import write_private
from cli.stack.state import State
from fleet.settings import Settings

NAME = "seaweedfs"
BUCKET = "fleet"
#: Its five parts; each listens on a port of its own and on one more for gRPC.
_PARTS = ("s3", "master", "volume", "filer", "admin")
PORTS = tuple(f"{part}{suffix}" for part in _PARTS for suffix in ("", "_grpc"))


def settings(state: State) -> dict[str, str]:
    endpoint = f"{LOOPBACK}:{state.ports['s3']}"
    return {
        "MINIO_ENDPOINT": endpoint,
        # Said as well, so that one meant for another store does not end up in this one's presigned URLs.
        "MINIO_PUBLIC_ENDPOINT": endpoint,
        "MINIO_ACCESS_KEY": state.secrets["s3_access"],
        "MINIO_SECRET_KEY": state.secrets["s3_secret"],
        "MINIO_SECURE": "false",
        "MINIO_REGION": "us-east-1",
        "MINIO_BUCKET": BUCKET,
    }


def service(layout: Layout, state: State) -> Service:
    program = binaries.seaweedfs()

    def store() -> Settings:
        # Made anew each time: the ports may be replaced between two attempts to start.
        own = {name.lower(): value for name, value in settings(state).items()}
        return Settings(_env_file=None, **own)  # type: ignore[arg-type]

    def prepare() -> Launch:
        _clear(layout, state)
        write_private(layout.objects / "identities.json", _identities(state))
        return Launch([str(program), *_options(state)], _environment(layout, state), layout.objects)

    return Service(
        NAME,
        prepare,
        ready=lambda _pid: probes.objects_answer(store()),
        # Its storage only grows by writing: the regular check reads.
        alive=lambda _pid: probes.objects_answer(store(), write=False),
        stop=((signal.SIGTERM, 8.0),),
        # A start normally takes one second. When its parts miss each other they try again only after five.
        start_limits_s=(4.0, 8.0),
        ports=PORTS,
    )


def _options(state: State) -> list[str]:
    """Every port and address is said: what is left out is bound to fixed ports on the machine's own address."""
    options = {
        "dir": ".",
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        # Relative to the working directory: a socket's path may have 108 bytes at most.
        "filer.localSocket": "filer.sock",
        "s3.localSocket": "s3.sock",
        "s3.config": "identities.json",
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "s3.allowDeleteBucketNotEmpty": "false",
        "s3.autoCreateBucket": "false",
        "webdav": "false",
        "admin.ui": "false",
        # Master and filer answer gRPC only: their HTTP has no passwords.
        "disableHttp": "true",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": "1024",
        "volume.preStopSeconds": "0",
        "volume.max": "0",
    }
    for part in _PARTS:
        options[f"{part}.port"] = str(state.ports[part])
        options[f"{part}.port.grpc"] = str(state.ports[f"{part}_grpc"])
    return ["-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())]


def _environment(layout: Layout, state: State) -> dict[str, str]:
    return {
        "HOME": str(layout.objects),
        "PATH": os.defpath,
        "TZ": "UTC",
        # Without it, it keeps more than 1 GiB after a few large objects.
        "GOMEMLIMIT": "512MiB",
        # These close the volume and filer ports, which otherwise give any local process every object.
        "WEED_JWT_SIGNING_KEY": state.secrets["seaweedfs_jwt_write"],
        "WEED_JWT_SIGNING_READ_KEY": state.secrets["seaweedfs_jwt_read"],
        "WEED_JWT_FILER_SIGNING_KEY": state.secrets["seaweedfs_jwt_filer_write"],
        "WEED_JWT_FILER_SIGNING_READ_KEY": state.secrets["seaweedfs_jwt_filer_read"],
    }


def _identities(state: State) -> str:
    identity = {
        "name": "fleet",
        "credentials": [{"accessKey": state.secrets["s3_access"], "secretKey": state.secrets["s3_secret"]}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return json.dumps({"identities": [identity]})


def _clear(layout: Layout, state: State) -> None:
    """Removes what a former run left and this one would trip over; no object is among it."""
    # The elections of the master, which knows one master. Kept, one warm start in three takes 6 to 17 s; the volumes
    # are told to the master anew by whoever holds them.
    for election in layout.objects.glob("m[0-9]*"):
        shutil.rmtree(election, ignore_errors=True)
    # It writes its flags there and would prefer them to ours.
    (layout.objects / "mini.options").unlink(missing_ok=True)
    remove_sockets(state)


def remove_sockets(state: State) -> None:
    """Removes those that it makes under fixed names in the system's temporary folder and leaves there when killed."""
    # It does not look at TMPDIR.
    for folder in {Path("/tmp"), Path(tempfile.gettempdir())}:  # noqa: S108
        for part in _PARTS:
            port = state.ports.get(f"{part}_grpc")
            with suppress(OSError):
                (folder / f"seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)
