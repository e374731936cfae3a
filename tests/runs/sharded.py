"""Runs that are divided over devices, of what depends on the whole batch or on random numbers.

python -m tests.runs.sharded FOLDER: makes them on the devices of the process, and prints what they come to as JSON.
"""

import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

from lenet_jax import layers
from lenet_jax.config import Config
from lenet_jax.ops.initializers import glorot_uniform
from lenet_jax.types import Model
from tests.runs.small import component, make_config, run_whole


def network(*, input_shape: tuple[int, ...], num_outputs: int) -> Model:
    """Batch normalization has statistics of the batch, dropout draws for each example."""
    parts = {
        "conv": layers.convolution(4, 5, glorot_uniform(), strides=2, pool_size=2),
        "norm": layers.batch_normalization(),
        "relu": layers.activation("relu"),
        "flatten": layers.flatten(),
        "dropout": layers.dropout(0.3),
        "hidden": layers.dense(32, glorot_uniform()),
        "softmax": layers.dense(num_outputs, glorot_uniform()),
    }
    return layers.make_model(layers.serial(parts), input_shape)


def config_of(sharding: str, *, batch_size: int = 48, **options: Any) -> Config:
    """Return two epochs on 200 digits, each minibatch in two microbatches, with random changes of the images."""
    groups = {
        "model": {"_target_": "tests.runs.sharded.network"},
        "sharding": component("sharding", sharding, **options),
        "augment": {"affine": {"_target_": "lenet_jax.augment.random_affine", "degrees": 10.0, "shift": 2.0}},
    }
    momentum = component("optimizer", "momentum")
    return make_config(3, momentum, groups=groups, batch_size=batch_size, grad_accumulation_steps=2)


CASES = {
    "none": config_of("none"),
    "2": config_of("data", num_devices=2),
    "4": config_of("data"),
    "fsdp": config_of("fsdp", smallest=64),
}


def outcome(folder: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()[1:]]
    result, run = (json.loads((folder / f"{name}.json").read_text()) for name in ("result", "run"))
    return {
        "losses": [line[key] for line in lines for key in ("train_loss", "validation_loss")] + [result["test_loss"]],
        "state": result["state_sha256"],
        "mesh": run.get("mesh"),
        "level": run["reproducibility"]["level"],
    }


def run_in_two_parts(config: Config, path: Path) -> None:
    """Interrupt a run after its first epoch, and resume it."""
    from lenet_jax.runs import Evaluated
    from lenet_jax.runs.prepared_run import prepare_run
    from lenet_jax.runs.run import resume_run, run
    from lenet_jax.runs.run_directory import read_record
    from lenet_jax.runs.signals import signals_interrupt

    with signals_interrupt(), contextlib.suppress(KeyboardInterrupt):
        for event in run(prepare_run(config), path):
            if isinstance(event, Evaluated):
                signal.raise_signal(signal.SIGTERM)
    record = read_record(path)
    assert record.result is None
    assert len(record.metrics) == 1
    list(resume_run(record))


def main(folder: Path) -> None:
    import jax

    assert jax.device_count() == 4
    for name, config in CASES.items():
        run_whole(config, folder / name)
    run_whole(CASES["4"], folder / "again")
    for name in ("4", "fsdp"):
        run_in_two_parts(CASES[name], folder / f"{name} resumed")
    print(json.dumps({path.name: outcome(path) for path in folder.iterdir()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
