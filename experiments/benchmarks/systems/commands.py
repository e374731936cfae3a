"""Sweeps as their users start them: commands, timed from their start to their end."""

import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np

from experiments.benchmarks.problem import Sweep
from lenet_jax.data import load_dataset


class Swept(NamedTuple):
    """What a sweep took, and came to."""

    accuracy: float  # the mean of the jobs, on the validation images
    seconds: float
    megabytes: float  # the peak of one of its processes


def sweep_with_lenet_jax(task: Sweep, launcher: str, strategy: str) -> Swept:
    """Run `lenet-jax train -m`, with nothing compiled before."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            *(f"seed=range({task.seeds})", f"optimizer.learning_rate={','.join(map(str, task.rates))}"),
            *(f"data={task.data}", *(f"data.{name}={value}" for name, value in _data_options(task).items())),
            *(f"trainer.batch_size={task.batch}", f"trainer.max_epochs={task.epochs}"),
            *(f"model.num_kernels={list(task.maps)}".replace(" ", ""), f"model.hidden_units={task.hidden}"),
            *("trainer.early_stopping.enabled=false", f"sweep.strategy={strategy}"),
            *(f"hydra/launcher={launcher}", f"hydra.sweep.dir={folder}/sweep"),
        ]
        command = [sys.executable, "-m", "lenet_jax", "train", "-m", *arguments]
        seconds = _run([command], {"XDG_CACHE_HOME": f"{folder}/cache", "MPLCONFIGDIR": mpl.get_cachedir()})
        return _collect(Path(folder), task.num_jobs, seconds)


def sweep_with_plain_jax(task: Sweep, *, scan: bool, seeds: int | None = None) -> Swept:
    """Run a plain script by Hydra's basic launcher; of `seeds` seeds only, and the others are taken to need as long."""
    with tempfile.TemporaryDirectory() as folder:
        run = seeds or task.seeds
        options = [*_options(task, folder), f"scan={scan}", f"hydra.sweep.dir={folder}/sweep"]
        options = [option.replace(" ", "") for option in options]
        sweep = [f"learning_rate={','.join(map(str, task.rates))}", f"seed=range({run})"]
        command = [sys.executable, "-m", "experiments.benchmarks.systems.plain_jax_job", "-m", *options, *sweep]
        num_jobs = run * len(task.rates)
        swept = _collect(Path(folder), num_jobs, _run([command]))
        seconds = statistics.median(result["seconds"] for result in _results(Path(folder)))
        return swept._replace(seconds=swept.seconds + (task.num_jobs - num_jobs) * seconds)


def sweep_with_pytorch(task: Sweep) -> Swept:
    """Run one process after another."""
    with tempfile.TemporaryDirectory() as folder:
        common = dict(option.split("=", 1) for option in _options(task, folder))
        commands = []
        for number, (rate, seed) in enumerate(itertools.product(task.rates, range(task.seeds))):
            (Path(folder) / str(number)).mkdir()
            values = {name: value if name == "data" else json.loads(value) for name, value in common.items()}
            options = json.dumps({**values, "seed": seed, "learning_rate": rate})
            module = "experiments.benchmarks.systems.pytorch_job"
            commands.append([sys.executable, "-m", module, f"{folder}/{number}", options])
        return _collect(Path(folder), task.num_jobs, _run(commands))


def _data_options(task: Sweep) -> dict[str, int]:
    sizes = {"train_size": task.images}
    return sizes if task.data == "embedded" else {**sizes, "validation_size": task.images // 10}


def _options(task: Sweep, folder: str) -> list[str]:
    """Write the images into a file; return it and the other options of a job."""
    name, source = ("mnist_5k", "embedded") if task.data == "embedded" else (task.data, "tfds")
    data = load_dataset(name, source, **_data_options(task))
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    arrays = {f"{name}_{part}": getattr(split, part) for name, split in splits.items() for part in ("images", "labels")}
    np.savez(f"{folder}/data.npz", **arrays)
    values = {"epochs": task.epochs, "batch": task.batch, "maps": list(task.maps), "hidden": task.hidden}
    return [f"data={folder}/data.npz", *(f"{name}={value}" for name, value in values.items())]


def _run(commands: Sequence[list[str]], environment: Mapping[str, str] = {}) -> float:
    """Run commands one after another; return the seconds that they take together."""
    begin = time.perf_counter()
    for command in commands:
        ended = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
        if ended.returncode != 0:
            raise RuntimeError(f"a job failed: {(ended.stderr or ended.stdout).strip().splitlines()[-1:]}")
    return time.perf_counter() - begin


def _collect(folder: Path, num_jobs: int, seconds: float) -> Swept:
    accuracies = [result["validation_accuracy"] for result in _results(folder)]
    if len(accuracies) != num_jobs:
        raise RuntimeError(f"there must be {num_jobs} results; there are {len(accuracies)}.")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Swept(statistics.fmean(accuracies), seconds, peak)


def _results(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in folder.rglob("result.json")]
