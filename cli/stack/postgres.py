"""PostgreSQL, embedded: a cluster in the data folder, passwords only (SCRAM), loopback TCP only."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import psutil

from cli.stack import binaries, probes, root
from cli.stack.child import Launch, Service
from cli.stack.death_signal import die_with_parent, forking
from cli.stack.interruption import Interruption
from cli.stack.layout import Layout
from cli.stack.logs import open_log, tail
from cli.stack.ports import LOOPBACK
from cli.stack.private_file import write_private
from cli.stack.state import State, save
from fleet.errors import DependencyError, ValidationFailed

NAME = "postgres"
PORTS = ("postgres",)
DATABASE = "fleet"
_USER = "fleet"


def dsn(state: State, database: str = DATABASE) -> str:
    """With the password: never show it."""
    return f"postgresql://{_USER}:{state.secrets['postgres']}@{LOOPBACK}:{state.ports['postgres']}/{database}"


def settings(state: State) -> dict[str, str]:
    return {"DATABASE_URL": dsn(state)}


def service(layout: Layout, state: State, interruption: Interruption, *, durable: bool = True) -> Service:
    """Raises ValidationFailed `postgres-major-differs` when the cluster was made by another major version.

    `durable=False` leaves out every fsync: for data that a test throws away.
    """
    programs = binaries.postgres_programs(state.postgres_major)
    _check_major(layout, state, programs)
    run_as = root.unprivileged()
    cluster = layout.postgres / "data"
    environment = {"LC_ALL": "C", "TZ": "UTC", "HOME": str(layout.postgres), "PATH": os.defpath}

    def prepare() -> Launch:
        if run_as.owner is not None:
            _hand_over(layout, programs, run_as.owner)
        if not (cluster / "PG_VERSION").exists():
            initdb = [*run_as.prefix, str(programs / "initdb"), *([] if durable else ["--no-sync"])]
            _initialise(layout, state, Launch(initdb, environment, layout.postgres, run_as.popen), interruption)
        _forget_reused_pid(cluster)
        return Launch(
            [*run_as.prefix, str(programs / "postgres"), "-D", str(cluster), *_options(state, durable=durable)],
            environment,
            layout.postgres,
            run_as.popen,
        )

    return Service(
        NAME,
        prepare,
        ready=lambda _pid: probes.postgres_answers(dsn(state, "postgres"), create=DATABASE),
        alive=lambda _pid: probes.postgres_answers(dsn(state)),
        # SIGINT ends sessions and stops; SIGTERM would wait for every client to leave by itself.
        # SIGQUIT stops at once, and the next start recovers.
        stop=((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0)),
        death_signal=signal.SIGINT,
        ports=PORTS,
    )


def _options(state: State, *, durable: bool) -> list[str]:
    options = {
        "listen_addresses": LOOPBACK,
        "port": str(state.ports["postgres"]),
        "unix_socket_directories": "",
        "shared_buffers": "128MB",
        "max_connections": "200",
        "logging_collector": "off",
        "log_line_prefix": "%m [%p] ",
    }
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return [part for name, value in options.items() for part in ("-c", f"{name}={value}")]


def _check_major(layout: Layout, state: State, programs: Path) -> None:
    if state.postgres_major is None:
        return
    available = binaries.postgres_major(programs)
    if available != state.postgres_major:
        raise ValidationFailed(
            f"the records in {layout.postgres} were made by PostgreSQL {state.postgres_major}, and PostgreSQL "
            f"{available} ({programs}) cannot read them: install PostgreSQL {state.postgres_major}, or move the data "
            "over with pg_dump from the old version",
            code="postgres-major-differs",
            made_by=state.postgres_major,
            available=available,
        )


def _hand_over(layout: Layout, programs: Path, owner: tuple[int, int]) -> None:
    """As `nobody`, the server must reach its programs and own its folder."""
    for needed in (programs, layout.root.parent):
        closed = root.closed_folder(needed)
        if closed is not None:
            raise ValidationFailed(
                f"PostgreSQL refuses to run as root, and the user `nobody` cannot enter {closed}: choose a data folder "
                "and a Python environment outside of it, run as an ordinary user, or give --database-url",
                code="root-not-possible",
            )
    # Enter, not list: everything below stays closed.
    layout.root.chmod(0o711)
    os.chown(layout.postgres, *owner)


def _initialise(layout: Layout, state: State, initdb: Launch, interruption: Interruption) -> None:
    """Makes the cluster under another name first: a crash half way must not leave what looks like a whole one."""
    unfinished = layout.postgres / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    password = layout.postgres / "password"
    write_private(password, state.secrets["postgres"] + "\n")
    if "user" in initdb.popen:
        os.chown(password, initdb.popen["user"], initdb.popen["group"])
    argv = [*initdb.argv, "-D", str(unfinished), "-U", _USER, f"--pwfile={password}", "--auth=scram-sha-256"]
    argv += ["-E", "UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
    try:
        code, said = _run(replace(initdb, argv=argv), layout.log("initdb"), interruption)
    finally:
        password.unlink(missing_ok=True)
    if code != 0:
        raise DependencyError(f"initdb failed with exit code {code}:\n{said}", code="postgres-not-initialised")
    state.postgres_major = int((unfinished / "PG_VERSION").read_text("ascii"))
    save(layout, state)
    unfinished.rename(layout.postgres / "data")


def _run(launch: Launch, log: Path, interruption: Interruption) -> tuple[int, str]:
    """Runs a program to its end; returns its exit code and the end of what it said. Raises RunStopped."""
    log.unlink(missing_ok=True)
    output = open_log(log)
    try:
        with forking():
            running = subprocess.Popen(
                list(launch.argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=launch.cwd,
                env=dict(launch.environment),
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 (see forking)
                **launch.popen,
            )
    finally:
        os.close(output)
    try:
        while running.poll() is None:
            interruption.check()
            time.sleep(0.01)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    return running.returncode, tail(log)


def _forget_reused_pid(cluster: Path) -> None:
    """Removes a stale `postmaster.pid` whose pid is now somebody else's: PostgreSQL would refuse to start for it.

    That happens wherever pids begin anew, as in a restarted container. A process that has this cluster in its
    argv is left to PostgreSQL's own judgement.
    """
    lock = cluster / "postmaster.pid"
    try:
        pid = int(lock.read_text("utf-8").split("\n", 1)[0])
        argv = psutil.Process(pid).cmdline()
    except (OSError, ValueError, psutil.Error):
        return
    if str(cluster) not in argv:
        lock.unlink(missing_ok=True)
