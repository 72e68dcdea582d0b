"""With this folder on PYTHONPATH, a worker has one more task: `perilous`."""

from pathlib import Path

import worker.tasks

worker.tasks.__path__.append(str(Path(__file__).parent / "tasks"))
