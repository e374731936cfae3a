"""The architectures, one a file, and the table of their names."""

from collections.abc import Callable
from typing import Any

from lenet_jax.config import SCHEMAS
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.models.alexnet import alexnet, zfnet
from lenet_jax.models.googlenet import googlenet
from lenet_jax.models.lenet import lenet
from lenet_jax.models.lenet5 import lenet5
from lenet_jax.models.mnist_cnn import mnist_cnn
from lenet_jax.models.resnet import resnet
from lenet_jax.models.window_classifier import window_classifier
from lenet_jax.types import Model

MODELS: dict[str, Callable[..., Model]] = {
    "lenet": lenet,
    "lenet5": lenet5,
    "mnist_cnn": mnist_cnn,
    "window_classifier": window_classifier,
    "alexnet": alexnet,
    "zfnet": zfnet,
    "googlenet": googlenet,
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), resnet),
}
"""Name -> constructor(config, input_shape, num_classes)."""


def create_model(
    name: str, *, input_shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10, **options: Any
) -> Model:
    """Build a model by name.

    Args:
        name: a key of `MODELS`.
        input_shape: height, width and channels of the images.
        num_classes: number of logits.
        **options: the fields of the model's configuration class in `lenet_jax.config`.

    Raises:
        InputError: if the name or an option is unknown, a value breaks its rule, or the layers do not fit the images.

    >>> model = create_model("lenet", hidden_units=100)
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    schema = SCHEMAS["model"][name]
    unknown = sorted(set(options) - set(schema.__dataclass_fields__))
    if unknown:
        raise unknown_name(f"model {name}", unknown[0], schema.__dataclass_fields__)
    return build_model(schema(**options), tuple(input_shape), num_classes)


def build_model(config: Any, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """Build the model of a configuration class of `lenet_jax.config`.

    Raises:
        InputError: if there are fewer than two classes, or the layers do not fit the images.
    """
    if num_classes < 2:
        raise InputError(f"model: `num_classes` must be 2 or above; got {num_classes!r}.")
    return MODELS[config.name](config, input_shape, num_classes)
