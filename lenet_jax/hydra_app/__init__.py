"""The code that depends on Hydra: composition of configurations, launchers, sweepers, workers and error messages."""
