"""Many epochs of a small model: python -m tests.faults.endurance EPOCHS prints how memory and descriptors grow."""

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

from lenet_jax.config import EarlyStoppingConfig
from lenet_jax.runs import Evaluated
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.run import run
from lenet_jax.runs.run_directory import read_record
from tests.linear import put_in_place_of_lenet
from tests.runs.small import component, make_config


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main(epochs: int) -> None:
    put_in_place_of_lenet(pytest.MonkeyPatch())
    data = component("data", "embedded", train_size=100)
    stopping = EarlyStoppingConfig(enabled=False)
    prepared = prepare_run(make_config(early_stopping=stopping, max_epochs=epochs, groups={"data": data}))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for event in run(prepared, Path(folder)):
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
