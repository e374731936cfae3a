"""The modes of the group `debug` that are no runs."""

import functools
import sys
from pathlib import Path

from lenet_jax.data.streams import check_in_memory
from lenet_jax.hydra_app.single_run import SingleRun
from lenet_jax.report.learning_rates import draw_rates, rate_table
from lenet_jax.report.terminal import shortened
from lenet_jax.report.text import align
from lenet_jax.runs.finite import find_not_finite
from lenet_jax.runs.learning_rates import check_has_rate, find_learning_rates
from lenet_jax.runs.overfit import NUM_STEPS, THRESHOLD, overfit
from lenet_jax.runs.prepared_run import PreparedRun
from lenet_jax.runs.profile import TRACE, profile


def debug(run: SingleRun, mode: str) -> int:
    """Do what a mode of `debug_modes.MODES` asks for; return 1 if it has found a fault."""
    check_in_memory(run.prepared.data, f"debug={mode}")
    if mode == "profile":
        return run.in_directory(functools.partial(_profile, run.prepared))
    if mode == "lr_find":
        check_has_rate(run.prepared)
        return run.in_directory(functools.partial(_find_learning_rate, run.prepared))
    return {"overfit": _overfit, "nan": _nan}[mode](run.prepared)


def _overfit(prepared: PreparedRun) -> int:
    for progress in overfit(prepared):
        print(f"step {progress.step:4}  loss {progress.loss:.6f}", flush=True)
    if progress.reached:
        print(f"The loss on one minibatch is near zero: at most {progress.goal:.6f}, {THRESHOLD:.0%} of the first.")
        return 0
    end = "diverged" if progress.diverged else f"is {progress.loss:.6f} after {NUM_STEPS:,} steps"
    print(
        f"lenet-jax: the loss on one minibatch {end}, not at most {progress.goal:.6f}, {THRESHOLD:.0%} of the first: "
        "model, objective or labels are broken, or the learning rate does not fit.",
        file=sys.stderr,
    )
    return 1


def _nan(prepared: PreparedRun) -> int:
    found, num_steps = find_not_finite(prepared)
    if found is None:
        print(f"{num_steps} steps: all values were finite")
        return 0
    name, *others = found.names
    fault = f"{found.count} of {found.size} values are NaN or infinite" if found.count else "too large to be squared"
    more = f"; and {len(others)} more like it" if others else ""
    print(f"lenet-jax: step {found.step}: {name} is not finite: {fault}{more}", file=sys.stderr)
    return 1


def _profile(prepared: PreparedRun, directory: Path) -> int:
    parts = profile(prepared, directory)
    step = next(part for part in parts if part.name == "step").seconds
    cells = [("part", "milliseconds", "of a step", "compilation, s")]
    for part in parts:
        share = "" if part.name == "evaluation" else f"{part.seconds / step:.0%}"
        cells.append((part.name, f"{1000 * part.seconds:.3f}", share, f"{part.compile_seconds:.2f}"))
    for line in align(cells):
        print(line)
    print()
    for line in _PROFILE_NOTES:
        print(line)
    print(f"trace: {shortened(directory / TRACE)}")
    return 0


_PROFILE_NOTES = (
    "Medians. Each part is a program of its own, so that they need not add up to a step, which is one program. data: a",
    "minibatch is gathered. forward: augmentation, network, loss. backward: the gradient's program less forward.",
    "evaluation: the whole validation set.",
)


def _find_learning_rate(prepared: PreparedRun, directory: Path) -> int:
    found = find_learning_rates(prepared)
    for line in rate_table(found):
        print(line)
    print()
    if found.best is None:
        print(f"lenet-jax: all runs diverged, also that at the lowest rate, {found.rates[0]:.3g}", file=sys.stderr)
        return 1
    path = directory / "learning_rates.png"
    draw_rates(found, found.best).savefig(path)
    rate = f"{found.rates[found.best]:.3g}"
    print(f"suggested: optimizer.learning_rate={found.suggested:.2g}, a third of {rate}, which has the lowest loss")
    print(f"figure: {shortened(path)}")
    return 0
