"""The configuration of a run: every key, its default and its range.

A component (a model, a data set, an optimizer, ...) is a mapping that names a function by its import path, under
`_target_`, and that function's options; `lenet_jax.components` checks them and calls it. The rest are dataclasses that
check themselves when they are built. This package imports neither jax nor hydra.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lenet_jax.config.catalogue import GROUPS, TARGET, built_in
from lenet_jax.config.checks import (
    Count,
    Decay,
    Fraction,
    Iterations,
    NonNegative,
    NonNegativeInt,
    Positive,
    Seed,
    Text,
    build,
    config_dataclass,
    mapping,
)
from lenet_jax.config.checks import convert as convert
from lenet_jax.config.first_edition import RENAMED, upgrade
from lenet_jax.errors import InputError, unknown_name

__all__ = [
    "RUN_KEYS",
    "Config",
    "DistributedConfig",
    "EarlyStoppingConfig",
    "SweepConfig",
    "TrainerConfig",
    "beside_a_job",
    "from_dict",
    "renamed_key",
    "to_dict",
    "without_seed",
]

Node = Mapping[str, Any]  # a component, several of them by name, or a list of them


@config_dataclass("trainer.early_stopping")
class EarlyStoppingConfig:
    """The patience rule of the Theano tutorials, counted in minibatch iterations."""

    enabled: bool = True
    patience: Iterations = 10_000  # iterations that a run is always given
    patience_increase: Count = 2  # a significant improvement extends patience to this times its iteration
    improvement_threshold: Fraction = 0.995  # an error below this times the best one is significant
    min_delta: NonNegative = 0.0  # and it must be below the best one by more than this


@config_dataclass("trainer")
class TrainerConfig:
    """Length, batching and precision of training."""

    batch_size: Count | None = 50  # examples a step; what is left over of an epoch is dropped; null: the whole set
    max_epochs: Count = 20  # passes over the training set, at most
    shuffle: bool = True  # a new order in each epoch; false: the order of the data
    checkpoint_every: Count | None = 1  # epochs from one checkpoint to the next; null: none
    matmul_precision: Literal["default", "high", "highest"] = "highest"  # highest: no TensorFloat-32 on a GPU
    compute_dtype: Literal["float32", "bfloat16"] = "float32"  # of activations; parameters stay float32
    grad_accumulation_steps: Count = 1  # microbatches of a minibatch whose gradients are summed, to save memory
    clip_norm: Positive | None = None  # gradients with a larger Euclidean norm are scaled to it
    ema_decay: Decay | None = None  # decay of the weights' moving average, which evaluation then uses
    deterministic: bool = False  # on a GPU: the same bits each time, slower
    weights: Literal["best", "last", "both"] = "best"  # of the result; both: the best, with the last measured beside
    keep_state: bool = False  # the last checkpoint of a finished run, which `lenet-jax extend` goes on from
    running_metrics: bool = False  # also of the minibatches while they are trained on, as Keras prints them
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()


@config_dataclass("sweep")
class SweepConfig:
    """How the jobs of a sweep run; none of it decides the result of a job."""

    strategy: Literal["auto", "map", "devices", "vmap"] = "auto"  # see lenet_jax/runs/programs.py
    max_parallel: Count | None = None  # jobs trained in parallel; null: one a device, on a GPU what fits, at most 64
    on_failure: Literal["continue", "stop"] = "continue"  # stop: a failure leaves the remaining jobs pending


@config_dataclass("distributed")
class DistributedConfig:
    """How the processes of one run find each other; none of it decides the result."""

    detect: bool = False  # what SLURM or Open MPI says of them, who have started them
    coordinator: Text | None = None  # HOST:PORT at which the first one waits for the others; null: there are no others
    num_processes: Count | None = None
    process_id: NonNegativeInt | None = None  # number of this one, from 0
    timeout: Count = 300  # seconds to wait for the others

    @property
    def is_distributed(self) -> bool:
        """Return whether there are several processes."""
        return self.detect or self.coordinator is not None

    def check(self) -> None:
        """Check that the options belong together.

        Raises:
            InputError: if one is missing, or out of the range that another gives it.
        """
        host, _, port = (self.coordinator or "").rpartition(":")
        if self.coordinator is not None and not (host and port.isdecimal() and 0 < int(port) < 2**16):
            raise InputError(
                f"`distributed.coordinator` must be HOST:PORT, with a port of 1 to 65535; got {self.coordinator!r}."
            )
        own = {"num_processes": self.num_processes, "process_id": self.process_id}
        for name, value in own.items():
            if self.coordinator is None and not self.detect and value is not None:
                raise InputError(f"`distributed.{name}` must come with distributed.coordinator=HOST:PORT; got none.")
            if self.coordinator is not None and not self.detect and value is None:
                raise InputError(
                    f"`distributed.{name}` must be given with distributed.coordinator; got none; give it, or choose "
                    "distributed=auto in a job of SLURM or Open MPI."
                )
        if self.num_processes and self.process_id is not None and self.process_id >= self.num_processes:
            raise InputError(
                f"`distributed.process_id` must be 0 to distributed.num_processes - 1, {self.num_processes} - 1; got "
                f"{self.process_id}."
            )


def beside_a_job(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of the composition of a job that decide no result: those of a run alone.

    Args:
        sweep: the options of the sweep.
    """
    return {"sweep": dict(sweep), "distributed": dict(vars(DistributedConfig()))}


_DEFAULT_OPTIONS = {
    "model": "lenet",
    "data": "embedded",
    "optimizer": "sgd",
    "schedule": "constant",
    "objective": "classification",
    "sharding": "none",
}


@dataclass(frozen=True)
class Config:
    """A run: all that decides its result, together with the code and the data."""

    seed: Seed = 0  # of initialization, shuffling, augmentation and dropout
    notes: str = ""  # what the user wants to remember of the run; decides nothing
    tags: Sequence[str] = ()  # words to find it by; the same
    init: str | None = None  # a run or a safetensors file with initial weights; null: the seed makes all of them
    init_include: Sequence[str] = ("*",)  # patterns of the paths of weights that are taken from there, as conv1/*
    init_exclude: Sequence[str] = ()  # and of those that are not
    model: Node = dataclasses.field(default_factory=lambda: _default("model"))
    data: Node = dataclasses.field(default_factory=lambda: _default("data"))
    optimizer: Node = dataclasses.field(default_factory=lambda: _default("optimizer"))
    schedule: Node = dataclasses.field(default_factory=lambda: _default("schedule"))  # a factor on the learning rate
    augment: Any = dataclasses.field(default_factory=dict)  # one, several by name in their order, or a list of them
    objective: Node = dataclasses.field(default_factory=lambda: _default("objective"))
    trackers: Any = dataclasses.field(default_factory=dict)  # the same
    sharding: Node = dataclasses.field(default_factory=lambda: _default("sharding"))  # of one run over devices
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", convert("seed", Seed, self.seed))
        convert("trainer", TrainerConfig, self.trainer)
        object.__setattr__(self, "notes", convert("notes", str, self.notes))
        for name in ("tags", "init_include", "init_exclude"):
            object.__setattr__(self, name, convert(name, tuple[str, ...], getattr(self, name)))
        convert("init", Text | None, self.init)
        for group in GROUPS:
            node = getattr(self, group)
            if group in _DEFAULT_OPTIONS and not (isinstance(node, Mapping) and isinstance(node.get(TARGET), str)):
                raise InputError(
                    f"`{group}` must name its function, as {group}.{TARGET}=package.module.function; got {node!r}."
                )


def _default(group: str) -> Node:
    return built_in(group)[_DEFAULT_OPTIONS[group]]


def from_dict(values: Mapping[str, Any]) -> Config:
    """Build a configuration from nested dictionaries, as a YAML or JSON file holds it: `to_dict` reversed.

    A configuration as the first edition recorded it is read as what it is called now.

    Raises:
        InputError: if a key is unknown or a value is out of its range; the message has the key's full path.
    """
    parts = upgrade(mapping("configuration", values))
    fields = {field.name for field in dataclasses.fields(Config)}
    for name in parts:
        if name not in fields:
            raise renamed_key(name) or unknown_name("configuration", name, fields)
    trainer = parts.get("trainer", {})
    for name in trainer if isinstance(trainer, Mapping) else ():
        if (error := renamed_key(f"trainer.{name}")) is not None:
            raise error
    return build(Config, "", parts)


def to_dict(config: Config) -> dict[str, Any]:
    """Return a configuration as nested dictionaries and lists of plain values."""
    return {field.name: _to_plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


RUN_KEYS = ("seed", "notes", "tags")
"""Keys in which runs of one configuration may differ; notes and tags decide nothing."""


def without_seed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what runs of one configuration have in common: all but the seed, and notes and tags, which decide nothing.

    Args:
        values: a configuration, the result of `to_dict`.
    """
    return {key: value for key, value in values.items() if key not in RUN_KEYS}


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _to_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(each) for each in value]
    return value


def renamed_key(path: str) -> InputError | None:
    """Return the error for a key of the first edition, with its new name; None for any other."""
    new = RENAMED.get(path)
    return None if new is None else InputError(f"`{path}` is called `{new}` now; use that.")
