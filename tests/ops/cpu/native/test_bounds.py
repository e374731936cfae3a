"""A call with shapes that do not fit together is an error of the program; no array is read or written."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lenet_jax.ops.cpu import native
from lenet_jax.ops.windows import make_window

pytestmark = pytest.mark.skipif(native.instruction_set() == "none", reason="the kernels are not in use")

WINDOW = native._numbers(make_window("conv", (6, 6), 3, strides=1, padding="VALID"))  # 4x4 positions
POOLING = native._numbers(make_window("pool", (4, 4), 2, strides=2, padding="VALID"))  # 2x2 positions
X, KERNEL, BIAS = (1, 6, 6, 4), (3, 3, 4, 8), (8,)
MAPS, POOLED = (1, 4, 4, 8), (1, 2, 2, 8)


def changed(window: np.ndarray, number: int, value: int) -> np.ndarray:
    window = window.copy()
    window[number] = value
    return window


def call(target: str, results: list[tuple[Any, Any]], *arrays: tuple[Any, Any], **options: Any) -> Any:
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in results]
    target = f"lenet_jax_{target}"
    return jax.block_until_ready(
        jax.ffi.ffi_call(target, shapes)(*(jnp.ones(shape, dtype) for shape, dtype in arrays), **options)
    )


def f32(*shapes: tuple[int, ...]) -> list[tuple[Any, Any]]:
    return [(shape, jnp.float32) for shape in shapes]


@pytest.mark.parametrize("target", ["convolution", "input_gradient", "kernel_gradient"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": (3, 3, 5, 8)},
        {"kernel": (3, 3, 4, 9)},
        {"kernel": (2, 3, 4, 8)},
        {"kernel": ()},
        {"maps": (1, 40, 40, 8)},
        {"maps": (2, 4, 4, 8)},
        {"x": (1, 6, 6, 3)},
        {"x": (6, 24)},
        {"x": ()},
        {"groups": 0},
        {"groups": 3},
        {"window": WINDOW[:12]},
        {"window": changed(WINDOW, 1, 0)},  # a size
        {"window": changed(WINDOW, 4, -1)},  # a stride
        {"window": changed(WINDOW, 14, 1000)},  # an output
        {"window": changed(WINDOW, 14, -4)},
    ],
)
def test_convolutions(target: str, wrong: dict[str, Any]) -> None:
    given = {"x": X, "kernel": KERNEL, "maps": MAPS, "window": WINDOW, "groups": 1} | wrong
    shapes = {name: given[name] for name in ("x", "kernel", "maps")}
    result = {"convolution": "maps", "input_gradient": "x", "kernel_gradient": "kernel"}[target]
    arrays = {"convolution": "x kernel", "input_gradient": "maps kernel", "kernel_gradient": "x maps"}[target].split()
    options = {"window": given["window"], "groups": np.int64(given["groups"])}
    with pytest.raises(jax.errors.JaxRuntimeError, match="lenet_jax: "):
        call(target, f32(shapes[result]), *f32(*(shapes[name] for name in arrays)), **options)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bias": (7,)},
        {"index": (1, 2, 2, 7)},
        {"maps": (1, 3, 3, 8)},
        {"pooling": POOLING[:14]},
        {"pooling": changed(POOLING, 2, 200)},  # more positions than a byte counts
        {"pooling": changed(POOLING, 14, 50)},
        {"kernel": (3, 3, 4, 9)},
    ],
)
@pytest.mark.parametrize("target", ["pooled_convolution", "pooled_input_gradient", "pooled_kernel_gradient"])
def test_pooled_convolutions(target: str, wrong: dict[str, Any]) -> None:
    given = {"x": X, "kernel": KERNEL, "bias": BIAS, "maps": POOLED, "index": POOLED, "pooling": POOLING} | wrong
    if "bias" in wrong and target != "pooled_convolution":
        return
    floats = {name: (given[name], jnp.float32) for name in ("x", "kernel", "bias", "maps")}
    index = (given["index"], jnp.uint8)
    options: dict[str, Any] = {"window": WINDOW, "pooling": given["pooling"]}
    if target == "pooled_convolution":
        options["activation"] = np.int64(0)
    results, arrays = {
        "pooled_convolution": ([floats["maps"], index], [floats["x"], floats["kernel"], floats["bias"]]),
        "pooled_input_gradient": ([floats["x"]], [floats["maps"], index, floats["kernel"]]),
        "pooled_kernel_gradient": ([floats["kernel"]], [floats["x"], floats["maps"], index]),
    }[target]
    with pytest.raises(jax.errors.JaxRuntimeError, match="lenet_jax: "):
        call(target, results, *arrays, **options)


@pytest.mark.parametrize("target", ["max_pool", "max_pool_gradient", "sum_pool", "sum_pool_gradient"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"pooled": (1, 3, 2, 8)},
        {"x": (1, 4, 4, 7)},
        {"x": (4, 32)},
        {"x": ()},
        {"window": POOLING[:3]},
        {"window": changed(POOLING, 5, 0)},
    ],
)
def test_pools(target: str, wrong: dict[str, Any]) -> None:
    given = {"x": MAPS, "pooled": POOLED, "window": POOLING} | wrong
    (x,), (pooled,) = f32(given["x"]), f32(given["pooled"])
    index = (given["pooled"], jnp.uint8)
    results, arrays = {
        "max_pool": ([pooled, index], [x]),
        "max_pool_gradient": ([x], [pooled, index]),
        "sum_pool": ([pooled], [x]),
        "sum_pool_gradient": ([x], [pooled]),
    }[target]
    with pytest.raises(jax.errors.JaxRuntimeError, match="lenet_jax: "):
        call(target, results, *arrays, window=given["window"])


@pytest.mark.parametrize("wrong", [{"x": (4, 7)}, {"x": ()}, {"mean": (7,)}, {"variance": (9,)}])
def test_moments(wrong: dict[str, Any]) -> None:
    given = {"x": MAPS, "mean": (8,), "variance": (8,)} | wrong
    with pytest.raises(jax.errors.JaxRuntimeError, match="lenet_jax: "):
        call("channel_moments", f32(given["mean"], given["variance"]), *f32(given["x"]))


@pytest.mark.parametrize("wrong", [{"y": POOLED}, {"x": POOLED}, {"x": ()}, {"center": (7,)}, {"sums": (8,)}])
def test_channel_sums(wrong: dict[str, Any]) -> None:
    given = {"y": MAPS, "x": MAPS, "center": (8,), "sums": (2, 8)} | wrong
    with pytest.raises(jax.errors.JaxRuntimeError, match="lenet_jax: "):
        call("channel_sums", f32(given["sums"]), *f32(*(given[name] for name in ("y", "x", "center"))))


def test_results_of_another_type_are_an_error() -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match="dtype"):
        call("sum_pool", [(POOLED, jnp.int32)], *f32(MAPS), window=POOLING)
