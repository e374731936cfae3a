"""lenet_jax: the epoch program of the trainer, and jitted calls of the model and of conv2d."""

import functools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors
from jax import Array, lax
from safetensors.numpy import save_file

import lenet_jax as lj
from experiments.benchmarks import problem
from experiments.benchmarks.systems.commands import Swept, sweep_with_lenet_jax
from experiments.benchmarks.systems.jax_tools import device_name, sum_of_magnitudes
from lenet_jax import training
from lenet_jax.components import built_in_component, complete_config
from lenet_jax.config import Config, TrainerConfig
from lenet_jax.interop.torchvision import load_torchvision, save_torchvision
from lenet_jax.objective import Batch, Task, training_loss
from lenet_jax.objectives import classification
from lenet_jax.runs import programs
from lenet_jax.runs.prepared_run import prepare_run
from lenet_jax.runs.recorder import Recorder
from lenet_jax.runs.run import run

__all__ = [
    "checkpoint_times",
    "compile_times",
    "device_name",
    "gradient",
    "help_seconds",
    "infer",
    "init_seconds",
    "layer",
    "program_seconds",
    "sweep",
    "train",
]


def _make_model(network: problem.Network) -> lj.Model:
    options = {} if network.hidden is None else {"hidden_units": network.hidden}
    return lj.create_model(network.name, num_kernels=network.maps, kernel_size=network.kernel_size, **options)


def _make_variables(network: problem.Network) -> lj.Variables:
    return lj.Variables(jax.tree.map(jnp.array, problem.make_weights(network)), {})


def _make_epoch(task: problem.Training) -> tuple[Callable, training.TrainState, lj.Dataset]:
    """Return the program (state, data) -> (state, evaluation) of one epoch, and its first arguments."""
    images, labels = problem.make_images(task.images)
    few = lj.Split(images[:1], labels[:1])  # the validation is a part of the program: one image of it
    dataset = lj.Dataset(lj.Split(images, labels), few, few, pixel_divisor=problem.PIXEL_DIVISOR)
    model = _make_model(task.network)
    optimizer = lj.make_optimizer(task.optimizer, learning_rate=task.learning_rate)
    config = TrainerConfig(batch_size=task.batch, max_epochs=task.epochs + 1, shuffle=False)
    state = jax.jit(lambda key: training.init_train_state(model, optimizer, config, key, {}))(jax.random.key(0))
    state = state._replace(variables=_make_variables(task.network))
    interval = functools.partial(training.train_interval, training.make_task(model, config, dataset), optimizer, config)
    return jax.jit(interval, donate_argnums=0), state, jax.device_put(dataset)


def train(task: problem.Training, *, trainer: bool = False) -> tuple[float, list[float]]:
    """Train as a user of the library does; with `trainer`, as `make_train` and the command line do."""
    return _train_in_intervals(task) if trainer else _train_in_scan(task)


def _train_in_scan(task: problem.Training) -> tuple[float, list[float]]:
    """Train float32 images by `model.apply` and Optax in a loop of one's own, an epoch a call."""
    model, params = _make_model(task.network), _make_variables(task.network).params
    optimizer = {"sgd": optax.sgd, "adam": optax.adam}[task.optimizer](task.learning_rate)
    images, labels = problem.make_scaled_images(task.images)
    batches = tuple(jnp.asarray(x).reshape(task.steps, task.batch, *x.shape[1:]) for x in (images, labels))

    def loss(params: dict, images: Array, labels: Array) -> Array:
        logits, _ = model.apply(lj.Variables(params, {}), images)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def step(carry: tuple, batch: tuple[Array, Array]) -> tuple[tuple, Array]:
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, *batch)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    epoch = jax.jit(lambda carry, batches: lax.scan(step, carry, batches), donate_argnums=0)
    carry = params, optimizer.init(params)

    def run_epoch() -> float:
        nonlocal carry
        carry, losses = jax.block_until_ready(epoch(carry, batches))
        return float(jnp.mean(losses))

    return run_epoch(), problem.time_calls(run_epoch, task.epochs)


def _train_in_intervals(task: problem.Training) -> tuple[float, list[float]]:
    epoch, state, data = _make_epoch(task)

    def run_epoch() -> float:
        nonlocal state
        state, evaluation = jax.block_until_ready(epoch(state, data))
        return float(evaluation.train_loss)

    return run_epoch(), problem.time_calls(run_epoch, task.epochs)


def compile_times(task: problem.Training | problem.Gradient) -> dict[str, float]:
    """Return the seconds of each part of the way to the compiled epoch program, or that of the steps."""
    program, *arguments = _make_gradient(task) if isinstance(task, problem.Gradient) else _make_epoch(task)
    begin = time.perf_counter()
    lowered = program.lower(*arguments)
    middle = time.perf_counter()
    lowered.compile()
    return {"trace and lower": middle - begin, "compile": time.perf_counter() - middle}


def infer(task: problem.Inference) -> tuple[float, list[float]]:
    """Call the jitted model."""
    model = _make_model(task.network)
    variables = _make_variables(task.network)
    images = jnp.array(problem.make_scaled_images(task.batch)[0])
    call = jax.jit(lambda variables, images: model.apply(variables, images)[0])
    check = sum_of_magnitudes(call(variables, images))
    return check, problem.time_calls(lambda: jax.block_until_ready(call(variables, images)), task.calls)


def sweep(task: problem.Sweep, *, launcher: str = "lanes", strategy: str = "auto") -> Swept:
    """Run `lenet-jax train -m`."""
    return sweep_with_lenet_jax(task, launcher, strategy)


def program_seconds(task: problem.Sweep) -> float:
    """Return the seconds that the compiled programs of one job of a sweep take."""
    config = Config(
        model=built_in_component("model", "lenet", {"num_kernels": task.maps, "hidden_units": task.hidden}),
        data=built_in_component("data", "embedded", {"train_size": task.images}),
        trainer=TrainerConfig(batch_size=task.batch, max_epochs=task.epochs),
    )
    prepared = prepare_run(complete_config(config))
    compiled = programs.compile_programs(prepared)
    states, everyone = compiled.states, np.ones(1, bool)
    seeds, values = programs.lane_inputs(prepared.options, [prepared.config])

    def run_job() -> None:
        nonlocal states
        states = compiled.start(states, (everyone, seeds, values), None)
        for _ in range(task.epochs):
            states, _ = compiled.advance(states, values, compiled.data)
        jax.block_until_ready(compiled.measure(states.best, (everyone, values), compiled.data))

    run_job()
    return statistics.median(problem.time_calls(run_job, 20))


def layer(task: problem.Layer, *, scan: bool = True) -> tuple[float, list[float]]:
    """Differentiate conv2d: several steps inside `lax.scan`, as our epochs do, or one step a call."""
    convolve = functools.partial(lj.conv2d, strides=task.stride, padding=((task.padding,) * 2,) * 2, groups=task.groups)

    def step(images: Array, kernel: Array) -> tuple[Array, Array]:
        maps, transpose = jax.vjp(convolve, images, kernel)
        return transpose(maps)

    def steps(images: Array, kernel: Array) -> tuple[Array, Array]:
        def body(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
            kernel, *_ = carry
            grads = step(images, kernel)
            # Without this dependence XLA would compute the step once, before the loop. The kernel stays as it is.
            return (kernel - 1e-20 * grads[1], *grads), None

        return lax.scan(body, (kernel, images, kernel), length=task.steps)[0][1:]

    images, kernel = map(jnp.array, problem.make_layer_arrays(task))
    call = jax.jit(steps if scan else step)
    check = sum_of_magnitudes(*call(images, kernel))
    steps_a_call = task.steps if scan else 1
    num_calls = task.calls * task.steps // steps_a_call
    seconds = problem.time_calls(lambda: jax.block_until_ready(call(images, kernel)), num_calls)
    return check, [value / steps_a_call for value in seconds]


def _make_gradient(task: problem.Gradient) -> tuple[Callable, lj.Variables]:
    """Return a program of some steps, variables -> (variables, gradients of the last step), and its argument."""
    options = {"variant": task.variant} if task.variant else {}
    if task.name in ("alexnet", "googlenet"):
        options["dropout"] = 0.0
    model = lj.create_model(task.name, input_shape=(task.size, task.size, 3), num_classes=1000, **options)
    images, labels = map(jnp.asarray, problem.make_photographs(task))
    batch = Batch(images, labels, jax.random.split(jax.random.key(0), len(images)))

    def loss(params: dict, state: dict) -> tuple[Array, dict]:
        each, state = training_loss(Task(model, classification()), lj.Variables(params, state), batch)
        return jnp.mean(each), state

    def steps(variables: lj.Variables) -> tuple[lj.Variables, dict]:
        def body(carry: tuple[lj.Variables, dict], _: None) -> tuple[tuple[lj.Variables, dict], None]:
            (params, state), _ = carry
            grads, state = jax.grad(loss, has_aux=True)(params, state)
            # Without this dependence XLA would compute the step once, before the loop. The weights stay as they are.
            params = jax.tree.map(lambda param, grad: param - 1e-20 * grad, params, grads)
            return (lj.Variables(params, state), grads), None

        return lax.scan(body, (variables, variables.params), length=task.steps)[0]

    return jax.jit(steps, donate_argnums=0), _make_architecture(task.name, model)


def _make_architecture(name: str, model: lj.Model) -> lj.Variables:
    """Return the weights that torchvision's model has, through its file format."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.safetensors")
        save_torchvision(path, model.init(jax.random.key(0)), name)
        with safetensors.safe_open(path, "numpy") as found:
            shapes = {each: tuple(found.get_slice(each).get_shape()) for each in found.keys()}  # noqa: SIM118
        save_file({each: problem.make_tensor(each, shape) for each, shape in shapes.items()}, path)
        return load_torchvision(path, model, name)


def gradient(task: problem.Gradient) -> tuple[float, list[float]]:
    """Differentiate an architecture, several steps inside `lax.scan`, as our epochs do."""
    program, variables = _make_gradient(task)
    variables, grads = program(variables)
    check = sum_of_magnitudes(*jax.tree.leaves(grads))
    del grads

    def call() -> None:
        nonlocal variables
        variables = jax.block_until_ready(program(variables))[0]

    return check, [value / task.steps for value in problem.time_calls(call, task.calls)]


def init_seconds(task: problem.Gradient) -> float:
    """Return the seconds of a first `model.init`."""
    model = lj.create_model(task.name, input_shape=(task.size, task.size, 3), num_classes=1000)
    begin = time.perf_counter()
    jax.block_until_ready(model.init(jax.random.key(0)))
    return time.perf_counter() - begin


def help_seconds() -> float:
    """Return the seconds of `lenet-jax train --help`."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "lenet_jax", "train", "--help"], check=True, capture_output=True)
    return time.perf_counter() - begin


def checkpoint_times(task: problem.Training) -> tuple[float, float, float]:
    """Train as the command line does, on images of MNIST.

    Returns:
        The last training loss, and the medians of the seconds of an epoch and of saving a checkpoint after it.
    """
    seconds = []

    def timed(save: Callable, recorder: Recorder, *args: object) -> None:
        begin = time.perf_counter()
        save(recorder, *args)
        seconds.append(time.perf_counter() - begin)

    data = built_in_component("data", "mnist", {"train_size": task.images})
    trainer = TrainerConfig(batch_size=task.batch, max_epochs=task.epochs + 1)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(Recorder, "save", functools.partialmethod(functools.partial(timed, Recorder.save))),
    ):
        *_, last, finished = run(prepare_run(complete_config(Config(data=data, trainer=trainer))), Path(folder))
    epochs = task.images / finished.result["images_per_second"]
    return last.record["train_loss"], epochs, statistics.median(seconds)
