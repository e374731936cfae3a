"""Keras on TensorFlow or on JAX (KERAS_BACKEND says which): model.fit, and on TensorFlow calls of a tf.function."""

import time

import keras
import numpy as np

from experiments.benchmarks import problem

_ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
if _ON_TENSORFLOW:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(problem.num_threads())
    tf.config.experimental.enable_tensor_float_32_execution(False)
else:
    from experiments.benchmarks.systems import jax_tools


def device_name() -> str:
    """Return "cpu" or the name of the GPU."""
    if not _ON_TENSORFLOW:
        return jax_tools.device_name()
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0])["device_name"] if gpus else "cpu"


def _make_model(network: problem.Network) -> keras.Model:
    model = keras.Sequential([keras.Input((problem.IMAGE_SIZE, problem.IMAGE_SIZE, 1))])
    for num_maps in network.maps:
        model.add(keras.layers.Conv2D(num_maps, network.kernel_size, padding=network.padding.lower()))
        model.add(keras.layers.MaxPooling2D(problem.POOL_SIZE))
        model.add(keras.layers.Activation(network.activation))
    model.add(keras.layers.Flatten())
    if network.hidden is not None:
        model.add(keras.layers.Dense(network.hidden, activation=network.activation))
    model.add(keras.layers.Dense(problem.NUM_CLASSES))
    weights = problem.make_weights(network).values()
    model.set_weights([array for layer in weights for array in (layer["kernel"], layer["bias"])])
    return model


def _make_optimizer(task: problem.Training) -> keras.optimizers.Optimizer:
    if task.optimizer == "adam":
        return keras.optimizers.Adam(task.learning_rate, epsilon=1e-8)  # of PyTorch and Optax; Keras has 1e-7
    return keras.optimizers.SGD(task.learning_rate)


class _Clock(keras.callbacks.Callback):
    """Keep the mean loss and the seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        self.losses.append(float(logs["loss"]))
        self.seconds.append(time.perf_counter() - self._begin)


def train(
    task: problem.Training, *, jit_compile: bool | str = "auto", steps_per_execution: int = 1
) -> tuple[float, list[float]]:
    """Train by one call of model.fit for all epochs."""
    images, labels = problem.make_scaled_images(task.images)
    model = _make_model(task.network)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = min(steps_per_execution, task.steps)
    model.compile(_make_optimizer(task), loss, jit_compile=jit_compile, steps_per_execution=steps)
    clock = _Clock()
    model.fit(
        images, labels, batch_size=task.batch, epochs=1 + task.epochs, shuffle=False, verbose=0, callbacks=[clock]
    )
    return clock.losses[0], clock.seconds[1:]


def infer(task: problem.Inference, *, jit_compile: bool = False) -> tuple[float, list[float]]:
    """Call the model as a tf.function."""
    model = _make_model(task.network)
    images = tf.constant(problem.make_scaled_images(task.batch)[0])

    @tf.function(jit_compile=jit_compile)
    def logits(images: tf.Tensor) -> tf.Tensor:
        return model(images, training=False)

    check = float(np.abs(logits(images).numpy()).sum(dtype=np.float64))
    return check, problem.time_calls(lambda: logits(images).numpy(), task.calls)
