"""The command that compares runs and sweeps."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lenet_jax.cli.options import parse
from lenet_jax.errors import InputError


def compare(arguments: list[str]) -> int:
    """Print the differences between runs, or the configurations of sweeps, and return the exit code."""
    from lenet_jax.report.comparison import comparison_lines, side_lines
    from lenet_jax.sweeps.compare import Side, read_sides
    from lenet_jax.sweeps.compare import compare as compare_sides

    options = parse("compare", arguments)
    if not options.rest:
        raise InputError("compare: usage: lenet-jax compare DIR [DIR ...], of finished runs or sweeps.")
    sides = read_sides([Path(name) for name in options.rest])
    for line in side_lines(sides):
        print(line)

    def is_single(side: Side) -> bool:
        return len(side.runs) == 1

    test = None
    if len(sides) == 2 and all(map(is_single, sides)):
        test = _test(*(side.runs[0].directory for side in sides), allowed=options.allowed)
    for other in sides[1:]:
        for line in comparison_lines(compare_sides(sides[0], other), test):
            print(line)
    return 0


def _test(one: Path, other: Path, *, allowed: Iterable[str]) -> Any:
    """Return McNemar's test of two runs; None if they are no classifiers of the same test images with their weights."""
    import numpy as np

    from lenet_jax.runs.evaluate import evaluate_run
    from lenet_jax.runs.run_directory import file_of_result
    from lenet_jax.runs.trust import read_allowed
    from lenet_jax.sweeps.compare import mcnemar

    records = [read_allowed(directory, allowed) for directory in (one, other)]
    names = [file_of_result(record.config.trainer.weights) for record in records]
    if not all((record.directory / name).is_file() for record, name in zip(records, names, strict=True)):
        return None
    first, second = map(evaluate_run, records)
    if first.predictions is None or second.predictions is None:
        return None
    same = all(
        np.array_equal(getattr(first.split, part), getattr(second.split, part)) for part in ("inputs", "targets")
    )
    return mcnemar(np.asarray(first.split.targets), first.predictions, second.predictions) if same else None
