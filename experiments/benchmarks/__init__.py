"""How fast and how large lenet_jax is beside its peers; see README.md and `python -m experiments.benchmarks --help`."""
