"""The networks, tasks and initial arrays that are the same for every system. Imports no framework."""

import dataclasses
import math
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NUM_CLASSES = 10
IMAGE_SIZE = 28
PIXEL_DIVISOR = 256
POOL_SIZE = 2


@dataclass(frozen=True)
class Network:
    """Two stages of convolution, 2x2 max-pooling and activation, an optional hidden layer, and a softmax layer."""

    name: str  # of the model in lenet_jax
    maps: tuple[int, int]
    kernel_size: int
    padding: str
    activation: str
    hidden: int | None


LENET = Network("lenet", maps=(20, 50), kernel_size=5, padding="VALID", activation="tanh", hidden=500)
MNIST_CNN = Network("mnist_cnn", maps=(32, 16), kernel_size=3, padding="SAME", activation="relu", hidden=None)


@dataclass(frozen=True)
class Training:
    """Train from the same weights on the same images in the same order: a warm-up epoch, then timed epochs."""

    network: Network
    batch: int
    images: int  # per epoch
    epochs: int = 0  # timed ones
    optimizer: str = "sgd"
    learning_rate: float = 0.1

    @property
    def steps(self) -> int:
        """The number of steps per epoch."""
        return self.images // self.batch

    def tiny(self) -> "Training":
        """Return a small task of the same type that takes almost no time: two steps per epoch."""
        hidden = self.network.hidden and 16
        network = dataclasses.replace(self.network, maps=(4, 6), hidden=hidden)
        batch = min(self.batch, 16)
        steps = min(self.steps, 2)
        return dataclasses.replace(self, network=network, batch=batch, images=steps * batch, epochs=min(self.epochs, 1))


@dataclass(frozen=True)
class Reading:
    """Read images of files in minibatches: a warm-up epoch, then timed epochs."""

    images: int
    size: int  # pixels of a side
    batch: int
    epochs: int

    def tiny(self) -> "Reading":
        """Return a small task of the same type."""
        return Reading(images=24, size=16, batch=8, epochs=1)


@dataclass(frozen=True)
class Inference:
    """Compute the logits of a batch of float32 images that is already on the device."""

    network: Network
    batch: int
    calls: int  # timed ones

    def tiny(self) -> "Inference":
        """Return a small task of the same type that takes almost no time."""
        return dataclasses.replace(self, batch=min(self.batch, 4), calls=3)


@dataclass(frozen=True)
class Layer:
    """Convolve a batch of images, and differentiate half the sum of the squared outputs by images and kernel."""

    size: int  # height and width of the images
    inputs: int
    maps: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    batch: int = 16
    steps: int = 4  # inside one program, if a system supports it
    calls: int = 3  # timed ones

    @property
    def multiply_adds(self) -> int:
        """The number of multiply-adds of the forward pass."""
        outputs = (self.size + 2 * self.padding - self.kernel_size) // self.stride + 1
        return self.batch * outputs**2 * self.kernel_size**2 * self.inputs // self.groups * self.maps

    def describe(self) -> str:
        """Return the sizes in words."""
        return f"{self.batch:,} of {self.size}x{self.size}x{self.inputs} to {self.maps} maps"

    def tiny(self) -> "Layer":
        """Return a small task of the same type that takes almost no time."""
        return dataclasses.replace(self, size=min(self.size, 15), batch=2, steps=2, calls=1)


@dataclass(frozen=True)
class Sweep:
    """Train LeNet with each learning rate and each seed; the time is from the start of the command to the last file."""

    data: str  # "embedded", or "mnist", which TFDS has prepared
    images: int  # number of training images
    epochs: int
    seeds: int
    rates: tuple[float, ...] = (0.03, 0.1, 0.3)
    batch: int = 50
    maps: tuple[int, int] = (20, 50)
    hidden: int = 500

    @property
    def num_jobs(self) -> int:
        """The number of jobs, one per learning rate and seed."""
        return self.seeds * len(self.rates)

    def tiny(self) -> "Sweep":
        """Return a small task of the same type that takes little time."""
        return dataclasses.replace(
            self, data="embedded", images=400, epochs=1, seeds=1, rates=self.rates[:2], maps=(2, 4), hidden=8
        )


@dataclass(frozen=True)
class Gradient:
    """Differentiate the loss of an architecture in training mode by its weights, without dropout."""

    name: str  # in lenet_jax and in torchvision
    variant: str | None = None  # lenet_jax's variant that matches torchvision
    size: int = 224  # height and width of the images
    batch: int = 8
    steps: int = 3  # inside one program, if a system supports it
    calls: int = 2  # timed ones

    def tiny(self) -> "Gradient":
        """Return a small task of the same type that takes little time."""
        size = self.size if self.name == "alexnet" else 64  # torchvision's alexnet resizes small feature maps
        return dataclasses.replace(self, size=size, batch=2, steps=1, calls=1)


Task = Training | Inference | Layer | Sweep | Gradient


def lenet(maps: tuple[int, int], hidden: int) -> Network:
    """Return a LeNet with other numbers of feature maps and hidden units."""
    return dataclasses.replace(LENET, maps=maps, hidden=hidden)


def weight_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the kernels, HWIO or (inputs, units), by the names of the layers in lenet_jax."""
    first, second = network.maps
    size = network.kernel_size
    features = (_map_sizes(network)[-1] // POOL_SIZE) ** 2 * second
    shapes: dict[str, tuple[int, ...]] = {"conv1": (size, size, 1, first), "conv2": (size, size, first, second)}
    if network.hidden is not None:
        shapes["hidden"] = (features, network.hidden)
        features = network.hidden
    return {**shapes, "softmax": (features, NUM_CLASSES)}


def _map_sizes(network: Network) -> list[int]:
    """Return the height and width of the output of each convolution, before its pooling."""
    size, sizes = IMAGE_SIZE, []
    for _ in network.maps:
        size -= 0 if network.padding == "SAME" else network.kernel_size - 1
        sizes.append(size)
        size //= POOL_SIZE
    return sizes


def multiply_adds(network: Network) -> int:
    """Return the number of multiply-adds to compute the logits of one image."""
    positions = dict(zip(("conv1", "conv2"), (size**2 for size in _map_sizes(network)), strict=True))
    return sum(positions.get(name, 1) * math.prod(shape) for name, shape in weight_shapes(network).items())


Weights = dict[str, dict[str, np.ndarray]]


def make_weights(network: Network) -> Weights:
    """Return kernels with small uniform random values, and biases of zero, by layer."""
    rng = np.random.default_rng(0)
    return {
        name: {
            "kernel": rng.uniform(-0.08, 0.08, shape).astype(np.float32),
            "bias": np.zeros(shape[-1], np.float32),
        }
        for name, shape in weight_shapes(network).items()
    }


def initialize(network: Network, seed: int) -> Weights:
    """Return initial weights of a LeNet from the same distribution as in lenet_jax: uniform within Glorot's bound.

    The fan-out of a convolution is divided by the area of its pooling window. The softmax layer is zero.
    """
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in weight_shapes(network).items():
        *window, inputs, outputs = shape
        fan_in, fan_out = math.prod(window) * inputs, math.prod(window) * outputs / (POOL_SIZE**2 if window else 1)
        bound = 0.0 if name == "softmax" else math.sqrt(6 / (fan_in + fan_out))
        kernel = rng.uniform(-bound, bound, shape).astype(np.float32)
        weights[name] = {"kernel": kernel, "bias": np.zeros(outputs, np.float32)}
    return weights


def make_images(num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images of noise and labels; in four images of five a bright row of pixels identifies the label.

    With these images the loss decreases fast and steadily, and its mean does not depend on rounding. Gradients do not
    vanish, as they would if every label could be learned; products of subnormal numbers take ten times as long.
    """
    rng = np.random.default_rng(1)
    images = rng.integers(0, 64, (num_images, IMAGE_SIZE, IMAGE_SIZE, 1), np.uint8)
    labels = rng.integers(0, NUM_CLASSES, num_images, np.int32)
    shown = np.where(rng.random(num_images) < 0.8, labels, rng.integers(0, NUM_CLASSES, num_images))
    images[np.arange(num_images), 4 + 2 * shown] |= 192
    return images, labels


def make_scaled_images(num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of `make_images` as float32 values from 0 to 1, and the labels."""
    images, labels = make_images(num_images)
    return images.astype(np.float32) / PIXEL_DIVISOR, labels


def make_layer_arrays(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return images (NHWC) and a kernel (HWIO)."""
    rng = np.random.default_rng(2)
    shapes = (
        (layer.batch, layer.size, layer.size, layer.inputs),
        (layer.kernel_size, layer.kernel_size, layer.inputs // layer.groups, layer.maps),
    )
    images, kernel = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes)
    return images, kernel


def make_photographs(task: Gradient) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 images of noise (NHWC) and labels of 1,000 classes."""
    rng = np.random.default_rng(3)
    images = rng.standard_normal((task.batch, task.size, task.size, 3)).astype(np.float32)
    return images, rng.integers(0, 1000, task.batch, np.int32)


def make_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the initial values of a tensor of an architecture, by torchvision's name and in its layout."""
    if len(shape) < 2:
        return np.full(shape, "running_mean" not in name and "bias" not in name, np.float32)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    scale = math.sqrt(2 / math.prod(shape[1:]))
    return scale * rng.standard_normal(shape, np.float32)


def num_threads() -> int:
    """Return the number of cores that this process may use, which is the number of threads of every system."""
    return len(os.sched_getaffinity(0))


def time_calls(call: Callable[[], object], num_calls: int) -> list[float]:
    """Return the duration of each of several calls in seconds; a call must return only when its work is done."""
    seconds = []
    for _ in range(num_calls):
        start_time = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start_time)
    return seconds
