"""The parts of `benchmarks/chaos.py`: what is planned, who submits, what is broken, what the record says of it."""
