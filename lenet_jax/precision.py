"""Computing with fewer bits than the parameters have."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.losses import training_losses
from lenet_jax.types import Key, Loss, Model, Variables


def in_compute_dtype(model: Model, dtype: str) -> Model:
    """Return the model that computes in a dtype, from the same parameters and images: mixed precision.

    Parameters, their gradients, running statistics, logits and losses stay float32.

    Args:
        model: that computes in float32.
        dtype: "float32", or "bfloat16", which has the range of float32 and 8 bits of precision.

    Source: Micikevicius et al. 2018, "Mixed precision training", section 3.1; bfloat16 needs no scaling of the loss.
    """
    if dtype == "float32":
        return model
    inside = training_losses(model)

    def cast(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

    def apply(variables: Variables, images: Array, *, train: bool = False, key: Key | None = None) -> tuple[Array, Any]:
        low = variables._replace(params=cast(variables.params))
        logits, state = model.apply(low, cast(images), train=train, key=key)
        return logits.astype(jnp.float32), state

    def losses(
        loss_fn: Loss, variables: Variables, images: Array, labels: Array, *, key: Key | None = None
    ) -> tuple[Array, Any]:
        low = variables._replace(params=cast(variables.params))
        return inside(lambda y, labels: loss_fn(y.astype(jnp.float32), labels), low, cast(images), labels, key=key)

    return model._replace(apply=apply, losses=losses)
