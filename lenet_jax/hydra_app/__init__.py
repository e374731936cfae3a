"""All that knows Hydra: composing configurations, launchers, sweepers, workers, error messages."""
