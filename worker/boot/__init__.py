"""What a worker process does at its start and undoes at its end, in this order; each step is one file.

The steps of the consumer are done anew after every loss of the connection to Redis.

By name, since Celery imports them only in a worker: Flower loads the same app without ONNX Runtime or numpy.
"""

STEPS = (
    "worker.boot.device:DeviceStep",
    "worker.boot.engine:EngineStep",
    "worker.boot.usage:UsageStep",
    "worker.boot.intake:IntakeStep",
    "worker.boot.announce:AnnounceStep",
    "worker.boot.house:HouseStep",
    "worker.boot.watch:WatchStep",
    "worker.boot.exporter:ExporterStep",
)

CONSUMER_STEPS = ("worker.boot.help:HelpStep",)

__all__ = ["CONSUMER_STEPS", "STEPS"]
