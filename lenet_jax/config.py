"""The schema of `conf/`: every configuration key, its default, and the rule that its value must keep.

The classes are frozen and check themselves when they are built, so an invalid configuration cannot exist: not from the
command line (Hydra's values become these classes before data or device are touched) and not from Python. This module
imports neither jax nor hydra.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lenet_jax.errors import InputError, unknown_name
from lenet_jax.rules import (
    COUNT,
    COUNTS,
    DECAY,
    FRACTION,
    ITERATIONS,
    NON_NEGATIVE,
    POSITIVE,
    SEED,
    SWITCH,
    TEXT,
    TWO_COUNTS,
    Rule,
    one_of,
    optional,
)
from lenet_jax.sections import build, check, key, mapping, section

# ---- model ----------------------------------------------------------------------------------------------------------


@section("model")
class LeNetConfig:
    """LeNet of the Theano tutorial: two convolutions, each max-pooled and squashed, a hidden layer, a softmax."""

    name: str = key(one_of("lenet"), default="lenet")
    num_kernels: tuple[int, int] = key(TWO_COUNTS, default=(20, 50))  # feature maps of the two convolutions
    kernel_size: int = key(COUNT, default=5)  # pixels; both convolutions
    pool_size: int = key(COUNT, default=2)  # pixels; window and stride of both max-pools
    hidden_units: int = key(COUNT, default=500)  # tanh units of the dense layer


@section("model")
class MnistCnnConfig:
    """The Keras notebook's network: two padded convolutions, each rectified and max-pooled, and a softmax."""

    name: str = key(one_of("mnist_cnn"), default="mnist_cnn")
    num_kernels: tuple[int, int] = key(TWO_COUNTS, default=(32, 16))  # feature maps of the two convolutions
    kernel_size: int = key(COUNT, default=3)  # pixels; both convolutions
    pool_size: int = key(COUNT, default=2)  # pixels; window and stride of both max-pools


@section("model")
class WindowClassifierConfig:
    """The Colorado State network: tanh units over windows of the image, tanh units over all of these, a softmax."""

    name: str = key(one_of("window_classifier"), default="window_classifier")
    num_kernels: int = key(COUNT, default=20)  # units that look at each window
    kernel_size: int = key(COUNT, default=5)  # pixels; windows at every pixel
    padding: str = key(one_of("VALID", "SAME"), default="VALID")  # of the image; SAME: a window around each pixel
    hidden_units: int = key(COUNT, default=50)  # tanh units of the dense layer
    pixel_mean: float = key(FRACTION, default=0.13)  # subtracted from the pixels; that of MNIST, of scaled pixels
    pixel_std: float = key(POSITIVE, default=0.31)  # that they are divided by then


@section("model")
class LeNet5Config:
    """LeNet-5 of 1998, layer by layer."""

    name: str = key(one_of("lenet5"), default="lenet5")
    connections: str = key(one_of("table", "full", "random"), default="table")  # of C3: LeCun's 60 pairs, all 96, or
    # four maps of S2 for each of C3, drawn with `connections_seed`
    connections_seed: int = key(SEED, default=0)
    output: str = key(one_of("rbf", "softmax"), default="rbf")  # distances to fixed codes, or a dense layer
    rbf_scale: float = key(POSITIVE, default=0.03)  # of the squared distances in the logits; at 1 the cross-entropy of
    # codes that differ in 10 pixels is 0 long before the network has learned them


# ---- optimizer ------------------------------------------------------------------------------------------------------
# `learning_rate`, `momentum` and `weight_decay` are traced values: changing one never recompiles a program.


@section("optimizer")
class SgdConfig:
    """Plain stochastic gradient descent."""

    name: str = key(one_of("sgd"), default="sgd")
    learning_rate: float = key(POSITIVE, default=0.1)  # 0.01 to 0.5
    weight_decay: float = key(NON_NEGATIVE, default=0.0)  # L2, added to the gradient; 1e-5 to 1e-3


@section("optimizer")
class MomentumConfig:
    """Gradient descent with heavy-ball momentum (Polyak 1964)."""

    name: str = key(one_of("momentum"), default="momentum")
    learning_rate: float = key(POSITIVE, default=0.02)  # 0.001 to 0.1
    momentum: float = key(DECAY, default=0.9)
    weight_decay: float = key(NON_NEGATIVE, default=0.0)  # L2, added to the gradient


@section("optimizer")
class NesterovConfig:
    """Gradient descent with Nesterov's momentum (Sutskever et al. 2013, section 2)."""

    name: str = key(one_of("nesterov"), default="nesterov")
    learning_rate: float = key(POSITIVE, default=0.02)  # 0.001 to 0.1
    momentum: float = key(DECAY, default=0.9)
    weight_decay: float = key(NON_NEGATIVE, default=0.0)  # L2, added to the gradient


@section("optimizer")
class AdamConfig:
    """Adam (Kingma and Ba 2015, algorithm 1)."""

    name: str = key(one_of("adam"), default="adam")
    learning_rate: float = key(POSITIVE, default=0.001)  # 1e-4 to 3e-3
    b1: float = key(DECAY, default=0.9)  # decay of the mean of the gradient
    b2: float = key(DECAY, default=0.999)  # decay of the mean of its square
    eps: float = key(POSITIVE, default=1e-8)
    weight_decay: float = key(NON_NEGATIVE, default=0.0)  # L2, added to the gradient; for decoupled decay use adamw


@section("optimizer")
class AdamWConfig:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""

    name: str = key(one_of("adamw"), default="adamw")
    learning_rate: float = key(POSITIVE, default=0.001)  # 1e-4 to 3e-3
    b1: float = key(DECAY, default=0.9)  # decay of the mean of the gradient
    b2: float = key(DECAY, default=0.999)  # decay of the mean of its square
    eps: float = key(POSITIVE, default=1e-8)
    weight_decay: float = key(NON_NEGATIVE, default=0.01)  # off the weights in each step, times learning_rate


@section("optimizer")
class RmsPropConfig:
    """RMSProp (Tieleman and Hinton 2012, lecture 6.5)."""

    name: str = key(one_of("rmsprop"), default="rmsprop")
    learning_rate: float = key(POSITIVE, default=0.001)  # 1e-4 to 1e-2
    decay: float = key(DECAY, default=0.9)  # decay of the mean of the squared gradient
    eps: float = key(POSITIVE, default=1e-8)
    momentum: float = key(DECAY, default=0.0)
    weight_decay: float = key(NON_NEGATIVE, default=0.0)  # L2, added to the gradient


@section("optimizer")
class ScaledConjugateGradientConfig:
    """Scaled conjugate gradient (Møller 1993), for full batches: trainer.batch_size=null."""

    name: str = key(one_of("scaled_conjugate_gradient"), default="scaled_conjugate_gradient")
    initial_damping: float = key(POSITIVE, default=1e-6)  # lambda of the first step; at most 1e-6
    curvature: str = key(one_of("exact", "difference"), default="exact")  # or Møller's one-sided difference
    difference_step: float = key(POSITIVE, default=1e-4)  # sigma of that difference; at most 1e-4


# ---- schedule: a factor between 0 and 1 on the learning rate ---------------------------------------------------------


@section("schedule")
class ConstantScheduleConfig:
    """The learning rate as it is, in every step."""

    name: str = key(one_of("constant"), default="constant")


@section("schedule")
class CosineScheduleConfig:
    """Half a cosine from the learning rate to its final fraction (Loshchilov, Hutter 2017), after a linear warm-up."""

    name: str = key(one_of("cosine"), default="cosine")
    warmup_epochs: float = key(NON_NEGATIVE, default=0.0)  # epochs of linear growth from 0
    final_fraction: float = key(FRACTION, default=0.0)  # of the learning rate, reached in the last step


@section("schedule")
class StepScheduleConfig:
    """Multiply the learning rate by a factor at each of some epochs."""

    name: str = key(one_of("step"), default="step")
    epochs: tuple[int, ...] = key(COUNTS, default=(10, 15))  # the factor applies once that many epochs are done
    factor: float = key(FRACTION, default=0.1)


@section("schedule")
class ExponentialScheduleConfig:
    """Multiply the learning rate by a constant factor an epoch, smoothly."""

    name: str = key(one_of("exponential"), default="exponential")
    epoch_factor: float = key(FRACTION, default=0.95)


# ---- data -----------------------------------------------------------------------------------------------------------


@section("data")
class DataConfig:
    """Which images, from where, and how they are split."""

    name: str = key(TEXT, default="mnist_5k")  # of the data set; a TFDS name may be "name/config:version"
    source: str = key(one_of("embedded", "tfds", "idx", "pickle_archive"), default="embedded")
    directory: str | None = key(optional(TEXT), default=None)  # where the data is; null: the usual place
    manual_dir: str | None = key(optional(TEXT), default=None)  # files downloaded by hand
    num_classes: int | None = key(optional(COUNT), default=10)  # labels from 0; null: as TFDS declares
    train_size: int | None = key(optional(COUNT), default=None)  # use the first so many training images; null: all
    validation_size: int = key(COUNT, default=10_000)  # last training images, where there is no such split
    train_on_validation: bool = key(SWITCH, default=False)  # as well, for systems published without a validation set
    pixel_divisor: float = key(POSITIVE, default=256.0)  # uint8 pixels are divided by it: 256 (Theano) or 255 (Keras)


# ---- augment: random changes of the training images ------------------------------------------------------------------


@section("augment")
class NoAugmentConfig:
    """The training images as they are."""

    name: str = key(one_of("none"), default="none")


@section("augment")
class AffineAugmentConfig:
    """Each training image rotated, scaled, sheared and shifted by random amounts, uniform within these."""

    name: str = key(one_of("affine"), default="affine")
    degrees: float = key(NON_NEGATIVE, default=10.0)  # of rotation to either side; 5 to 20 for digits
    scale: float = key(FRACTION, default=0.1)  # either axis smaller or larger by up to this fraction
    shear: float = key(FRACTION, default=0.1)  # rows shifted by up to this fraction of their distance, and columns
    shift: float = key(NON_NEGATIVE, default=2.0)  # pixels, along either axis


# ---- trainer --------------------------------------------------------------------------------------------------------


@section("trainer.early_stopping")
class EarlyStoppingConfig:
    """The patience rule of the Theano tutorials, counted in minibatch iterations."""

    enabled: bool = key(SWITCH, default=True)
    patience: int = key(ITERATIONS, default=10_000)  # iterations that are always looked at
    patience_increase: int = key(COUNT, default=2)  # then patience is at least this times the iteration
    improvement_threshold: float = key(FRACTION, default=0.995)  # significant: below this times the best


@section("trainer")
class TrainerConfig:
    """How long and in what portions to train."""

    batch_size: int | None = key(optional(COUNT), default=50)  # images a step, a ragged end is left out; null: all
    max_epochs: int = key(COUNT, default=20)
    shuffle: bool = key(SWITCH, default=True)  # a new order each epoch; false: the order of the file
    checkpoint_every: int | None = key(optional(COUNT), default=1)  # epochs from one to the next; null: none
    matmul_precision: str = key(one_of("default", "high", "highest"), default="highest")  # highest: no TF32
    deterministic: bool = key(SWITCH, default=False)  # on a GPU: the same bits each time, slower
    early_stopping: EarlyStoppingConfig = key(
        Rule(lambda v: isinstance(v, EarlyStoppingConfig), "an EarlyStoppingConfig"), default=EarlyStoppingConfig()
    )


# ---- sweep: many runs -----------------------------------------------------------------------------------------------


@section("sweep")
class SweepConfig:
    """How the jobs of a multirun are done; nothing of it decides the result of one."""

    strategy: str = key(one_of("auto", "map", "devices", "vmap"), default="auto")  # see lenet_jax/runs/programs.py
    max_lanes: int | None = key(optional(COUNT), default=None)  # jobs trained at a time; null: a device each, 64 on GPU
    on_failure: str = key(one_of("continue", "stop"), default="continue")  # what becomes of the jobs that wait


# ---- the whole ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    """A run: all that decides its result, together with the code and the data."""

    seed: int = key(SEED, default=0)  # of initialization and shuffling
    model: Any = dataclasses.field(default_factory=LeNetConfig)
    optimizer: Any = dataclasses.field(default_factory=SgdConfig)
    schedule: Any = dataclasses.field(default_factory=ConstantScheduleConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    augment: Any = dataclasses.field(default_factory=NoAugmentConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        check(self, "")
        for group, options in SCHEMAS.items():
            chosen = getattr(self, group)
            if type(chosen) not in options.values():
                raise InputError(f"`{group}` must be one of {', '.join(options)}; got {chosen!r}.")


SCHEMAS: dict[str, dict[str, type]] = {
    "model": {
        "lenet": LeNetConfig,
        "lenet5": LeNet5Config,
        "mnist_cnn": MnistCnnConfig,
        "window_classifier": WindowClassifierConfig,
    },
    "optimizer": {
        "sgd": SgdConfig,
        "momentum": MomentumConfig,
        "nesterov": NesterovConfig,
        "adam": AdamConfig,
        "adamw": AdamWConfig,
        "rmsprop": RmsPropConfig,
        "scaled_conjugate_gradient": ScaledConjugateGradientConfig,
    },
    "schedule": {
        "constant": ConstantScheduleConfig,
        "cosine": CosineScheduleConfig,
        "step": StepScheduleConfig,
        "exponential": ExponentialScheduleConfig,
    },
    "data": {"data": DataConfig},
    "augment": {"none": NoAugmentConfig, "affine": AffineAugmentConfig},
    "trainer": {"trainer": TrainerConfig},
}
"""Configuration group -> schema name -> class; the command line offers these to Hydra."""


def from_dict(values: Mapping[str, Any]) -> Config:
    """Build a configuration from nested dictionaries, as a YAML or JSON file holds it: `dataclasses.asdict` reversed.

    The `name` in `model`, `optimizer` and `schedule` says which class the other keys belong to.

    Raises:
        InputError: if a name or key is unknown or a value breaks its rule; the message has the key's full path.
    """
    parts = dict(mapping("configuration", values))
    for group, options in SCHEMAS.items():
        part = mapping(group, parts.get(group, {}))
        schema = next(iter(options.values()))
        if len(options) > 1 and part:
            if part.get("name") not in tuple(options):  # a name from a file may be a list
                raise unknown_name(f"{group}.name", part.get("name"), options)
            schema = options[part["name"]]
        parts[group] = build(schema, group, part)
    return build(Config, "", parts)
