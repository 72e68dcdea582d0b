"""`fleet serve`: the front door, in the foreground."""


def serve() -> None:
    """Run the API in the foreground. Its settings come from the environment and .env, see .env.example."""
    from api.__main__ import main

    main()
