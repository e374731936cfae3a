"""The command `plan`: what a run or a sweep would cost, by its compiled programs and a few steps of each."""

import json
from typing import Any

from lenet_jax.cli.run import parse_overrides, print_lines
from lenet_jax.errors import InputError

_ANSWERS = ("help", "hydra_help", "version", "cfg", "info", "resolve", "shell_completion")
"""Options of Hydra which ask for something else; `lenet-jax train` has them."""


def plan(arguments: list[str]) -> int:
    """Run `lenet-jax plan` and return its exit code."""
    from lenet_jax.hydra_app.composition import is_multirun, open_hydra

    options, folders = parse_overrides("plan", arguments, switches=("--json",), values=("--devices",))
    name, overrides, max_devices = options.config_name or "config", options.overrides, _devices(options.devices)
    asked = next((each for each in _ANSWERS if getattr(options, each, None)), None)
    if asked is not None:
        raise InputError(
            f"plan: has no `--{asked.replace('_', '-')}`; use lenet-jax train --{asked.replace('_', '-')}."
        )
    with open_hydra(**folders) as hydra:
        if options.multirun or is_multirun(hydra, overrides, name=name):
            groups, directory, launcher, notes = _sweep(hydra, name, overrides)
        else:
            groups, directory, launcher, notes = _single_run(hydra, name, overrides)
        from lenet_jax.report.plan import plan_lines, plan_values
        from lenet_jax.sweeps.dry_run import measure_groups

        costs, given = measure_groups(groups), {"launcher": launcher, "max_devices": max_devices}
        if options.json:
            return print_lines([json.dumps(plan_values(costs, directory, **given), indent=2)])
        return print_lines([*notes, *plan_lines(costs, directory, **given)])


def _devices(text: str | None) -> int | None:
    if text is not None and not (text.isdecimal() and int(text) > 0):
        raise InputError(f"plan: `--devices` must be an integer, 1 or above; got {text!r}.")
    return None if text is None else int(text)


def _sweep(hydra: Any, name: str, overrides: list[str]) -> Any:
    from lenet_jax.hydra_app.sweep import check_sweep, plan_sweep

    return plan_sweep(check_sweep(hydra, overrides, name=name))


def _single_run(hydra: Any, name: str, overrides: list[str]) -> Any:
    from lenet_jax.hydra_app.debug_modes import refuse_mode
    from lenet_jax.hydra_app.single_run import prepare_single_run
    from lenet_jax.sweeps.dry_run import plan_run

    run = prepare_single_run(hydra, overrides, name=name)
    refuse_mode(run.composed, "a command of its own, lenet-jax train")
    directory = str(run.directory)
    return [plan_run(overrides, run.prepared, run.directory)], directory, "", []
