"""The schema of `conf/`: every configuration key, its default, and the rule that its value must keep.

The classes are frozen and check themselves when they are built, so an invalid configuration cannot exist: not from the
command line (Hydra's values become these classes before data or device are touched) and not from Python. This module
imports neither jax nor hydra.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, dataclass_transform

from lenet_jax.errors import InputError, unknown_name


T = TypeVar("T")


class Rule(NamedTuple):
    """What a configuration value must satisfy; `text` completes the sentence "`key` must be ..."."""

    holds: Callable[[Any], bool]
    text: str


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _integers(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_positive_integer, value))


def _one_of(*names: str) -> Rule:
    return Rule(lambda value: value in names, f"one of {', '.join(names)}" if len(names) > 1 else f"{names[0]!r}")


def _optional(rule: Rule) -> Rule:
    return Rule(lambda value: value is None or rule.holds(value), f"null or {rule.text}")


POSITIVE = Rule(lambda v: _number(v) and v > 0, "a finite number above 0")
NON_NEGATIVE = Rule(lambda v: _number(v) and v >= 0, "a finite number, 0 or above")
FRACTION = Rule(lambda v: _number(v) and 0 <= v <= 1, "a number from 0 to 1")
DECAY = Rule(lambda v: _number(v) and 0 <= v < 1, "a number from 0 up to, not including, 1")
COUNT = Rule(_positive_integer, "an integer, 1 or above")
NATURAL = Rule(lambda v: v == 0 or _positive_integer(v), "an integer, 0 or above")
SEED = Rule(lambda v: NATURAL.holds(v) and v < 2**32, "an integer from 0 to 4294967295")
COUNTS = Rule(lambda v: _integers(v) and len(v) > 0, "a list of integers, each 1 or above")
TWO_COUNTS = Rule(lambda v: _integers(v) and len(v) == 2, "a list of two integers, each 1 or above")
SWITCH = Rule(lambda v: isinstance(v, bool), "true or false")
TEXT = Rule(lambda v: isinstance(v, str) and v != "", "a text that is not empty")


def _key(rule: Rule, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"rule": rule})


def _check(config: Any, path: str) -> None:
    """Raise `InputError`, with the key's full path, for the first value that breaks its rule."""
    for field in dataclasses.fields(config):
        rule, value = field.metadata.get("rule"), getattr(config, field.name)
        if rule is not None and not rule.holds(value):
            key = f"{path}.{field.name}" if path else field.name
            raise InputError(f"`{key}` must be {rule.text}; got {value!r}.")


@dataclass_transform(frozen_default=True, field_specifiers=(_key,))
def _section(path: str) -> Callable[[type[T]], type[T]]:
    """Make a frozen dataclass that checks its values when it is built; `path` is its place in the configuration."""

    def post_init(self: Any) -> None:
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):  # as a sequence arrives from YAML
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
        _check(self, path)

    def decorate(cls: type[T]) -> type[T]:
        cls.__post_init__ = post_init  # pyright: ignore[reportAttributeAccessIssue]
        return dataclass(frozen=True)(cls)

    return decorate


# ---- model ----------------------------------------------------------------------------------------------------------


@_section("model")
class LeNetConfig:
    """LeNet of the Theano tutorial: two convolutions, each max-pooled and squashed, a hidden layer, a softmax."""

    name: str = _key(_one_of("lenet"), "lenet")
    num_kernels: tuple[int, int] = _key(TWO_COUNTS, (20, 50))  # feature maps of the two convolutions
    kernel_size: int = _key(COUNT, 5)  # pixels; both convolutions
    pool_size: int = _key(COUNT, 2)  # pixels; window and stride of both max-pools
    hidden_units: int = _key(COUNT, 500)  # tanh units of the dense layer


@_section("model")
class MnistCnnConfig:
    """The Keras notebook's network: two padded convolutions, each rectified and max-pooled, and a softmax."""

    name: str = _key(_one_of("mnist_cnn"), "mnist_cnn")
    num_kernels: tuple[int, int] = _key(TWO_COUNTS, (32, 16))  # feature maps of the two convolutions
    kernel_size: int = _key(COUNT, 3)  # pixels; both convolutions
    pool_size: int = _key(COUNT, 2)  # pixels; window and stride of both max-pools


# ---- optimizer ------------------------------------------------------------------------------------------------------
# `learning_rate`, `momentum` and `weight_decay` are traced values: changing one never recompiles a program.


@_section("optimizer")
class SgdConfig:
    """Plain stochastic gradient descent."""

    name: str = _key(_one_of("sgd"), "sgd")
    learning_rate: float = _key(POSITIVE, 0.1)  # 0.01 to 0.5
    weight_decay: float = _key(NON_NEGATIVE, 0.0)  # L2, added to the gradient; 1e-5 to 1e-3


@_section("optimizer")
class MomentumConfig:
    """Gradient descent with heavy-ball momentum (Polyak 1964)."""

    name: str = _key(_one_of("momentum"), "momentum")
    learning_rate: float = _key(POSITIVE, 0.02)  # 0.001 to 0.1
    momentum: float = _key(DECAY, 0.9)
    weight_decay: float = _key(NON_NEGATIVE, 0.0)  # L2, added to the gradient


@_section("optimizer")
class NesterovConfig:
    """Gradient descent with Nesterov's momentum (Sutskever et al. 2013, section 2)."""

    name: str = _key(_one_of("nesterov"), "nesterov")
    learning_rate: float = _key(POSITIVE, 0.02)  # 0.001 to 0.1
    momentum: float = _key(DECAY, 0.9)
    weight_decay: float = _key(NON_NEGATIVE, 0.0)  # L2, added to the gradient


@_section("optimizer")
class AdamConfig:
    """Adam (Kingma and Ba 2015, algorithm 1)."""

    name: str = _key(_one_of("adam"), "adam")
    learning_rate: float = _key(POSITIVE, 0.001)  # 1e-4 to 3e-3
    b1: float = _key(DECAY, 0.9)  # decay of the mean of the gradient
    b2: float = _key(DECAY, 0.999)  # decay of the mean of its square
    eps: float = _key(POSITIVE, 1e-8)
    weight_decay: float = _key(NON_NEGATIVE, 0.0)  # L2, added to the gradient; for decoupled decay use adamw


@_section("optimizer")
class AdamWConfig:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""

    name: str = _key(_one_of("adamw"), "adamw")
    learning_rate: float = _key(POSITIVE, 0.001)  # 1e-4 to 3e-3
    b1: float = _key(DECAY, 0.9)  # decay of the mean of the gradient
    b2: float = _key(DECAY, 0.999)  # decay of the mean of its square
    eps: float = _key(POSITIVE, 1e-8)
    weight_decay: float = _key(NON_NEGATIVE, 0.01)  # times the learning rate, taken off the weights in each step


@_section("optimizer")
class RmsPropConfig:
    """RMSProp (Tieleman and Hinton 2012, lecture 6.5)."""

    name: str = _key(_one_of("rmsprop"), "rmsprop")
    learning_rate: float = _key(POSITIVE, 0.001)  # 1e-4 to 1e-2
    decay: float = _key(DECAY, 0.9)  # decay of the mean of the squared gradient
    eps: float = _key(POSITIVE, 1e-8)
    momentum: float = _key(DECAY, 0.0)
    weight_decay: float = _key(NON_NEGATIVE, 0.0)  # L2, added to the gradient


# ---- schedule: a factor between 0 and 1 on the learning rate ---------------------------------------------------------


@_section("schedule")
class ConstantScheduleConfig:
    """The learning rate as it is, in every step."""

    name: str = _key(_one_of("constant"), "constant")


@_section("schedule")
class CosineScheduleConfig:
    """Half a cosine from the learning rate to its final fraction (Loshchilov and Hutter 2017), after a linear warm-up."""

    name: str = _key(_one_of("cosine"), "cosine")
    warmup_epochs: float = _key(NON_NEGATIVE, 0.0)  # epochs of linear growth from 0
    final_fraction: float = _key(FRACTION, 0.0)  # of the learning rate, reached in the last step


@_section("schedule")
class StepScheduleConfig:
    """Multiply the learning rate by a factor at each of some epochs."""

    name: str = _key(_one_of("step"), "step")
    epochs: tuple[int, ...] = _key(COUNTS, (10, 15))  # the factor applies once that many epochs are done
    factor: float = _key(FRACTION, 0.1)


@_section("schedule")
class ExponentialScheduleConfig:
    """Multiply the learning rate by a constant factor an epoch, smoothly."""

    name: str = _key(_one_of("exponential"), "exponential")
    epoch_factor: float = _key(FRACTION, 0.95)


# ---- data -----------------------------------------------------------------------------------------------------------


@_section("data")
class DataConfig:
    """Which images, from where, and how they are split."""

    name: str = _key(TEXT, "mnist_5k")  # of the data set; a TFDS name may be "name/config:version"
    source: str = _key(_one_of("embedded", "tfds", "idx", "pickle_archive"), "embedded")
    directory: str | None = _key(_optional(TEXT), None)  # where the data is or goes; null: the source's usual place
    manual_dir: str | None = _key(_optional(TEXT), None)  # folder of downloaded files, for machines without network
    num_classes: int | None = _key(_optional(COUNT), 10)  # labels are 0 to num_classes - 1; null: as TFDS declares
    train_size: int | None = _key(_optional(COUNT), None)  # use the first so many training images; null: all
    validation_size: int = _key(COUNT, 10_000)  # images held out from the end of the training set, if no split is given
    pixel_divisor: float = _key(POSITIVE, 256.0)  # uint8 pixels are divided by it: 256 (Theano) or 255 (Keras)


# ---- trainer --------------------------------------------------------------------------------------------------------


@_section("trainer.early_stopping")
class EarlyStoppingConfig:
    """The patience rule of the Theano tutorials, counted in minibatch iterations."""

    enabled: bool = _key(SWITCH, True)
    patience: int = _key(COUNT, 10_000)  # iterations that are always looked at
    patience_increase: int = _key(COUNT, 2)  # on a significant improvement: patience >= this times the iteration
    improvement_threshold: float = _key(FRACTION, 0.995)  # significant: error below this times the best error so far


@_section("trainer")
class TrainerConfig:
    """How long and in what portions to train."""

    batch_size: int = _key(COUNT, 50)  # images a step; what is left over at the end of an epoch is not used in it
    max_epochs: int = _key(COUNT, 20)
    shuffle: bool = _key(SWITCH, True)  # a new order each epoch; false: the order of the file, as Theano's tutorial
    matmul_precision: str = _key(_one_of("default", "high", "highest"), "highest")  # float32 on GPU and TPU; not TF32
    early_stopping: EarlyStoppingConfig = dataclasses.field(default_factory=EarlyStoppingConfig)


# ---- the whole ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    """A run: all that decides its result, together with the code and the data."""

    seed: int = _key(SEED, 0)  # of initialization and shuffling
    model: Any = dataclasses.field(default_factory=LeNetConfig)
    optimizer: Any = dataclasses.field(default_factory=SgdConfig)
    schedule: Any = dataclasses.field(default_factory=ConstantScheduleConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        _check(self, "")
        for group, options in SCHEMAS.items():
            chosen = getattr(self, group)
            if type(chosen) not in options.values():
                raise InputError(f"`{group}` must be one of {', '.join(options)}; got {chosen!r}.")


SCHEMAS: dict[str, dict[str, type]] = {
    "model": {"lenet": LeNetConfig, "mnist_cnn": MnistCnnConfig},
    "optimizer": {
        "sgd": SgdConfig,
        "momentum": MomentumConfig,
        "nesterov": NesterovConfig,
        "adam": AdamConfig,
        "adamw": AdamWConfig,
        "rmsprop": RmsPropConfig,
    },
    "schedule": {
        "constant": ConstantScheduleConfig,
        "cosine": CosineScheduleConfig,
        "step": StepScheduleConfig,
        "exponential": ExponentialScheduleConfig,
    },
    "data": {"data": DataConfig},
    "trainer": {"trainer": TrainerConfig},
}
"""Configuration group -> schema name -> class; the command line offers these to Hydra."""


def from_dict(values: Mapping[str, Any]) -> Config:
    """Build a configuration from nested dictionaries, as a YAML or JSON file holds it: `dataclasses.asdict` reversed.

    The `name` in `model`, `optimizer` and `schedule` says which class the other keys belong to.

    Raises:
        InputError: if a name or key is unknown or a value breaks its rule; the message has the key's full path.
    """
    parts = dict(values)
    for group, options in SCHEMAS.items():
        part = _mapping(group, parts.get(group, {}))
        schema = next(iter(options.values()))
        if len(options) > 1 and part:
            if part.get("name") not in options:
                raise unknown_name(f"{group}.name", part.get("name"), options)
            schema = options[part["name"]]
        parts[group] = _build(schema, group, part)
    return _build(Config, "", parts)


def _build(schema: type[T], path: str, values: Mapping[str, Any]) -> T:
    fields = {field.name: field for field in dataclasses.fields(schema)}  # pyright: ignore[reportArgumentType]
    unknown = [key for key in values if key not in fields]
    if unknown:
        raise unknown_name(path or "configuration", unknown[0], fields)
    arguments = dict(values)
    for key, value in values.items():
        kind = fields[key].type
        if dataclasses.is_dataclass(kind) and not dataclasses.is_dataclass(value):
            name = f"{path}.{key}" if path else key
            arguments[key] = _build(kind, name, _mapping(name, value))  # pyright: ignore[reportArgumentType]
    return schema(**arguments)


def _mapping(path: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"`{path}` must be a group of keys; got {value!r}.")
    return value
