"""Claims of speed, each measured against something else in the same run: `python -m tests.benchmarks.NAME`."""
