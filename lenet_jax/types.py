"""The vocabulary: the values that the functions of this package pass to each other.

Letters in shapes: N examples, H W height and width, C channels, K kernel, L lanes (runs side by side).
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int, PyTree

from lenet_jax.config import DataConfig

Loss = Callable[..., Array]  # (logits (N, classes), labels (N,)) -> loss of each example (N,)
Key = Array  # of jax.random.key; a function that takes one consumes it


class Variables(NamedTuple):
    """What a model computes with: `params` are trained, `state` is carried (running statistics)."""

    params: PyTree
    state: PyTree


class Model(NamedTuple):
    """A network as two pure functions.

    init: key -> Variables.
    apply: (variables, images, *, train=False, key=None) -> (logits, state), with float images of shape (N, H, W, C) and
        logits of shape (N, classes). `key` is needed only by models that draw random numbers while they train.
    """

    init: Callable[..., Variables]
    apply: Callable[..., tuple[Float[Array, "N classes"], PyTree]]
    trace: Callable[..., list["Visit"]] | None = None
    """(variables, images) -> what each layer does to them, in order; None if the model is not made of `layers`."""
    input_shape: tuple[int, int, int] | None = None  # height, width, channels of the images, where they are fixed
    losses: Callable[..., tuple[Float[Array, "N"], PyTree]] | None = None  # noqa: F821
    """(loss_fn, variables, images, labels, *, key) -> (loss of each example, state) while it trains, where that is more
    than loss_fn(logits, labels); None: it is not"""


class ReceptiveField(NamedTuple):
    """What a number depends on of the images: a square of `size` pixels; that of its neighbour begins `stride` on."""

    size: float = 1  # infinite: the whole image
    stride: int = 1


class Visit(NamedTuple):
    """A layer as it is met on the way through a network."""

    name: str  # with the names of what it is in before it: "block.conv"
    x: Any  # its input, a batch
    y: Any  # its output
    num_parameters: int
    connections: int  # of an example: how often a weight or a bias is used
    multiply_adds: int  # of an example: how often one is multiplied
    receptive_field: ReceptiveField  # of a number of the output
    recomputed: str = ""  # the block that it is in, if its output is not kept but computed again for the gradient


class Split(NamedTuple):
    """Examples with their labels: uint8 images (N, H, W, C) and integer labels (N,), 0 to num_classes - 1."""

    images: Any
    labels: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in its three parts; a pytree, so it can be passed to jitted functions and put on a device.

    Pixels are stored as uint8 and divided by `pixel_divisor` in the training step.
    """

    train: Split
    validation: Split
    test: Split
    num_classes: int = dataclasses.field(default=10, metadata={"static": True})
    pixel_divisor: float = dataclasses.field(default=DataConfig.pixel_divisor, metadata={"static": True})


class Metrics(NamedTuple):
    """Sums over the examples of a split, so that parts add up exactly."""

    loss_sum: Float[Array, "..."]
    num_correct: Int[Array, "..."]
    num_examples: Int[Array, "..."]

    @property
    def loss(self) -> Float[Array, "..."]:
        """Mean loss an example, in nats."""
        return self.loss_sum / self.num_examples.astype(self.loss_sum.dtype)

    @property
    def accuracy(self) -> Float[Array, "..."]:
        """Fraction of the examples that are classified correctly."""
        return self.num_correct.astype(self.loss_sum.dtype) / self.num_examples.astype(self.loss_sum.dtype)


class EarlyStoppingState(NamedTuple):
    """State of the patience rule; see `lenet_jax.early_stopping`."""

    patience: Int[Array, "..."]  # iterations that are looked at before the run may end
    best_error: Float[Array, "..."]
    best_iteration: Int[Array, "..."]  # the iteration, counted from 0, after which it was seen; -1: none yet


class Status(enum.IntEnum):
    """Why a run ended, or that it has not."""

    RUNNING = 0
    MAX_EPOCHS = 1
    PATIENCE = 2
    DIVERGED = 3
    PRUNED = 4  # a sweep has ended it for the sake of better ones


class Evaluation(NamedTuple):
    """One look at the validation set, with the training since the last one."""

    iteration: Int[Array, "..."]  # minibatch iterations done so far
    train_loss: Float[Array, "..."]  # mean over the steps since the last evaluation
    validation: Metrics


class TrainState(NamedTuple):
    """All that a run carries from one step to the next."""

    variables: Variables
    opt_state: PyTree
    key: Key  # of shuffling and dropout; each use folds in the epoch or the iteration
    iteration: Int[Array, "..."]  # minibatch iterations done
    early_stopping: EarlyStoppingState
    best: Variables  # at the lowest validation error
    best_validation: Metrics
    status: Int[Array, "..."]  # a Status


class TrainResult(NamedTuple):
    """The outcome of a whole run."""

    variables: Variables  # at the lowest validation error
    validation: Metrics  # of these variables
    test: Metrics  # of these variables
    iterations: Int[Array, "..."]  # minibatch iterations done
    status: Int[Array, "..."]  # a Status
    history: Evaluation  # arrays over the evaluations; those after the end are NaN and 0
