"""Small complete configurations, and the runs of them, for tests of runs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lenet_jax.components import complete_config
from lenet_jax.config import Config, EarlyStoppingConfig, TrainerConfig
from lenet_jax.config.catalogue import built_in

TINY = {"num_kernels": [2, 3], "kernel_size": 3, "hidden_units": 10}


def component(group: str, name: str, **options: Any) -> dict[str, Any]:
    """Return a file of `conf/` with other options, as Hydra composes it."""
    return {**built_in(group)[name], **options}


def make_config(
    seed: int = 0,
    optimizer: dict[str, Any] | None = None,
    early_stopping: EarlyStoppingConfig | None = None,
    *,
    groups: dict[str, Any] | None = None,
    **trainer: Any,
) -> Config:
    """Return two epochs of a tiny LeNet on 200 digits; `groups` are other parts of the configuration."""
    trainer = {"max_epochs": 2, "early_stopping": early_stopping or EarlyStoppingConfig(), **trainer}
    parts = {
        "model": component("model", "lenet", **TINY),
        "data": component("data", "embedded", train_size=200),
        "optimizer": optimizer or component("optimizer", "sgd"),
        **(groups or {}),
    }
    return complete_config(Config(seed=seed, trainer=TrainerConfig(**trainer), **parts))


@contextlib.contextmanager
def interrupted(monkeypatch: Any) -> Iterator[None]:
    """Interrupt all runs before they train."""

    def interrupt(runner: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lenet_jax.runs.group.GroupRunner._advance", interrupt)
        yield


def run_whole(config: Config, path: Path) -> list[Any]:
    """Run a configuration and return its events."""
    from lenet_jax.runs.prepared_run import prepare_run  # imports jax, whose environment may still have to be set
    from lenet_jax.runs.run import run

    return list(run(prepare_run(config), path))
