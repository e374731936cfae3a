"""Configurations of the first edition: what their keys are called now, and records of them read.

The first edition named a component by a word, under `name`, that one of its own tables knew.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from lenet_jax.config.catalogue import TARGET, built_in, read_signature

RENAMED = {
    "trainer.num_portions": "trainer.grad_accumulation_steps",
    "trainer.label_smoothing": "objective.label_smoothing",
    "sweep.max_lanes": "sweep.max_parallel",
    "model.form": "model.variant",
    "model.name": "model._target_",
    "optimizer.name": "optimizer._target_",
    "schedule.name": "schedule._target_",
    "augment.name": "augment._target_",
    "data.source": "data._target_",
}
"""Key of the first edition -> key now."""

_RENAMED_TENSORS = {"best_validation/num_correct": "best_validation/sums/accuracy"}


def rename_tensors(names: Iterable[str]) -> dict[str, str]:
    """Return the names of the tensors in a checkpoint -> their names now; what is not kept any more is left out.

    The first edition kept hyperparameters in the optimizer's state, beside its `inner_state`.
    """
    names = list(names)
    injected = {name.partition("hyperparams/")[0] for name in names if "/hyperparams/" in name}
    renamed = {}
    for name in names:
        new = _RENAMED_TENSORS.get(name, name)
        for prefix in injected:
            rest = new.removeprefix(prefix) if new.startswith(prefix) else ""
            if rest.startswith("inner_state/"):
                new = prefix + rest.removeprefix("inner_state/")
            elif rest == "count" or rest.startswith("hyperparams/"):
                new = ""
        if new:
            renamed[name] = new
    return renamed


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with what the first edition recorded in the words of today; any other is unchanged."""
    parts = dict(values)
    for group in ("model", "optimizer", "schedule", "augment", "data"):
        if _is_of_first_edition(group, parts.get(group)):
            parts[group] = _upgrade_component(group, parts[group])
            _upgrade_trainer(parts)
    return parts


def _is_of_first_edition(group: str, part: Any) -> bool:
    return isinstance(part, Mapping) and TARGET not in part and ("source" if group == "data" else "name") in part


def _upgrade_component(group: str, part: Mapping[str, Any]) -> Any:
    options = {RENAMED.get(f"{group}.{key}", key).rpartition(".")[2]: value for key, value in part.items()}
    name = options.pop(TARGET)
    if group == "data":
        found: Mapping[str, Any] = {TARGET: f"lenet_jax.data.load_{name}"}
        signature = read_signature(found[TARGET])  # a source took the options of all others, without effect
        options = {key: value for key, value in options.items() if signature and key in signature.parameters}
    else:
        found = built_in(group).get(name, {TARGET: str(name)}) if isinstance(name, str) else {TARGET: str(name)}
    return {**found, **options} if found else {}


def _upgrade_trainer(parts: dict[str, Any]) -> None:
    trainer = parts.get("trainer")
    if not isinstance(trainer, Mapping):
        return
    trainer = dict(trainer)
    if "num_portions" in trainer:
        trainer["grad_accumulation_steps"] = trainer.pop("num_portions")
    if "label_smoothing" in trainer:
        smoothing = trainer.pop("label_smoothing")
        parts.setdefault("objective", {**built_in("objective")["classification"], "label_smoothing": smoothing})
    parts["trainer"] = trainer
