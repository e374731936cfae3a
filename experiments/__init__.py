"""Reproduced systems and benchmarks, one folder each."""
