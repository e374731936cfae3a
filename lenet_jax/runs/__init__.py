"""A run on this machine: its directory, its provenance, and the loop that drives it."""
