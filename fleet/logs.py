"""Logs are events with fields: `log.info("job finished", job_id=..., model=...)`, JSON in production.

No input data, prompts, file names or patient fields are ever given to a log.
"""

import logging
import sys

import structlog

from fleet.settings import Settings

Logger = structlog.stdlib.BoundLogger


def configure_logs(settings: Settings) -> None:
    """Once per process, in its composition root. Other libraries' records go the same way."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        # The default shows the values of local variables, and those may be anything.
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # Chatty below warnings, and their lines may carry URLs.
    for name in (
        "urllib3",
        "httpx",
        "kombu",
        "celery.app.trace",
        "celery.worker.strategy",
        "celery.redirected",
        "uvicorn.access",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> Logger:
    return structlog.stdlib.get_logger(name)
