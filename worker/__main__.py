"""`fleet work`: one worker process for the device at hand, until SIGTERM or SIGINT drains it."""

from fleet.logs import configure_logs, get_logger
from fleet.settings import Settings


def main() -> None:
    settings = Settings()
    configure_logs(settings)
    for name in settings.unknown_names():
        get_logger(__name__).warning("unknown name in .env", name=name)
    from worker.app import app
    from worker.device import worker_name

    app.worker_main(
        [
            "worker",
            f"--hostname={worker_name(settings)}",
            "--without-gossip",
            "--without-mingle",
            f"--loglevel={settings.log_level}",
        ]
    )


if __name__ == "__main__":
    main()
