"""Measures the recorded figures of experiments/ again: every run that a `claims.toml` lists, one after another.

    python -m experiments.reproduce theano_lenet csu_scg      # of all experiments without a name
    python -m experiments.reproduce --list

The `[[runs]]` of a `claims.toml` say what to train and where the record lies. Each run is a process of its own, begun
below `outputs/reproduce`; a stopped one is resumed by the same command, and a finished one is not repeated. When all
have ended, their `run.json`, `metrics.jsonl` and `result.json` replace the records, with the figures of the first seed,
and the tables are written anew.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments import index

FILES = ("run.json", "metrics.jsonl", "result.json")


class RecordedRun(NamedTuple):
    """A run whose record an experiment shows."""

    record: Path  # relative to experiments/
    options: tuple[str, ...]  # of `lenet-jax train`
    report: tuple[str, ...] | None  # options of `lenet-jax report`, if the record has figures


def known_experiments() -> list[str]:
    """Return the names of the experiments that have records."""
    return sorted(path.parent.name for path in index.ROOT.glob("*/claims.toml"))


def recorded_runs(experiments: Sequence[str]) -> Iterator[RecordedRun]:
    """Yield the runs of experiments, in the order of their `claims.toml`."""
    for name in experiments:
        for runs in tomllib.loads((index.ROOT / name / "claims.toml").read_text())["runs"]:
            for seed in range(runs.get("seeds", 1)):
                report = tuple(runs.get("report", ())) if seed == 0 else None
                yield RecordedRun(
                    Path(name, runs["record"].format(seed=seed)), (*runs["options"], f"seed={seed}"), report
                )


def train(run: RecordedRun, directory: Path) -> None:
    """Train the run to its end, and draw its figures.

    Raises:
        subprocess.CalledProcessError: if a command fails; the next call goes on from there.
    """
    if not (directory / "result.json").exists():
        started = (directory / "run.json").exists()
        _lenet_jax(*(["resume", str(directory)] if started else ["train", *run.options, f"hydra.run.dir={directory}"]))
    if run.report is not None:
        _lenet_jax("report", str(directory), *run.report)


def replace_record(run: RecordedRun, directory: Path) -> None:
    """Put the files of a finished run in the place of its record."""
    record = index.ROOT / run.record
    shutil.rmtree(record, ignore_errors=True)
    record.mkdir(parents=True)
    for name in FILES:
        shutil.copy(directory / name, record)
    if run.report is not None:
        shutil.copytree(directory / "figures", record / "figures")


def _lenet_jax(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "lenet_jax", *arguments], check=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the runs of the named experiments."""
    known = known_experiments()
    parser = argparse.ArgumentParser(prog="python -m experiments.reproduce", description=__doc__.partition("\n")[0])
    parser.add_argument("experiment", nargs="*", help=f"of {', '.join(known)}; all if none is named")
    parser.add_argument("--output", type=Path, default=Path("outputs/reproduce"), help="folder of the runs")
    parser.add_argument("--list", action="store_true", help="only print the commands")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.experiment if name not in known]:
        parser.error(f"unknown experiment {', '.join(unknown)}; there are {', '.join(known)}")
    runs = {run: options.output / run.record for run in recorded_runs(options.experiment or known)}
    for run, directory in runs.items():
        print("lenet-jax train", *run.options, f"hydra.run.dir={directory}", flush=True)
        if not options.list:
            train(run, directory)
    if not options.list:  # at the end: a record says whether the files of its repository were changed
        for run, directory in runs.items():
            replace_record(run, directory)
        index.write_pages()


if __name__ == "__main__":
    main()
