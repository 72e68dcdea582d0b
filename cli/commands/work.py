"""`fleet work`: the workers of this machine, in the foreground."""

from cli.extras import needs


def work() -> None:
    """Run the workers of this machine in the foreground. Settings come from the environment and .env."""
    with needs("worker", "running workers"):
        from worker.__main__ import main

    main()
