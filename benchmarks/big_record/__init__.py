"""The parts of `benchmarks/record.py`: a record of any size, what is asked of it, and how that is timed."""
