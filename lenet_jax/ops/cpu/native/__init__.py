"""Native kernels for float32 on a CPU: one shared library, built at installation where there is a C++ compiler.

XLA calls them through its foreign function interface and lends them its threads. The library holds the kernels of each
instruction set; the best one that the processor has is used, or the one named in `LENET_JAX_KERNELS`: "avx512",
"avx2", "baseline", or "none", with which `lenet_jax.ops.cpu.plain` computes instead.
"""

import ctypes
import functools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from lenet_jax.errors import InputError
from lenet_jax.ops.windows import Window

LIBRARY = Path(__file__).with_name("kernels.so")
INSTRUCTION_SETS = ("avx512", "avx2", "baseline")
_FFI_MINOR_VERSION = 3
"""Of the interface of the oldest jaxlib that is supported; later ones load what is built for it."""

_TARGETS = (
    "convolution",
    "input_gradient",
    "kernel_gradient",
    "pooled_convolution",
    "pooled_input_gradient",
    "pooled_kernel_gradient",
    "max_pool",
    "max_pool_gradient",
    "sum_pool",
    "sum_pool_gradient",
    "channel_moments",
    "channel_sums",
)
_ACTIVATIONS = (None, "relu", "tanh")  # in the order of the enumeration in kernels.h
MAX_POSITIONS = 255
"""Most positions of a pooling window, whose index is a byte."""


def instruction_set() -> str:
    """Return the instruction set of the kernels in use, "none" without any; the library is loaded at the first call.

    Raises:
        InputError: if LENET_JAX_KERNELS names none of them, or one that the processor or the installation lacks.
    """
    return _choose()[0]


def describe() -> str:
    """Return which kernels are in use, and why there are none, for people; errors as `instruction_set`."""
    name, reason = _choose()
    return f"plain JAX, because {reason}" if name == "none" else f"native, {name}"


@functools.cache
def _choose() -> tuple[str, str]:
    """Return the instruction set, and why it is "none", if it is."""
    wanted = os.environ.get("LENET_JAX_KERNELS", "")
    if wanted not in ("", "none", *INSTRUCTION_SETS):
        names = ", ".join((*INSTRUCTION_SETS, "none"))
        raise InputError(f"LENET_JAX_KERNELS must be one of {names}, or unset for the best; got {wanted!r}.")
    if wanted == "none":
        return "none", "LENET_JAX_KERNELS=none"
    if not LIBRARY.exists():
        if wanted:
            raise InputError(
                f"LENET_JAX_KERNELS={wanted} needs the native kernels, which this installation lacks; install a C++ "
                "compiler and then lenet-jax again, or unset it."
            )
        return "none", "they were not built; install a C++ compiler and then lenet-jax again"
    try:
        return _load(wanted), ""
    except _UnusableError as error:
        warnings.warn(
            f"lenet_jax: the native kernels cannot be used and operations are slower: {error}; install lenet-jax "
            "again.",
            stacklevel=2,
        )
        return "none", str(error)


class _UnusableError(Exception):
    """The library was built for another machine, or from other sources."""


def _load(wanted: str) -> str:
    try:
        library = ctypes.CDLL(str(LIBRARY))
        version = library.lenet_jax_ffi_minor_version()
        functions = {target: getattr(library, f"lenet_jax_{target}") for target in _TARGETS}
        use = library.lenet_jax_use
    except (OSError, AttributeError) as error:
        raise _UnusableError(str(error)) from error
    if version > _FFI_MINOR_VERSION:
        raise _UnusableError(
            f"they were built for version 0.{version} of XLA's interface, later than 0.{_FFI_MINOR_VERSION}"
        )
    found = next((name for name in ([wanted] if wanted else INSTRUCTION_SETS) if use(name.encode())), None)
    if found is None and wanted:
        raise InputError(f"LENET_JAX_KERNELS={wanted}: this processor does not have these instructions; unset it.")
    if found is None:
        raise _UnusableError("they were built for another processor")
    for target, function in functions.items():
        jax.ffi.register_ffi_target(f"lenet_jax_{target}", jax.ffi.pycapsule(function), platform="cpu")
    return found


def computes(x: Array) -> bool:
    """Return whether the kernels are for arrays like x."""
    return x.dtype == jnp.float32 and instruction_set() != "none"


def computes_pooled(x: Array, window: Window, groups: int, pooling: Window) -> bool:
    """Return whether a convolution of arrays like x and a pooling can be one pass: 2-D windows that do not overlap."""
    return (
        computes(x)
        and len(window.size) == 2
        and groups == 1
        and set(window.strides) == set(window.dilation) == {1}
        and pooling.strides == pooling.size
        and not any(before for before, _ in pooling.pads)
        and len(pooling.offsets) <= MAX_POSITIONS
    )


def convolution(x: Array, kernel: Array, *, window: Window, groups: int) -> Array:
    """Return the convolution of x (N, *space, C) with a kernel (*size, C // groups, O)."""
    shape = (x.shape[0], *window.output, kernel.shape[-1])
    return _call("convolution", shape, x, kernel, window=_numbers(window), groups=np.int64(groups))


def input_gradient(dy: Array, kernel: Array, *, window: Window, groups: int, space: Sequence[int]) -> Array:
    """Return the gradient of sum(convolution(x, kernel) * dy) with respect to x, whose spatial shape is `space`."""
    shape = (dy.shape[0], *space, kernel.shape[-2] * groups)
    return _call("input_gradient", shape, dy, kernel, window=_numbers(window), groups=np.int64(groups))


def kernel_gradient(x: Array, dy: Array, *, window: Window, groups: int) -> Array:
    """Return the gradient of sum(convolution(x, kernel) * dy) with respect to the kernel."""
    shape = (*window.size, x.shape[-1] // groups, dy.shape[-1])
    return _call("kernel_gradient", shape, x, dy, window=_numbers(window), groups=np.int64(groups))


def pooled_convolution(
    x: Array, kernel: Array, bias: Array, *, window: Window, pooling: Window, activation: str | None
) -> tuple[Array, Array]:
    """Return activation(max_pool(convolution(x, kernel)) + bias), and the position of each largest value."""
    shape = (x.shape[0], *pooling.output, kernel.shape[-1])
    results = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.uint8)
    windows = {"window": _numbers(window), "pooling": _numbers(pooling)}
    number = np.int64(_ACTIVATIONS.index(activation))
    y, index = jax.ffi.ffi_call("lenet_jax_pooled_convolution", results)(x, kernel, bias, **windows, activation=number)
    return y, index


def pooled_input_gradient(
    dy: Array, index: Array, kernel: Array, *, window: Window, pooling: Window, space: Sequence[int]
) -> Array:
    """Return the gradient of the sum of the convolution at the chosen positions times dy with respect to x."""
    shape = (dy.shape[0], *space, kernel.shape[-2])
    windows = {"window": _numbers(window), "pooling": _numbers(pooling)}
    return _call("pooled_input_gradient", shape, dy, index, kernel, **windows)


def pooled_kernel_gradient(x: Array, dy: Array, index: Array, *, window: Window, pooling: Window) -> Array:
    """Return the gradient of the sum of the convolution at the chosen positions times dy with respect to the kernel."""
    shape = (*window.size, x.shape[-1], dy.shape[-1])
    windows = {"window": _numbers(window), "pooling": _numbers(pooling)}
    return _call("pooled_kernel_gradient", shape, x, dy, index, **windows)


def max_pool(x: Array, *, window: Window) -> tuple[Array, Array]:
    """Return the largest value in each window, and its position, the first of equal ones."""
    shape = (x.shape[0], *window.output, x.shape[-1])
    results = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.uint8)
    y, index = jax.ffi.ffi_call("lenet_jax_max_pool", results)(x, window=_numbers(window))
    return y, index


def scatter(dy: Array, index: Array, *, window: Window, space: Sequence[int]) -> Array:
    """Return images of spatial shape `space` with each value of dy added at its position in its window."""
    shape = (dy.shape[0], *space, dy.shape[-1])
    return _call("max_pool_gradient", shape, dy, index, window=_numbers(window))


def sum_pool(x: Array, *, window: Window) -> Array:
    """Return the sum over each window."""
    return _call("sum_pool", (x.shape[0], *window.output, x.shape[-1]), x, window=_numbers(window))


def sum_pool_gradient(dy: Array, *, window: Window, space: Sequence[int]) -> Array:
    """Return images of spatial shape `space` with each value of dy added to its window."""
    return _call("sum_pool_gradient", (dy.shape[0], *space, dy.shape[-1]), dy, window=_numbers(window))


def channel_moments(x: Array) -> tuple[Array, Array]:
    """Return the mean and the (biased) variance of each channel of x (*space, C), which has a value at least."""
    numbers = jax.ShapeDtypeStruct(x.shape[-1:], jnp.float32)
    mean, variance = jax.ffi.ffi_call("lenet_jax_channel_moments", (numbers, numbers))(x)
    return mean, variance


def channel_sums(y: Array, x: Array, center: Array) -> Array:
    """Return the sums of y (*space, C), and of y * (x - center), over space: (2, C)."""
    return _call("channel_sums", (2, x.shape[-1]), y, x, center)


def _call(target: str, shape: Sequence[int], *arrays: Array, **options: np.ndarray | np.int64) -> Array:
    result = jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
    return jax.ffi.ffi_call(f"lenet_jax_{target}", result)(*arrays, **options)


def _numbers(window: Window) -> np.ndarray:
    """Return a window as the 15 numbers that the kernels take: three axes each, leading ones of one position."""
    fields = (window.size, window.strides, window.dilation, [before for before, _ in window.pads], window.output)
    rows = [[0 if field is fields[3] else 1] * (3 - len(field)) + list(field) for field in fields]
    return np.array(rows, np.int64).ravel()
