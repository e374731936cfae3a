"""Many epochs of a small model: python -m tests.faults.endurance EPOCHS prints how memory and descriptors grow."""

import json
import os
import sys
import tempfile
from pathlib import Path

from lenet_jax.config import Config, DataConfig, EarlyStoppingConfig, TrainerConfig
from lenet_jax.models import MODELS
from lenet_jax.runs.driver import run_experiment
from lenet_jax.runs.events import Evaluated
from lenet_jax.runs.records import read_record
from tests.linear import linear


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main(epochs: int) -> None:
    MODELS["lenet"] = linear
    trainer = TrainerConfig(max_epochs=epochs, early_stopping=EarlyStoppingConfig(enabled=False))
    config = Config(data=DataConfig(train_size=100), trainer=trainer)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for event in run_experiment(config, Path(folder)):
            if isinstance(event, Evaluated):
                found.append((resident_bytes(), descriptors()))
        lines = read_record(Path(folder)).metrics
    warm = epochs // 5  # by then every buffer has its size
    print(
        json.dumps(
            {
                "growth": found[-1][0] / found[warm][0] - 1,
                "descriptors": [found[warm][1], found[-1][1]],
                "epochs": [line["epoch"] for line in lines] == list(range(1, epochs + 1)),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
