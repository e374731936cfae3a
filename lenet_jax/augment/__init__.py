"""Random changes of training images, on the device: pure functions (key, images) -> images of the same shape.

Each example has a key of its own, so what happens to it does not depend on the others of its batch; but for `mixup`,
which mixes it with another.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lenet_jax.augment.base import Augment, check_range
from lenet_jax.augment.geometry import random_affine, random_crop, random_elastic, random_flip
from lenet_jax.augment.pixels import random_cutout, random_lighting
from lenet_jax.config import AffineAugmentConfig, ElasticAugmentConfig, PhotoAugmentConfig
from lenet_jax.errors import InputError
from lenet_jax.losses import training_losses
from lenet_jax.types import Key, Loss, Model, Variables

__all__ = [
    "Augment",
    "augmented",
    "in_turn",
    "mixup",
    "random_affine",
    "random_crop",
    "random_cutout",
    "random_elastic",
    "random_flip",
    "random_lighting",
    "with_augmentation",
    "with_mixup",
]


def in_turn(*augments: Augment) -> Augment:
    """Return a function that applies others one after another, each with a key of its own."""

    def augment(key: Key, images: Array) -> Array:
        for own, each in zip(jax.random.split(key, max(len(augments), 1)), augments, strict=False):
            images = each(own, images)
        return images

    return augment


def mixup(key: Key, images: Array, alpha: float) -> tuple[Array, Array]:
    """Mix each image with the one before it in the batch.

    Args:
        key: consumed.
        images: (N, H, W, C).
        alpha: of the Beta(alpha, alpha) distribution of the weights, above 0.

    Returns:
        The mixed images, and the weight (N,) of each one's own; its label and that of the one before it are to be
        weighed alike.

    Raises:
        InputError: if `alpha` is out of its range.

    Source: Zhang et al. 2018, "mixup: beyond empirical risk minimization", section 2.
    """
    check_range("mixup", "alpha", alpha, 1e9, above=True)
    keys = jax.random.split(key, images.shape[0])
    weights = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha, dtype=jnp.float32))(keys)
    own = jnp.expand_dims(weights, (1, 2, 3)).astype(images.dtype)
    return own * images + (1 - own) * jnp.roll(images, 1, axis=0), weights


# ---- models that are trained with it --------------------------------------------------------------------------------


def with_augmentation(model: Model, augment: Augment) -> Model:
    """Return the model that changes its images while it trains, and is the same otherwise.

    It needs the `key` of `apply` while it trains; the model inside gets a key of its own.
    """
    inside = training_losses(model)

    def changed(images: Array, key: Key | None) -> tuple[Array, Key]:
        if key is None:
            raise InputError("with_augmentation: `key` must be given while the model trains; pass a jax.random.key.")
        own, rest = jax.random.split(key)
        return augment(own, images), rest

    def apply(variables: Variables, images: Array, *, train: bool = False, key: Key | None = None) -> Any:
        if train:
            images, key = changed(images, key)
        return model.apply(variables, images, train=train, key=key)

    def losses(loss_fn: Loss, variables: Variables, images: Array, labels: Array, *, key: Key | None = None) -> Any:
        images, key = changed(images, key)
        return inside(loss_fn, variables, images, labels, key=key)

    return model._replace(apply=apply, losses=losses)


def with_mixup(model: Model, alpha: float) -> Model:
    """Return the model that is trained on mixed images and labels; see `mixup`."""
    check_range("mixup", "alpha", alpha, 1e9, above=True)
    inside = training_losses(model)

    def losses(loss_fn: Loss, variables: Variables, images: Array, labels: Array, *, key: Key | None = None) -> Any:
        if key is None:
            raise InputError("with_mixup: `key` must be given while the model trains; pass a jax.random.key.")
        own, key = jax.random.split(key)
        images, weights = mixup(own, images, alpha)

        def mixed(logits: Array, labels: Array) -> Array:
            return weights * loss_fn(logits, labels) + (1 - weights) * loss_fn(logits, jnp.roll(labels, 1))

        return inside(mixed, variables, images, labels, key=key)

    return model._replace(losses=losses)


def augmented(model: Model, config: Any) -> Model:
    """Return the model with the augmentation of one of the augment classes of `lenet_jax.config`."""
    match config:
        case AffineAugmentConfig():
            return with_augmentation(model, _affine(config))
        case ElasticAugmentConfig():
            elastic = random_elastic(strength=config.strength, smoothness=config.smoothness)
            return with_augmentation(model, in_turn(_affine(config), elastic))
        case PhotoAugmentConfig():
            parts = [
                random_flip() if config.flip else None,
                random_crop(config.margin) if config.margin else None,
                random_lighting(config.lighting) if config.lighting else None,
                random_cutout(config.cutout) if config.cutout else None,
            ]
            model = with_mixup(model, config.mixup) if config.mixup else model
            return with_augmentation(model, in_turn(*(part for part in parts if part is not None)))
    return model


def _affine(config: AffineAugmentConfig | ElasticAugmentConfig) -> Augment:
    return random_affine(degrees=config.degrees, scale=config.scale, shear=config.shear, shift=config.shift)
