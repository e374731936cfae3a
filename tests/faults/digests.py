"""Four small configurations in this process: python -m tests.faults.digests FOLDER [COUNT] prints their digests."""

import json
import sys
from pathlib import Path

from lenet_jax.config import (
    AdamConfig,
    AffineAugmentConfig,
    Config,
    CosineScheduleConfig,
    DataConfig,
    LeNet5Config,
    LeNetConfig,
    MnistCnnConfig,
    MomentumConfig,
    TrainerConfig,
    WindowClassifierConfig,
)
from lenet_jax.environment import tune_environment

DATA, TRAINER = DataConfig(train_size=100), TrainerConfig(max_epochs=2)
TINY = LeNetConfig(num_kernels=(2, 3), kernel_size=3, hidden_units=10)
CONFIGS = [
    Config(model=TINY, data=DATA, trainer=TRAINER, optimizer=MomentumConfig()),
    Config(model=TINY, data=DATA, trainer=TRAINER, optimizer=AdamConfig(), augment=AffineAugmentConfig(), seed=4),
    Config(model=MnistCnnConfig(num_kernels=(2, 3)), data=DATA, trainer=TRAINER, schedule=CosineScheduleConfig()),
    Config(model=WindowClassifierConfig(num_kernels=2, hidden_units=5), data=DATA, trainer=TRAINER),
    *(
        Config(
            model=LeNet5Config(connections=connections, output=output),
            data=DATA,
            trainer=TrainerConfig(max_epochs=1, batch_size=batch_size),
            seed=seed,
        )
        for seed, (connections, output, batch_size) in enumerate(
            (connections, output, batch_size)
            for connections in ("table", "full")
            for output in ("rbf", "softmax")
            for batch_size in (20, 50)
        )
    ),
]


def main(folder: str, count: str = "4") -> None:
    from lenet_jax.runs.driver import run_experiment

    found = []
    for number, config in enumerate(CONFIGS[: int(count)]):
        *_, finished = run_experiment(config, Path(folder) / str(number))
        found.append([finished.result[name] for name in ("parameters_sha256", "state_sha256", "test_loss")])
    print(json.dumps(found))


if __name__ == "__main__":
    tune_environment()
    main(*sys.argv[1:])
