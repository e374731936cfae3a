"""What experiments/benchmarks/gpu.sh measures beside the cases: ResNet-18, and convolutions of many lanes.

    python -m experiments.benchmarks.gpu [--smoke]

A line each: what, milliseconds a call (median), and PyTorch's where it is installed with torchvision.
"""

import argparse
import importlib.util
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

import lenet_jax as lj
from experiments.benchmarks.problem import time_calls

_CALLS = 10


def _milliseconds(call: Callable[[], Any]) -> float:
    call()  # compiles
    return 1000 * statistics.median(time_calls(call, _CALLS))


def resnet(dtype: str, batch: int, size: int) -> float:
    """Return the time of the loss and gradient of a ResNet-18 for images of `size` pixels."""
    model = lj.create_model("resnet18", input_shape=(size, size, 3))
    params, state = model.init(jax.random.key(0))
    cast = lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype), tree)  # noqa: E731
    images = jax.random.normal(jax.random.key(1), (batch, size, size, 3), dtype)
    labels = jnp.arange(batch) % 10

    @jax.jit
    def gradient(params: Any) -> Any:
        def loss(params: Any) -> Array:
            logits, _ = model.apply(lj.Variables(cast(params), state), images, train=True)
            return -jnp.mean(jax.nn.log_softmax(logits.astype(jnp.float32))[jnp.arange(batch), labels])

        return jax.grad(loss)(params)

    return _milliseconds(lambda: jax.block_until_ready(gradient(params)))


def torch_resnet(dtype: str, batch: int, size: int) -> float:
    """Return the same of torchvision's ResNet-18 on the same device."""
    import torch
    import torchvision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torchvision.models.resnet18(num_classes=10).to(device, memory_format=torch.channels_last)
    images = torch.randn(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=device) % 10

    def call() -> None:
        model.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return _milliseconds(call)


def lanes(num_lanes: int, batch: int, *, patches: bool) -> float:
    """Return the time of LeNet's second convolution and its gradients in lanes that have kernels of their own.

    vmap makes a grouped convolution of them; with `patches` they are one batched product.
    """
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (num_lanes, batch, 12, 12, 20))
    kernel = jax.random.normal(keys[1], (num_lanes, 5, 5, 20, 50))
    axes = ("NHWC", "HWIO", "NHWC")

    def convolve(x: Array, kernel: Array) -> Array:
        if not patches:
            return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=axes)
        columns = lax.conv_general_dilated_patches(x, (5, 5), (1, 1), "VALID", dimension_numbers=axes)
        return columns @ kernel.transpose(2, 0, 1, 3).reshape(-1, 50)  # patches are channel by channel

    def loss(x: Array, kernel: Array) -> Array:
        return jnp.sum(jnp.square(jax.vmap(convolve)(x, kernel)))

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    return _milliseconds(lambda: jax.block_until_ready(gradient(x, kernel)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.gpu")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to try the program")
    smoke = parser.parse_args().smoke
    print(f"device: {jax.devices()[0].device_kind}", flush=True)
    batch, size = (2, 32) if smoke else (256, 32)
    has_torch = all(importlib.util.find_spec(name) for name in ("torch", "torchvision"))
    for dtype in ("float32", "bfloat16"):
        peer = f"{torch_resnet(dtype, batch, size):.2f}" if has_torch else "not installed"
        print(f"resnet18 {dtype}, batch {batch}: {resnet(dtype, batch, size):.2f} ms; PyTorch {peer}", flush=True)
    for num_lanes in (1, 2) if smoke else (1, 16, 64, 256):
        grouped, product = (lanes(num_lanes, 2 if smoke else 50, patches=patches) for patches in (False, True))
        print(f"{num_lanes} lanes: grouped convolution {grouped:.2f} ms, patches and product {product:.2f}", flush=True)


if __name__ == "__main__":
    main()
