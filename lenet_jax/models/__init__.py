"""The architectures, one per file; their names are those of the files in `conf/model`."""

from typing import Any

from lenet_jax import components
from lenet_jax.config.catalogue import built_in
from lenet_jax.errors import InputError
from lenet_jax.ops.windows import entries, to_ints
from lenet_jax.types import Model

MODELS = tuple(built_in("model"))
"""The names that `create_model` accepts."""


def create_model(
    name: str, *, input_shape: tuple[int, ...] = (28, 28, 1), num_classes: int = 10, **options: Any
) -> Model:
    """Build a model by name.

    Args:
        name: one of `MODELS`.
        input_shape: height, width and channels of the images.
        num_classes: number of logits, an integer, 2 or above.
        **options: options of the model's function in `lenet_jax.models`.

    Raises:
        InputError: if the name or an option is unknown, an option is out of its range, or the images are too small
            for the layers.

    >>> model = create_model("lenet", hidden_units=100)
    """
    classes, shape = to_ints(num_classes, 1, least=2), to_ints(entries(input_shape), len(entries(input_shape)), least=1)
    if classes is None:
        raise InputError(f"model: `num_classes` must be 2 or above; got {num_classes!r}.")
    if not shape:
        raise InputError(
            f"model: `input_shape` must be (height, width, channels), each 1 or above; got {input_shape!r}."
        )
    node = components.built_in_component("model", name, options)
    return components.build(node, input_shape=shape, num_outputs=classes[0])
