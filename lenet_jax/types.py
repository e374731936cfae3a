"""The vocabulary: the values that the functions of this package pass to each other.

Letters in shapes: N examples, H W height and width, C channels, K kernel, L lanes (runs of one program).
"""

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PyTree

Key = Array  # of jax.random.key; a function that takes one consumes it
LossFn = Callable[[Any, Any], Array]  # (outputs, targets) -> one value an example (N,)


def show(tree: PyTree, *, width: int = 200) -> str:
    """Return a pytree as one line, with dtypes and shapes in the place of arrays: "float32[5,5,1,20]".

    Args:
        tree: any pytree; a scalar whose value is known is shown as it is.
        width: number of characters after which the line ends in "...".
    """

    def text(leaf: Any) -> Any:
        shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
        if shape is None or dtype is None:
            return leaf
        if shape == () and is_concrete(leaf) and not jnp.issubdtype(dtype, jax.dtypes.prng_key):
            return _Text(str(leaf))
        return _Text(f"{dtype}[{','.join(map(str, shape))}]")

    line = " ".join(repr(jax.tree.map(text, tree)).split())
    return line if len(line) <= width else f"{line[:width]}..."


class _Text(str):
    """A text that is shown without quotes."""

    def __repr__(self) -> str:
        return str(self)


def show_fields(value: Any) -> str:
    """Return a named tuple or a dataclass as one line, each of its fields as by `show`."""
    names = getattr(value, "_fields", None) or [each.name for each in dataclasses.fields(value) if each.repr]
    return f"{type(value).__name__}({', '.join(f'{name}={show(getattr(value, name))}' for name in names)})"


class Variables(NamedTuple):
    """Trainable `params` and non-trainable `state` (running statistics) of a model."""

    params: PyTree
    state: PyTree

    def __repr__(self) -> str:
        """Return one line, with shapes in the place of arrays."""
        return show_fields(self)


export.register_namedtuple_serialization(Variables, serialized_name="lenet_jax.Variables")  # of exported functions


class Model(NamedTuple):
    """A network as two pure functions.

    init: key -> Variables.
    apply: (variables, inputs, *, train=False, key=None) -> (outputs, state). Images are float (N, H, W, C), logits
        (N, classes). `key` is needed only by models that draw random numbers in training. In training the outputs may
        be `Heads`.
    """

    init: Callable[..., Variables]
    apply: Callable[..., tuple[PyTree, PyTree]]
    trace: Callable[..., list["LayerTrace"]] | None = None
    """(variables, inputs) -> a `LayerTrace` of each layer, in order; None if the model records no layers."""
    input_shape: tuple[int, ...] | None = None  # of one example, where it is fixed
    takes_example_keys: bool = False
    """Whether the `key` of `apply` may be an array of keys (N,), one an example, so that what is drawn for an example
    does not depend on the batch that it is in."""


class Heads(NamedTuple):
    """The outputs of a network with auxiliary classifiers, in training."""

    main: PyTree
    auxiliary: tuple[tuple[Float[Array, ""], PyTree], ...]  # the weight of each one's loss, and its outputs


class Objective(NamedTuple):
    """What a run minimizes and what it reports.

    Args:
        loss: (outputs, targets) -> the loss of each example (N,).
        metrics: name -> (outputs, targets) -> a value of each example (N,), of which the mean is reported;
            one that is true or false is a fraction. Or a `StreamingMetric`, for what is no mean.
        monitor: the metric, or "loss", that decides which weights are best and when to stop.
        mode: "max" or "min": which values of it are better; for a loss "min".
        evaluation_loss: what evaluation reports as the loss, where that is not what training minimizes, as without
            label smoothing; None: `loss`.
        has_labels: whether targets are labels, integers (N,) from 0 to the number of outputs - 1; then training checks
            them, also those noted in `Dataset.stray_labels`.
        weight: targets -> the weight of each example's loss (N,), 0 or above; means are weighted means. One of weight 0
            is left out of all metrics. None: 1. Weights of single examples are given with the data, as targets
            {"targets": ..., "weights": ...}, of which the functions here get the "targets" only; they weigh loss and
            metrics.
        stopping: decides when to stop, in place of patience; None: `trainer.early_stopping` does.
    """

    loss: LossFn
    metrics: "Mapping[str, LossFn | StreamingMetric]"
    monitor: str = "accuracy"
    mode: str = "max"
    evaluation_loss: LossFn | None = None
    has_labels: bool = False
    weight: Callable[[Any], Array] | None = None
    stopping: "StoppingRule | None" = None


class StreamingMetric(NamedTuple):
    """A metric that is no mean over the examples, as the area under a curve.

    Args:
        init: () -> its state before the first example, a pytree of arrays.
        update: (state, outputs, targets, mask) -> its state after a batch; examples where `mask` (N,) is false do not
            count. An `update` without an argument `mask` gets one example at a time, with a leading axis of 1.
        result: state -> the metric, a scalar.
    """

    init: Callable[[], PyTree]
    update: Callable[..., PyTree]
    result: Callable[[PyTree], Array]


class StoppingRule(NamedTuple):
    """When a run stops, for all runs of a program alike.

    Args:
        init: () -> its state before the first validation, a pytree of arrays.
        update: (state, value, epochs) -> its state after a validation, and whether to stop; `value` is the mean of what
            the objective monitors, `epochs` the epochs done, both scalars.
    """

    init: Callable[[], PyTree]
    update: Callable[[PyTree, Array, Array], tuple[PyTree, Array]]


class Split(NamedTuple):
    """Examples: `inputs` and `targets` are pytrees of arrays with one common first axis.

    Of image classification: uint8 or float images (N, H, W, C) and integer labels (N,), 0 to num_classes - 1.
    """

    inputs: Any
    targets: Any

    @property
    def images(self) -> Any:
        """Return the inputs, of images."""
        return self.inputs

    @property
    def labels(self) -> Any:
        """Return the targets, of classification."""
        return self.targets

    def __repr__(self) -> str:
        """Return one line, with shapes in the place of arrays."""
        return show_fields(self)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in its three parts; a pytree, so it can be passed to jitted functions and put on a device.

    Pixels stored as uint8 are divided by `pixel_divisor` in the training step; floats are taken as they are.
    `num_classes` is the number of outputs of a model that a configuration names, also where they are no classes.

    Integer targets (N,) that are not 0 to num_classes - 1 are noted in `stray_labels` when a data set is made of
    concrete arrays. Whether they are labels is for the objective to say: one of classes refuses them, also while it is
    traced, where the values themselves are not known. The ranges of all integer targets (N,) are in `label_ranges`; a
    jitted function is not traced again for a data set that differs in these alone.
    """

    train: Split
    validation: Split
    test: Split
    num_classes: int = 10
    pixel_divisor: float = 256.0
    stray_labels: "tuple[StrayLabels, ...]" = dataclasses.field(init=False, repr=False)
    label_ranges: "LabelRanges" = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        _note_labels(self)

    def __repr__(self) -> str:
        """Return one line, with shapes in the place of arrays."""
        return show_fields(self)

    def splits(self) -> dict[str, Split]:
        """Return the three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


class StrayLabels(NamedTuple):
    """A part of a data set whose integer targets (N,) are not all 0 to num_classes - 1, and their range."""

    part: str
    low: int
    high: int


class LabelRanges(tuple[StrayLabels, ...]):
    """The ranges of the integer targets (N,) of a data set.

    They are equal to any others, so that data sets of one kind have one structure and can be mapped over together.
    """

    def __eq__(self, other: object) -> bool:
        """Return whether the other are ranges too."""
        return isinstance(other, LabelRanges)

    def __hash__(self) -> int:
        """Return what all ranges have in common."""
        return hash(LabelRanges)


def _note_labels(data: Dataset) -> None:
    """Set what a data set knows of its integer targets (N,)."""
    found = []
    for part, split in data.splits().items():
        labels: Any = getattr(split, "targets", None)
        labels = labels["targets"] if has_weights(labels) else labels
        if not is_concrete(labels) or labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
            continue
        labels = jax.device_get(labels)
        found.append(StrayLabels(part, int(labels.min()), int(labels.max())))
    stray = tuple(each for each in found if each.low < 0 or each.high >= data.num_classes)
    object.__setattr__(data, "stray_labels", stray)
    object.__setattr__(data, "label_ranges", LabelRanges(found))


def has_weights(targets: Any) -> bool:
    """Tell whether targets are {"targets": ..., "weights": ...}, with a weight of each example."""
    return isinstance(targets, Mapping) and set(targets) == {"targets", "weights"}


def is_concrete(leaf: Any) -> bool:
    """Tell whether a leaf is an array whose values this process can read."""
    if isinstance(leaf, Tracer):
        return False
    if isinstance(leaf, jax.Array):
        return leaf.is_fully_addressable and not leaf.is_deleted()
    return isinstance(leaf, np.ndarray)


_PARTS = ("train", "validation", "test")


def _flatten(data: Dataset) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    static = (data.num_classes, data.pixel_divisor, data.stray_labels, data.label_ranges)
    return (data.train, data.validation, data.test), static


def _flatten_with_keys(data: Dataset) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    children, static = _flatten(data)
    keys = map(jax.tree_util.GetAttrKey, _PARTS)
    return tuple(zip(keys, children, strict=True)), static


def _unflatten(static: tuple[Any, ...], parts: Iterable[Any]) -> Dataset:
    """Make a data set of any leaves, unchecked: they may be tracers, shapes or anything else."""
    data, children = object.__new__(Dataset), tuple(parts)
    names = ("num_classes", "pixel_divisor", "stray_labels", "label_ranges")
    for name, value in (*zip(_PARTS, children, strict=True), *zip(names, static, strict=True)):
        object.__setattr__(data, name, value)
    if data.stray_labels and all(is_concrete(getattr(split, "targets", None)) for split in children):
        _note_labels(data)  # they may have been put right
    return data


jax.tree_util.register_pytree_with_keys(Dataset, _flatten_with_keys, _unflatten, _flatten)


class Metrics(NamedTuple):
    """Sums over examples, so that the metrics of parts add up exactly."""

    loss_sum: Float[Array, "..."]
    sums: Mapping[str, Float[Array, "..."]]  # of each metric of the objective
    num_examples: Int[Array, "..."]

    def __repr__(self) -> str:
        """Return one line, with shapes in the place of arrays."""
        return show_fields(self)

    @property
    def loss(self) -> Float[Array, "..."]:
        """Mean loss an example; of a cross-entropy, in nats."""
        return self.loss_sum / self.num_examples.astype(self.loss_sum.dtype)

    @property
    def accuracy(self) -> Float[Array, "..."]:
        """Fraction of the examples that are classified correctly."""
        return self.mean("accuracy")

    @property
    def num_correct(self) -> Int[Array, "..."]:
        """Number of the examples that are classified correctly."""
        return self.sums["accuracy"].astype(jnp.int32)

    def mean(self, name: str) -> Float[Array, "..."]:
        """Return the mean of a metric, or of the "loss"."""
        dtype = self.loss_sum.dtype
        total = self.loss_sum if name == "loss" else self.sums[name]
        return total / self.num_examples.astype(dtype)


class Status(enum.IntEnum):
    """Why a run stopped, or that it is running.

    A run stops as DIVERGED before a step whose loss, gradient or update is not finite, or at a validation whose loss is
    not; nothing is raised. Its last finite state is kept, its result is that of the best validation before.
    """

    RUNNING = 0
    MAX_EPOCHS = 1
    PATIENCE = 2
    DIVERGED = 3
    PRUNED = 4  # stopped early by the sweep's pruner
    OWN_RULE = 5  # by the objective's `stopping`


class ReceptiveField(NamedTuple):
    """Receptive field of an output value along each spatial axis of the network's input, in pixels."""

    size: tuple[float, ...]  # infinite: the whole axis
    stride: tuple[float, ...]  # to the field of the next value


class LayerTrace(NamedTuple):
    """What a layer of a network computes from a batch, and at what cost."""

    name: str  # path of names from the outermost layer: "block.conv"
    x: Any  # its input, a batch
    y: Any  # its output
    num_parameters: int
    connections: int  # uses of weights and biases for one example
    multiply_adds: int  # multiplications by weights for one example
    receptive_field: ReceptiveField  # of a value of the output
    recomputed: str = ""  # the rematerialized block it is in, if its output is recomputed in the backward pass
