"""The schema of `conf/`: every configuration key, its default, and the rule that its value must keep.

The classes are frozen and check themselves when they are built, so an invalid configuration cannot exist: not from the
command line (Hydra's values become these classes before data or device are touched) and not from Python. This module
imports neither jax nor hydra.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lenet_jax.config.data import (
    AffineAugmentConfig,
    DataConfig,
    ElasticAugmentConfig,
    NoAugmentConfig,
    PhotoAugmentConfig,
)
from lenet_jax.config.models import (
    AlexNetConfig,
    GoogLeNetConfig,
    LeNet5Config,
    LeNetConfig,
    MnistCnnConfig,
    ResNet18Config,
    ResNet34Config,
    ResNet50Config,
    ResNet101Config,
    ResNet152Config,
    WindowClassifierConfig,
    ZfNetConfig,
)
from lenet_jax.config.optimization import (
    AdamConfig,
    AdamWConfig,
    ConstantScheduleConfig,
    CosineScheduleConfig,
    ExponentialScheduleConfig,
    MomentumConfig,
    NesterovConfig,
    RmsPropConfig,
    ScaledConjugateGradientConfig,
    SgdConfig,
    StepScheduleConfig,
)
from lenet_jax.config.training import (
    EarlyStoppingConfig,
    SweepConfig,
    TrainerConfig,
)
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.rules import SEED
from lenet_jax.sections import build, check, key, mapping

__all__ = [
    "SCHEMAS",
    "AdamConfig",
    "AdamWConfig",
    "AffineAugmentConfig",
    "AlexNetConfig",
    "Config",
    "ConstantScheduleConfig",
    "CosineScheduleConfig",
    "DataConfig",
    "EarlyStoppingConfig",
    "ElasticAugmentConfig",
    "ExponentialScheduleConfig",
    "GoogLeNetConfig",
    "LeNet5Config",
    "LeNetConfig",
    "MnistCnnConfig",
    "MomentumConfig",
    "NesterovConfig",
    "NoAugmentConfig",
    "PhotoAugmentConfig",
    "ResNet18Config",
    "ResNet34Config",
    "ResNet50Config",
    "ResNet101Config",
    "ResNet152Config",
    "RmsPropConfig",
    "ScaledConjugateGradientConfig",
    "SgdConfig",
    "StepScheduleConfig",
    "SweepConfig",
    "TrainerConfig",
    "WindowClassifierConfig",
    "ZfNetConfig",
    "from_dict",
]


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
        "alexnet": AlexNetConfig,
        "zfnet": ZfNetConfig,
        "googlenet": GoogLeNetConfig,
        "resnet18": ResNet18Config,
        "resnet34": ResNet34Config,
        "resnet50": ResNet50Config,
        "resnet101": ResNet101Config,
        "resnet152": ResNet152Config,
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
    "augment": {
        "none": NoAugmentConfig,
        "affine": AffineAugmentConfig,
        "elastic": ElasticAugmentConfig,
        "photo": PhotoAugmentConfig,
    },
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
