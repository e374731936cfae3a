"""Lines about the comparison of runs."""

from collections.abc import Sequence
from typing import Any

from lenet_jax.report.text import is_fraction, show_metric, spoken
from lenet_jax.runs import FRACTIONS
from lenet_jax.sweeps.compare import ABSENT, Comparison, McNemar, Run, Side
from lenet_jax.sweeps.replicates import replicate_in_words
from lenet_jax.sweeps.statistics import describe_sample, printable


def side_lines(sides: Sequence[Side]) -> list[str]:
    """Return a line for each side: its letter, its name, its runs and the mean of their test metric."""
    lines = []
    for side in sides:
        metric, values = side.monitor.metric, [*side.values.values()]
        text = "no finite value"
        if values:
            found = describe_sample(
                values,
                is_fraction=metric in FRACTIONS,
                examples=side.runs[0].result.get("test_examples"),
            )
            sd = "" if found.sd is None else f" ± {show_metric(metric, found.sd).removesuffix('%')}"
            text = show_metric(metric, found.mean) + sd
            if found.interval is not None:
                of = f"of the mean over the {side.replicates}" if found.n > 1 else "Wilson's, over its test images"
                low, high = (show_metric(metric, end) for end in found.interval)
                text += f", 95 % interval {low} to {high} ({of})"
        flaw = f" ({side.runs[0].flaw})" if side.runs[0].flaw else ""
        lines.append(f"{side.name}: {_count(side.runs)}{flaw}, test {spoken(metric)} {text}")
    return [printable(line) for line in lines]


def left_out_lines(runs: Sequence[Run]) -> list[str]:
    """Return a line about the runs that are left out of a comparison, and why; none if there are none."""
    names: dict[str, list[str]] = {}
    for run in runs:
        names.setdefault(run.flaw, []).append(f"{run.name} ({replicate_in_words(run.replicate)})")
    if not names:
        return []
    reasons = "; ".join(f"{flaw}: {', '.join(each)}" for flaw, each in names.items())
    return [printable(f"left out: {_count(runs)}: {reasons}")]


def _count(runs: Sequence[Run]) -> str:
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''}"


def several_lines(sides: Sequence[Side]) -> list[str]:
    """Return a line about the intervals of several comparisons; none for two sides."""
    if len(sides) < 3:
        return []
    return ["", f"Each 95 % interval is of one difference by itself; of {len(sides) - 1} some may miss by chance."]


def comparison_lines(comparison: Comparison, test: McNemar | str | None = None) -> list[str]:
    """Return the difference between two sides, its interval, McNemar's test and the keys that differ, as lines.

    Args:
        comparison: of the sides.
        test: McNemar's test; a text: why it is left out; None: it is not for these sides.
    """
    one, other, metric = comparison.one, comparison.other, comparison.one.monitor.metric
    interval, method = comparison.interval, comparison.method
    if isinstance(test, McNemar) and metric == "accuracy":
        interval, method = test.interval, f"the same {test.examples:,} test images, Agresti and Min"
    ends = (
        "" if interval is None else f", 95 % interval {_signed(metric, interval[0])} to {_signed(metric, interval[1])}"
    )
    lines = [
        "",
        f"{other.name} - {one.name}: test {spoken(metric)} {_signed(metric, comparison.difference)}{ends} ({method})",
    ]
    if comparison.unpaired:
        lines.append(f"without a pair: {', '.join(comparison.unpaired)}")
    if isinstance(test, str):
        lines.append(f"McNemar's test is left out: {test}")
    elif test is not None:
        lines.append(
            f"McNemar's exact test: the first alone is right on {test.only_one:,} images, the second alone on "
            f"{test.only_other:,}; p = {test.p:.3g}"
        )
    lines += [_changed(comparison, *each) for each in comparison.changed] or ["changed: nothing"]
    return [printable(line) for line in lines]


def _changed(comparison: Comparison, key: str, old: Any, new: Any) -> str:
    if old is ABSENT or new is ABSENT:
        side, value = (comparison.other, new) if old is ABSENT else (comparison.one, old)
        return f"only in {side.name}: {key}: {value!r}"
    return f"changed: {key}: {old!r} -> {new!r}"


def _signed(metric: str, value: float) -> str:
    return f"{100 * value:+.2f} points" if is_fraction(metric) else f"{value:+.4g}"
