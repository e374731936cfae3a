"""The command that compares runs and sweeps."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lenet_jax.cli.options import parse
from lenet_jax.errors import InputError


def compare(arguments: list[str]) -> int:
    """Print the differences between runs, or the configurations of sweeps, and return the exit code."""
    from lenet_jax.report.comparison import comparison_lines, left_out_lines, several_lines, side_lines
    from lenet_jax.sweeps.compare import Side, read_sides
    from lenet_jax.sweeps.compare import compare as compare_sides

    options = parse("compare", arguments)
    if not options.rest:
        raise InputError("compare: usage: lenet-jax compare DIR [DIR ...], of finished runs or sweeps.")
    sides, left_out = read_sides([Path(name) for name in options.rest])
    for line in [*side_lines(sides), *left_out_lines(left_out)]:
        print(line)

    def is_single(side: Side) -> bool:
        return len(side.runs) == 1

    test = None
    if len(sides) == 2 and all(map(is_single, sides)):
        test = _test(*(side.runs[0].directory for side in sides), allowed=options.allowed)
    for other in sides[1:]:
        for line in comparison_lines(compare_sides(sides[0], other), test):
            print(line)
    for line in several_lines(sides):
        print(line)
    return 0


def _test(one: Path, other: Path, *, allowed: Iterable[str]) -> Any:
    """Return McNemar's test of two runs, or why there is none, in words."""
    import numpy as np

    from lenet_jax.errors import describe_error
    from lenet_jax.runs.evaluate import evaluate_run, same_examples
    from lenet_jax.runs.trust import read_allowed
    from lenet_jax.sweeps.compare import mcnemar

    try:
        first, second = (evaluate_run(read_allowed(directory, allowed)) for directory in (one, other))
    except (InputError, OSError) as error:
        return describe_error(error).rstrip(".")
    if first.predictions is None or second.predictions is None:
        return f"{one if first.predictions is None else other} is no classifier of examples with one label each"
    if first.has_changed or second.has_changed:
        return f"the data of {one if first.has_changed else other} have changed since it ran"
    if not same_examples(first.split, second.split):
        return "the test examples of the two runs differ"
    return mcnemar(np.asarray(first.split.targets), first.predictions, second.predictions)
