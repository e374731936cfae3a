"""The pooling kernels in C++ against NumPy in float64, for random shapes.

The numbers are small integers, whose sums float32 holds exactly: there are many ties, and nothing may differ.
"""

import subprocess

import numpy as np
import pytest

from tests.ops.cpu.native import reference
from tests.ops.cpu.native.library import COMPILER, FLAGS, Convolution, Kernels, compile_file, make_window, processor_has

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="needs g++")]


@pytest.fixture(scope="module", params=FLAGS)
def kernels(request, tmp_path_factory):
    """Return the kernels of each instruction set that the processor has."""
    if request.param not in processor_has():
        pytest.skip(f"the processor has no {request.param}")
    target = tmp_path_factory.mktemp("kernels") / f"{request.param}.so"
    return Kernels(compile_file("pool_driver.cc", target, request.param, "-O3", "-shared", "-fPIC"))


def _integers(rng, *shape, largest=3):
    return rng.integers(-largest, largest + 1, shape).astype(np.float32)


def _pooled_case(seed):
    """Return a random convolution with its pooling and arrays."""
    rng = np.random.default_rng(seed)
    batch = int(rng.integers(0, 6)) if seed % 5 else int(rng.integers(6, 40))
    size = [(2, 2), (2, 2), (2, 2), (3, 3), (2, 1), (1, 3), (4, 2), (5, 7), (1, 1)][rng.integers(9)]
    kernel_size = [int(rng.integers(1, 7)) for _ in range(2)]
    channels = int(rng.choice([1, 1, 2, 3, 4, 5, 8, 16, 20, 33, 64, 150]))
    num_kernels = int(rng.choice([1, 2, 7, 16, 17, 18, 20, 33, 48, 50, 64, 65, 66, 100, 130]))
    before = [int(rng.integers(0, 4)) if rng.random() < 0.4 else 0 for _ in range(2)]
    after = [int(rng.integers(0, 4)) if rng.random() < 0.4 else 0 for _ in range(2)]
    space = []
    for k, b, a, p in zip(kernel_size, before, after, size, strict=True):
        space.append(max(1, k + p - 1 - b - a + int(rng.integers(0, 14))))
    conv_output = [n + b + a - k + 1 for n, b, a, k in zip(space, before, after, kernel_size, strict=True)]
    ceil = rng.random() < 0.4
    output = [-(-n // p) if ceil else n // p for n, p in zip(conv_output, size, strict=True)]
    window = make_window(kernel_size, (1, 1), before, conv_output)
    convolution = Convolution(batch, (1, *space), channels, 1, num_kernels, window)
    pooling = make_window(size, size, (0, 0), output)
    x = _integers(rng, batch, *space, channels)
    kernel = _integers(rng, *kernel_size, channels, num_kernels, largest=2)
    bias = _integers(rng, num_kernels)
    dy = _integers(rng, batch, *output, num_kernels)
    return convolution, pooling, size, before, x, kernel, bias, dy


def _to_map(index, size, conv_shape, dy):
    """Return dy at the chosen positions of the convolution's output, and 0 elsewhere."""
    return reference.max_pool_gradient(conv_shape, size, size, (0, 0), dy, index)


@pytest.mark.parametrize("seed", range(150))
def test_pooled_convolution_and_gradients_are_those_of_numpy(kernels, seed):
    convolution, pooling, size, before, x, kernel, bias, dy = _pooled_case(seed)
    if 0 in pooling.output:
        pytest.skip("no window")
    full = reference.convolution(x, kernel, before, tuple(convolution.window.output[1:]))
    largest, chosen = reference.max_pool(full, size, size, (0, 0), dy.shape[1:3])
    y, index = kernels.pooled_convolution(convolution, pooling, "relu", x, kernel, bias)
    np.testing.assert_array_equal(index, chosen)
    np.testing.assert_array_equal(y, np.maximum(largest + bias, 0))
    y, _ = kernels.pooled_convolution(convolution, pooling, "none", x, kernel, bias)
    np.testing.assert_array_equal(y, largest + bias)
    y, _ = kernels.pooled_convolution(convolution, pooling, "tanh", x, kernel, bias)
    np.testing.assert_allclose(y, np.tanh(largest + bias), rtol=0, atol=3e-7)

    dx, dkernel = kernels.pooled_gradients(convolution, pooling, x, kernel, dy, index)
    expected = reference.convolution_gradients(x, kernel, before, _to_map(index, size, full.shape, dy))
    np.testing.assert_array_equal(dx, expected[0])
    np.testing.assert_array_equal(dkernel, expected[1])


def test_results_have_the_same_bits_for_any_number_of_threads(kernels):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(19, 12, 12, 20)), rng.normal(size=(5, 5, 20, 50))
    x, kernel, bias = x.astype(np.float32), kernel.astype(np.float32), rng.normal(size=50).astype(np.float32)
    convolution = Convolution(19, (1, 12, 12), 20, 1, 50, make_window((5, 5), (1, 1), (0, 0), (8, 8)))
    pooling = make_window((2, 2), (2, 2), (0, 0), (4, 4))
    results = []
    try:
        for kernels.threads in (1, 2, 5):
            y, index = kernels.pooled_convolution(convolution, pooling, "tanh", x, kernel, bias)
            results.append((y, index, *kernels.pooled_gradients(convolution, pooling, x, kernel, y, index)))
    finally:
        kernels.threads = 1
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_nan_is_the_largest_of_a_pooled_window_and_minus_infinity_the_smallest(kernels):
    x = np.array([[1, np.nan, 2, -np.inf], [np.nan, 3, -np.inf, -np.inf]] * 2, np.float32).reshape(1, 4, 4, 1)
    x[0, 2:, 2:] = -np.inf
    convolution = Convolution(1, (1, 4, 4), 1, 1, 1, make_window((1, 1), (1, 1), (0, 0), (4, 4)))
    pooling = make_window((2, 2), (2, 2), (0, 0), (2, 2))
    one, zero = np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32)
    y, index = kernels.pooled_convolution(convolution, pooling, "none", x, one, zero)
    np.testing.assert_array_equal(y.ravel(), [np.nan, 2, np.nan, -np.inf])
    np.testing.assert_array_equal(index.ravel(), [1, 0, 1, 0])


def _pooling_case(seed):
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 4))
    size = [int(rng.integers(1, 5)) for _ in range(axes)]
    strides = [int(rng.integers(1, 5)) for _ in range(axes)]
    before = [int(rng.integers(0, 4)) for _ in range(axes)]
    space = [int(rng.integers(1, 8)) for _ in range(axes - 1)] + [int(rng.integers(1, 60 if axes == 1 else 14))]
    after = [int(rng.integers(0, 4)) for _ in range(axes)]
    output = []
    for n, k, s, b, a in zip(space, size, strides, before, after, strict=True):
        output.append(max(0, (n + b + a - k) // s + 1))
    channels = int(rng.choice([1, 1, 2, 3, 5, 16, 20, 35]))
    ones = (1,) * (3 - axes)
    x = _integers(rng, int(rng.integers(0, 4)), *ones, *space, channels)
    x[rng.random(x.shape) < 0.05] = -np.inf
    x[rng.random(x.shape) < 0.01] = np.nan
    zeros = (0,) * len(ones)
    geometry = (*ones, *size), (*ones, *strides), (*zeros, *before), (*ones, *output)
    return x, geometry, _integers(rng, len(x), *geometry[3], channels)


@pytest.mark.parametrize("seed", range(200))
def test_pools_and_their_gradients_are_those_of_numpy(kernels, seed):
    x, geometry, dy = _pooling_case(seed)
    size, strides, before, _ = geometry
    pooling = make_window(*geometry)
    y, index = kernels.max_pool(x, pooling)
    expected, chosen = reference.max_pool(x, *geometry)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(index, chosen)
    dx = kernels.max_pool_gradient(x.shape, pooling, dy, index)
    np.testing.assert_array_equal(dx, reference.max_pool_gradient(x.shape, size, strides, before, dy, index))

    x = np.nan_to_num(x, nan=1, neginf=-2)
    np.testing.assert_array_equal(kernels.sum_pool(x, pooling), reference.sum_pool(x, *geometry))
    dx = kernels.sum_pool_gradient(x.shape, pooling, dy)
    np.testing.assert_array_equal(dx, reference.sum_pool_gradient(x.shape, size, strides, before, dy))


@pytest.mark.parametrize("instruction_set", FLAGS)
def test_kernels_stay_within_their_arrays(instruction_set, tmp_path):
    if instruction_set not in processor_has():
        pytest.skip(f"the processor has no {instruction_set}")
    sanitizers = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-pthread"]
    program = compile_file("pool_sanitized.cc", tmp_path / "program", instruction_set, *sanitizers)
    subprocess.run([program], check=True)
