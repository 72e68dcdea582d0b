"""`python -m tests.support.hasty_worker`: a worker that looks whether to help out as often as it can."""

from worker.__main__ import main
from worker.boot.help import HelpStep

if __name__ == "__main__":
    HelpStep.period_s = 0.01
    main()
