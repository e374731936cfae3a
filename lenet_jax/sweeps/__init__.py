"""Sweeps: the jobs of a multirun, the ledger of how far they have come, and what came of them together."""
