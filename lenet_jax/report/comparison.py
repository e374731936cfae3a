"""Lines about the comparison of runs."""

from collections.abc import Sequence

from lenet_jax.report.text import is_fraction, show_metric, spoken
from lenet_jax.runs import FRACTIONS
from lenet_jax.sweeps.compare import Comparison, McNemar, Side
from lenet_jax.sweeps.statistics import describe_sample, printable


def side_lines(sides: Sequence[Side]) -> list[str]:
    """Return a line for each side: its letter, its name, its runs and the mean of their test metric."""
    lines = []
    for side in sides:
        metric, values = side.monitor.metric, [value for _, value in side.values]
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
        runs = f"{len(side.runs)} run{'s' if len(side.runs) > 1 else ''}"
        lines.append(f"{side.name}: {runs}, test {spoken(metric)} {text}")
    return [printable(line) for line in lines]


def comparison_lines(comparison: Comparison, test: McNemar | None = None) -> list[str]:
    """Return the difference between two sides, its interval, McNemar's test and the keys that differ, as lines."""
    one, other, metric = comparison.one, comparison.other, comparison.one.monitor.metric
    interval, method = comparison.interval, comparison.method
    if test is not None and metric == "accuracy":
        interval, method = test.interval, f"the same {test.examples:,} test images, Agresti and Min"
    ends = (
        "" if interval is None else f", 95 % interval {_signed(metric, interval[0])} to {_signed(metric, interval[1])}"
    )
    lines = [
        "",
        f"{other.name} - {one.name}: test {spoken(metric)} {_signed(metric, comparison.difference)}{ends} ({method})",
    ]
    if test is not None:
        lines.append(
            f"McNemar's exact test: the first alone is right on {test.only_one:,} images, the second alone on "
            f"{test.only_other:,}; p = {test.p:.3g}"
        )
    lines += [f"changed: {key}: {old!r} -> {new!r}" for key, old, new in comparison.changed] or ["changed: nothing"]
    return [printable(line) for line in lines]


def _signed(metric: str, value: float) -> str:
    return f"{100 * value:+.2f} points" if is_fraction(metric) else f"{value:+.4g}"
