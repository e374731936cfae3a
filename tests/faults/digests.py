"""Four small configurations in this process: python -m tests.faults.digests FOLDER [COUNT] prints their digests."""

import json
import sys
from pathlib import Path

from lenet_jax.components import complete_config
from lenet_jax.config import Config, TrainerConfig
from lenet_jax.environment import tune_environment
from tests.runs.small import TINY, component, run_whole


def make_config(seed=0, batch_size=50, max_epochs=2, **groups):
    data = component("data", "embedded", train_size=100)
    trainer = TrainerConfig(max_epochs=max_epochs, batch_size=batch_size)
    return complete_config(Config(seed=seed, data=data, trainer=trainer, **groups))


LENET = component("model", "lenet", **TINY)
CONFIGS = [
    make_config(model=LENET, optimizer=component("optimizer", "momentum")),
    make_config(model=LENET, optimizer=component("optimizer", "adam"), augment=component("augment", "affine"), seed=4),
    make_config(model=component("model", "mnist_cnn", num_kernels=[2, 3]), schedule=component("schedule", "cosine")),
    make_config(model=component("model", "window_classifier", num_kernels=2, hidden_units=5)),
    *(
        make_config(seed, batch_size, 1, model=component("model", "lenet5", connections=connections, output=output))
        for seed, (connections, output, batch_size) in enumerate(
            (connections, output, batch_size)
            for connections in ("table", "full")
            for output in ("rbf", "softmax")
            for batch_size in (20, 50)
        )
    ),
]


def main(folder: str, count: str = "4") -> None:
    found = []
    for number, config in enumerate(CONFIGS[: int(count)]):
        *_, finished = run_whole(config, Path(folder) / str(number))
        found.append([finished.result[name] for name in ("parameters_sha256", "state_sha256", "test_loss")])
    print(json.dumps(found))


if __name__ == "__main__":
    tune_environment()
    main(*sys.argv[1:])
