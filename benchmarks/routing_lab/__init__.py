"""A simulated fleet that decides with the code of the real one: see `benchmarks/routing.py`."""
