"""The architectures, one a file, and the table of their names."""

from collections.abc import Callable
from typing import Any

from lenet_jax.config import SCHEMAS
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.models.lenet import lenet
from lenet_jax.models.mnist_cnn import mnist_cnn
from lenet_jax.types import Model

MODELS: dict[str, Callable[..., Model]] = {"lenet": lenet, "mnist_cnn": mnist_cnn}
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
    if num_classes < 2:
        raise InputError(f"model: `num_classes` must be 2 or above; got {num_classes!r}.")
    return MODELS[name](schema(**options), tuple(input_shape), num_classes)
