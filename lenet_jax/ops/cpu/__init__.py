"""How operations are computed on a CPU."""
