"""Which models stay in memory: traces of requests, simulated and replayed."""
