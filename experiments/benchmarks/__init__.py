"""Benchmarks of time and memory against other frameworks; see `python -m experiments.benchmarks --help`."""
