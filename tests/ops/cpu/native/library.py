"""The kernels in C++, compiled for the tests and called with NumPy arrays."""

import ctypes
import functools
import shutil
import subprocess
from pathlib import Path

import numpy as np

from lenet_jax.ops import cpu

FLAGS = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
    "avx2": ["-mavx2", "-mfma"],
    "baseline": [],
}
HEADERS = Path(str(cpu.__file__)).parent / "native"
COMPILER = shutil.which("g++")


def compile_file(source: str, target: Path, instruction_set: str, *options: str) -> Path:
    """Compile one file beside this one for an instruction set."""
    # The compiler's own AVX-512 header warns about itself (maybe-uninitialized).
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-maybe-uninitialized"]
    macros = [f"-DLENET_JAX_INSTRUCTION_SET={instruction_set}", f"-I{HEADERS}"]
    path = Path(__file__).parent / source
    command = [
        COMPILER,
        "-std=c++17",
        *warnings,
        *FLAGS[instruction_set],
        *macros,
        *options,
        str(path),
        "-o",
        str(target),
    ]
    subprocess.run(command, check=True)
    return target


@functools.cache
def processor_has() -> frozenset[str]:
    """Return the instruction sets that this processor runs."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        words = set()
    found = {"baseline"}
    if {"avx2", "fma"} <= words:
        found.add("avx2")
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= words:
        found.add("avx512")
    return frozenset(found)


class Window(ctypes.Structure):
    """The structure of geometry.h."""

    _fields_ = [(name, ctypes.c_int * 3) for name in ("size", "strides", "dilation", "before", "output")]


class Convolution(ctypes.Structure):
    """The structure of geometry.h."""

    _fields_ = [
        ("batch", ctypes.c_int),
        ("space", ctypes.c_int * 3),
        ("channels", ctypes.c_int),
        ("groups", ctypes.c_int),
        ("kernels", ctypes.c_int),
        ("window", Window),
    ]


def make_window(size, strides, before, output) -> Window:
    """Return a window; fewer than three axes get leading ones of length 1."""
    ones = (1,) * (3 - len(size))
    zeros = (0,) * len(ones)
    triple = ctypes.c_int * 3
    return Window(
        triple(*ones, *size), triple(*ones, *strides), triple(1, 1, 1), triple(*zeros, *before), triple(*ones, *output)
    )


class Kernels:
    """The functions of pool_driver.cc; arrays come back new, filled with NaN before the call."""

    def __init__(self, path: Path, threads: int = 1):
        self._library = ctypes.CDLL(str(path))
        self.threads = threads

    def _call(self, name, *arguments):
        def pointer(argument):
            return ctypes.c_void_p(argument.ctypes.data) if isinstance(argument, np.ndarray) else argument

        getattr(self._library, name)(self.threads, *map(pointer, arguments))

    def pooled_convolution(self, convolution, pooling, activation, x, kernel, bias):
        """Return y and index."""
        shape = (len(x), *pooling.output[1:], kernel.shape[-1])
        y, index = np.full(shape, np.nan, np.float32), np.full(shape, 254, np.uint8)
        code = ["none", "relu", "tanh"].index(activation)
        by_reference = ctypes.byref(convolution), ctypes.byref(pooling)
        self._call("pooled_convolution", *by_reference, code, x, kernel, bias, y, index)
        return y, index

    def pooled_gradients(self, convolution, pooling, x, kernel, dy, index):
        """Return dx and dkernel."""
        dx, dkernel = np.full(x.shape, np.nan, np.float32), np.full(kernel.shape, np.nan, np.float32)
        by_reference = ctypes.byref(convolution), ctypes.byref(pooling)
        self._call("pooled_input_gradient", *by_reference, dy, index, kernel, dx)
        self._call("pooled_kernel_gradient", *by_reference, x, dy, index, dkernel)
        return dx, dkernel

    def _geometry(self, x_shape, pooling):
        return x_shape[0], (ctypes.c_int * 3)(*x_shape[1:4]), x_shape[4], ctypes.byref(pooling)

    def max_pool(self, x, pooling):
        """Return y and index of x (N, D, H, W, C)."""
        shape = (len(x), *pooling.output, x.shape[-1])
        y, index = np.full(shape, np.nan, np.float32), np.full(shape, 254, np.uint8)
        self._call("max_pool", *self._geometry(x.shape, pooling), x, y, index)
        return y, index

    def max_pool_gradient(self, x_shape, pooling, dy, index):
        """Return dx."""
        dx = np.full(x_shape, np.nan, np.float32)
        self._call("max_pool_gradient", *self._geometry(x_shape, pooling), dy, index, dx)
        return dx

    def sum_pool(self, x, pooling):
        """Return y."""
        y = np.full((len(x), *pooling.output, x.shape[-1]), np.nan, np.float32)
        self._call("sum_pool", *self._geometry(x.shape, pooling), x, y)
        return y

    def sum_pool_gradient(self, x_shape, pooling, dy):
        """Return dx."""
        dx = np.full(x_shape, np.nan, np.float32)
        self._call("sum_pool_gradient", *self._geometry(x_shape, pooling), dy, dx)
        return dx
