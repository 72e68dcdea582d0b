"""What `benchmarks/idle.py` needs: moments noted inside of the api and the worker while they serve."""
