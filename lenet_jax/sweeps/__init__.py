"""Sweeps: running many jobs in groups, recording their states in a ledger, pruning and summarizing them."""
