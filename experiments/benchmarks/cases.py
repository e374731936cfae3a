"""The systems that are compared, and the cases that are measured. Imports no framework."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.benchmarks.problem import (
    LENET,
    MNIST_CNN,
    Gradient,
    Inference,
    Layer,
    Reading,
    Sweep,
    Task,
    Training,
    multiply_adds,
)


@dataclass(frozen=True)
class System:
    """A framework in one of its settings."""

    label: str
    module: str  # in experiments.benchmarks.systems
    packages: tuple[str, ...]  # distributions whose versions are recorded
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # keyword arguments for the module's functions
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    compared: bool = True  # whether it is a peer with which ours is compared


_JAX = ("jax", "jaxlib", "optax")
_KERAS_TENSORFLOW: dict[str, Any] = {
    "module": "keras_model",
    "packages": ("keras", "tensorflow"),
    "environment": {"KERAS_BACKEND": "tensorflow"},
}

SYSTEMS: dict[str, System] = {
    "ours": System("lenet_jax", "ours", _JAX),  # as a library: `model.apply` in the user's own `lax.scan`
    "ours_trainer": System("lenet_jax, train_interval", "ours", _JAX, {"trainer": True}, compared=False),
    "ours_call": System("lenet_jax, one call a step", "ours", _JAX, {"scan": False}, compared=False),
    "ours_devices": System("lenet_jax, sweep.strategy=devices", "ours", _JAX, {"strategy": "devices"}, compared=False),
    "ours_basic": System("lenet_jax, Hydra's basic launcher", "ours", _JAX, {"launcher": "basic"}),
    "torch_channels_last": System("PyTorch, channels_last", "pytorch", ("torch",), {"channels_last": True}),
    "torch": System("PyTorch", "pytorch", ("torch",)),
    "torch_compile": System("PyTorch, torch.compile", "pytorch", ("torch",), {"channels_last": True, "compiled": True}),
    "torch_uint8": System("PyTorch, uint8 images", "pytorch", ("torch",), {"channels_last": True, "uint8": True}),
    "keras_tensorflow": System("Keras on TensorFlow", **_KERAS_TENSORFLOW),
    "keras_tensorflow_xla": System("Keras on TensorFlow, XLA", options={"jit_compile": True}, **_KERAS_TENSORFLOW),
    "keras_tensorflow_steps": System(
        "Keras on TensorFlow, 25 steps an execution", options={"steps_per_execution": 25}, **_KERAS_TENSORFLOW
    ),
    "keras_jax": System("Keras on JAX", "keras_model", ("keras", "jax"), environment={"KERAS_BACKEND": "jax"}),
    "plain_jax": System("plain JAX", "plain_jax", _JAX),
    "plain_jax_scan": System("plain JAX inside lax.scan", "plain_jax", _JAX, {"scan": True}),
    "plain_jax_sampled": System(
        "plain JAX inside lax.scan, one seed of all", "plain_jax", _JAX, {"scan": True, "seeds": 1}
    ),
    "ours_stream": System("lenet_jax, data.stream=true", "reading", ("jax", "grain", "pillow"), {"how": "stream"}),
    "ours_in_memory": System("lenet_jax, in memory", "reading", ("jax", "pillow"), {"how": "memory"}, compared=False),
    "torch_loader": System("PyTorch, DataLoader, a process a core", "reading", ("torch", "pillow"), {"how": "torch"}),
    "flax_nnx": System("flax.nnx", "flax_nnx", (*_JAX, "flax")),
}


@dataclass(frozen=True)
class Goal:
    """A goal for ours: the largest acceptable ratio of its value to that of the best peer."""

    ratio: float
    peers: tuple[str, ...] = ()  # the peers to compare with; (): all peers of the case
    of: str = ""  # a further value of the measurement, "": the value itself


@dataclass(frozen=True)
class Point:
    """One setting of a case, which is a row of its table."""

    name: str
    task: Task
    work: float = 0.0  # amount of work in any unit; if given, the table compares its growth with that of the time


@dataclass(frozen=True)
class Case:
    """A measurement of several systems, with goals for ours."""

    name: str
    title: str
    measure: str  # a key of worker.MEASURES
    unit: str  # of the measured value
    systems: tuple[str, ...]  # the first one is ours
    points: tuple[Point, ...]
    goals: tuple[Goal, ...] = ()
    limit: float | None = None  # the largest acceptable value for ours, in the unit of the case
    tolerance: float = 1e-4  # relative difference allowed in the check value, which must agree between systems
    loose: bool = False  # whether the check value is meaningless for tiny tasks
    max_rounds: int = 100
    warm_start: bool = False  # whether each system runs once, unreported, before it is measured; JAX caches programs

    @property
    def peers(self) -> tuple[str, ...]:
        """The systems with which ours is compared."""
        return tuple(name for name in self.systems[1:] if SYSTEMS[name].compared)


def _one(task: Task) -> tuple[Point, ...]:
    return (Point("", task),)


_TORCH = ("torch_channels_last", "torch")
_ANY_TORCH = (*_TORCH, "torch_compile")
_KERAS = ("keras_tensorflow", "keras_jax")
_TRAINING = (
    "ours",
    "ours_trainer",
    *_TORCH,
    "torch_compile",
    "keras_tensorflow",
    "keras_tensorflow_xla",
    "keras_tensorflow_steps",
    "keras_jax",
    "plain_jax",
    "flax_nnx",
)
_INFERENCE = ("ours", *_TORCH, "torch_compile", "keras_tensorflow", "keras_tensorflow_xla")


def _inference(batch: int, calls: int, ratio: float) -> Case:
    return Case(
        f"inference_b{batch}",
        f"Logits of LeNet, batch {batch:,}",
        measure="inference",
        unit="ms a call",
        systems=_INFERENCE,
        points=_one(Inference(LENET, batch, calls)),
        goals=(Goal(ratio),),
    )


def _batch_point(batch: int) -> Point:
    return Point(f"batch {batch:,}", Training(LENET, batch, images=8192, epochs=3), work=batch)


def _images_point(images: int) -> Point:
    return Point(f"{images:,} images", Training(LENET, 500, images, epochs=1), work=images)


def _maps_point(factor: int, images: int) -> Point:
    network = dataclasses.replace(LENET, maps=(20 * factor, 50 * factor))
    name = f"{network.maps[0]:,} and {network.maps[1]:,} maps"
    return Point(name, Training(network, 50, images, epochs=1), work=multiply_adds(network))


def _sweep(name: str, what: str, task: Sweep) -> Case:
    return Case(
        f"sweep_{name}_b{task.batch}",
        f"{task.num_jobs} jobs of LeNet ({len(task.rates)} learning rates, {task.seeds} seeds) on {what}, batch "
        f"{task.batch}, from the first command to the last file",
        measure="sweep",
        unit="s",
        systems=("ours", "ours_devices", "ours_basic", "plain_jax", "plain_jax_sampled", "torch"),
        points=_one(task),
        goals=(
            Goal(0.15, ("plain_jax",)),
            Goal(0.03, ("plain_jax_sampled",)),
            Goal(0.15, ("torch",)),
            Goal(1.0, ("ours_basic",)),
        ),
        tolerance=3e-2,  # the systems draw different random numbers
        loose=True,
        max_rounds=2,
    )


def _architecture(name: str, task: Gradient, ratio: float) -> Case:
    return Case(
        name,
        f"Forward and backward of torchvision's {task.name}, 224x224, batch 8, and the peak memory of the process",
        measure="gradient",
        unit="ms a step",
        systems=("ours", *_TORCH),
        points=_one(task),
        goals=(Goal(ratio), Goal(0.9, of="peak MB")),
        tolerance=1e-2,  # rounding can change the sign of an activation at a ReLU
    )


def _jobs_point(num_jobs: int) -> Point:
    rates = (0.1,) if num_jobs == 1 else (0.03, 0.1)
    return Point(f"{num_jobs} jobs", Sweep("embedded", 4_000, epochs=1, seeds=num_jobs // len(rates), rates=rates))


_LAYERS = (
    Point("11x11, stride 4, 3 to 96, 227x227", Layer(227, 3, 96, kernel_size=11, stride=4)),
    Point("5x5, pad 2, 96 to 256 in 2 groups, 27x27", Layer(27, 96, 256, kernel_size=5, padding=2, groups=2)),
    Point("5x5, pad 2, 96 to 256, 27x27", Layer(27, 96, 256, kernel_size=5, padding=2)),
    Point("3x3, pad 1, 256 to 384, 13x13", Layer(13, 256, 384, kernel_size=3, padding=1)),
    Point("3x3, pad 1, 64 to 64, 56x56", Layer(56, 64, 64, kernel_size=3, padding=1)),
    Point("3x3, pad 1, 3 to 64, 224x224", Layer(224, 3, 64, kernel_size=3, padding=1)),
    Point("7x7, stride 2, pad 3, 3 to 64, 224x224", Layer(224, 3, 64, kernel_size=7, stride=2, padding=3)),
    Point("1x1, 256 to 64, 56x56", Layer(56, 256, 64, kernel_size=1)),
)

_SMALL = Layer(28, 16, 16, kernel_size=3, padding=1)


def _growth_of_layers(name: str, *layers: Layer) -> Case:
    return Case(
        f"growth_layer_{name}",
        f"One 3x3 convolution, forward and both gradients, by its {name}",
        measure="layer",
        unit="ms a step",
        systems=("ours",),
        points=tuple(Point(layer.describe(), layer, work=layer.multiply_adds) for layer in layers),
        max_rounds=5,
    )


_ALL = (
    Case(
        "lenet_b500",
        "Training LeNet, batch 500, SGD",
        measure="training",
        unit="ms a step",
        systems=_TRAINING,
        points=_one(Training(LENET, 500, images=5_000, epochs=4)),
        goals=(Goal(0.42, _ANY_TORCH),),
    ),
    Case(
        "lenet_b32",
        "Training LeNet, batch 32, SGD",
        measure="training",
        unit="ms a step",
        systems=_TRAINING,
        points=_one(Training(LENET, 32, images=3_200, epochs=4)),
        goals=(Goal(0.45, _ANY_TORCH),),
    ),
    Case(
        "lenet_scan",
        "Training LeNet in one program, batch 500, SGD",
        measure="training",
        unit="ms a step",
        systems=("ours", "plain_jax_scan"),
        points=_one(Training(LENET, 500, images=1_500, epochs=2)),
        goals=(Goal(1 / 15),),
    ),
    Case(
        "keras_mnist",
        "Training the network of the Keras MNIST notebook, batch 32, Adam, 60,000 images an epoch",
        measure="training",
        unit="s an epoch",
        systems=(
            *("ours", "ours_trainer", "keras_tensorflow", "keras_tensorflow_steps", "keras_jax", "torch_channels_last"),
        ),
        points=_one(Training(MNIST_CNN, 32, images=60_000, epochs=1, optimizer="adam", learning_rate=1e-3)),
        goals=(Goal(0.35, ("keras_tensorflow", "keras_tensorflow_steps", "keras_jax")),),
        tolerance=5e-3,  # Keras adds Adam's epsilon at another place
    ),
    _inference(1, calls=500, ratio=0.9),
    _inference(64, calls=200, ratio=0.6),
    _inference(1000, calls=30, ratio=0.5),
    Case(
        "memory",
        "Peak memory of a process that trains LeNet for an epoch, batch 500, 60,000 uint8 images; on JAX with compiled "
        "programs on disk",
        measure="memory",
        unit="MB",
        systems=("ours_trainer", "torch_channels_last", "torch_uint8", "keras_tensorflow"),
        points=_one(Training(LENET, 500, images=60_000)),
        goals=(Goal(0.8, ("torch_channels_last", "torch_uint8")),),
        tolerance=1e-3,
        warm_start=True,
    ),
    Case(
        "startup",
        "From process start to the end of the first step of LeNet, batch 500; on JAX with compiled programs on disk",
        measure="startup",
        unit="s",
        systems=("ours_trainer", "torch_channels_last", *_KERAS),
        points=_one(Training(LENET, 500, images=500)),
        goals=(Goal(1.0, _KERAS), Goal(1.5, ("torch_channels_last",))),
        warm_start=True,
    ),
    Case(
        "compile",
        "Compiling the epoch program of LeNet, batch 500, without a cache",
        measure="compile",
        unit="s",
        systems=("ours",),
        points=_one(Training(LENET, 500, images=5_000)),
        limit=3.0,
    ),
    Case(
        "growth_batch",
        "Training LeNet, by the size of the batch",
        measure="growth",
        unit="ms a step",
        systems=("ours",),
        points=tuple(map(_batch_point, (8, 32, 128, 512, 2048, 4096))),
        max_rounds=3,
    ),
    Case(
        "growth_images",
        "Training LeNet, batch 500, by the images an epoch",
        measure="growth",
        unit="s an epoch",
        systems=("ours_trainer",),
        points=tuple(map(_images_point, (5_000, 60_000, 480_000))),
        max_rounds=2,
    ),
    Case(
        "growth_maps",
        "Training LeNet, batch 50, by the maps of its convolutions",
        measure="growth",
        unit="ms a step",
        systems=("ours",),
        points=tuple(map(_maps_point, (1, 4, 16, 64), (2_000, 500, 100, 50))),
        max_rounds=2,
    ),
    Case(
        "layers",
        "One convolution, forward and both gradients, 16 images; ours inside lax.scan and one call a step",
        measure="layer",
        unit="ms a step",
        systems=("ours", "ours_call", *_TORCH),
        points=_LAYERS,
        goals=(Goal(1.0),),
        tolerance=1e-3,
    ),
    _growth_of_layers("batch", *(dataclasses.replace(_SMALL, batch=batch) for batch in (1, 16, 256, 4096))),
    _growth_of_layers("channels", *(dataclasses.replace(_SMALL, inputs=n, maps=n, size=14) for n in (1, 8, 64, 512))),
    _growth_of_layers("image", *(dataclasses.replace(_SMALL, size=size, batch=1) for size in (8, 32, 128, 512))),
    _architecture("alexnet", Gradient("alexnet", variant="one_tower", steps=8), 0.8),
    _architecture("resnet50", Gradient("resnet50"), 0.85),
    Case(
        "init",
        "`model.init` of the architectures in a new process, 224x224, compiling included",
        measure="init",
        unit="s",
        systems=("ours",),
        points=tuple(Point(name, Gradient(name)) for name in ("alexnet", "googlenet", "resnet50", "resnet152")),
        limit=2.0,
    ),
    Case(
        "help",
        "`lenet-jax train --help`",
        measure="help",
        unit="s",
        systems=("ours",),
        points=_one(Sweep("embedded", images=50, epochs=1, seeds=1)),
        limit=0.6,
    ),
    Case(
        "compile_architectures",
        "Compiling forward and backward of the architectures, 224x224, batch 8, without a cache",
        measure="compile",
        unit="s",
        systems=("ours",),
        points=(
            Point("alexnet", Gradient("alexnet", variant="one_tower")),
            Point("googlenet", Gradient("googlenet", variant="torchvision")),
            Point("resnet50", Gradient("resnet50")),
            Point("resnet152", Gradient("resnet152")),
        ),
        max_rounds=2,
    ),
    *(
        _sweep(name, what, dataclasses.replace(task, batch=batch))
        for name, what, task in (
            ("digits", "the 5,000 embedded digits, 3 epochs", Sweep("embedded", images=4_000, epochs=3, seeds=8)),
            ("mnist", "20,000 images of MNIST, 1 epoch", Sweep("mnist", images=20_000, epochs=1, seeds=8)),
        )
        for batch in (50, 500)
    ),
    Case(
        "sweep_size",
        "A sweep of LeNet on the embedded digits, 1 epoch, batch 50, by the number of its jobs",
        measure="sweep",
        unit="s",
        systems=("ours", "ours_basic"),
        points=tuple(map(_jobs_point, (1, 4, 24, 96))),
        goals=(Goal(1.0),),
        tolerance=1e-2,
        max_rounds=2,
    ),
    Case(
        "sweep_overhead",
        "1,000 jobs of one step, from command to summary: what a job takes besides its compiled programs, those of a "
        "LeNet with 2 and 4 maps, measured on 1,050 images",
        measure="overhead",
        unit="ms a job",
        systems=("ours",),
        points=_one(Sweep("embedded", images=50, epochs=1, seeds=1_000, rates=(0.1,), maps=(2, 4), hidden=8)),
        limit=50.0,
        max_rounds=2,
    ),
    Case(
        "checkpoints",
        "Saving a checkpoint after each epoch of LeNet on MNIST, 50,000 images, batch 500: what it adds to an epoch",
        measure="checkpoints",
        unit="%",
        systems=("ours",),
        points=_one(Training(LENET, 500, images=50_000, epochs=4)),
        limit=3.0,
    ),
    Case(
        "stream",
        "Reading and decoding an epoch of 4,096 JPEG images of 224x224 pixels in a random order, batch 128",
        measure="reading",
        unit="s an epoch",
        systems=("ours_stream", "ours_in_memory", "torch_loader"),
        points=_one(Reading(images=4_096, size=224, batch=128, epochs=3)),
        goals=(Goal(1.0),),
    ),
)

CASES: dict[str, Case] = {case.name: case for case in _ALL}


def select_cases(names: list[str]) -> list[Case]:
    """Return cases by name, in the order of the table; a prefix, such as `growth`, selects several cases.

    Raises:
        ValueError: if a name selects no case.
    """
    for name in names:
        if not any(_is_named(case, name) for case in _ALL):
            raise ValueError(f"no case is named {name!r}; choose from: {', '.join(CASES)}.")
    return [case for case in _ALL if not names or any(_is_named(case, name) for name in names)]


def _is_named(case: Case, name: str) -> bool:
    return case.name == name or case.name.startswith(f"{name}_")
