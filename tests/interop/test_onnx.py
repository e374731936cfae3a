"""ONNX models of functions of JAX compute what the functions do."""

import builtins

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import lenet_jax as lj
from lenet_jax.interop.onnx import run_onnx, to_onnx

RNG = np.random.default_rng(0)


def weights(*shape):
    return RNG.normal(size=shape).astype(np.float32)


FUNCTIONS = {
    "a sequence": ((9, 4), lambda x: lj.conv1d(x, weights(3, 4, 2), padding="SAME", dilation=2)),
    "a volume": ((5, 6, 7, 1), lambda x: lj.max_pool(lj.conv3d(x, weights(2, 2, 2, 1, 3)), (2, 1, 2), strides=1)),
    "strides and groups": ((9, 8, 4), lambda x: lj.conv2d(x, weights(3, 3, 2, 6), strides=(2, 1), groups=2)),
    "depthwise": ((8, 8, 4), lambda x: lj.depthwise_conv2d(x, weights(3, 3, 4, 2), padding="SAME")),
    "a mean pool": ((7, 7, 4), lambda x: lj.avg_pool(x, 3, strides=2, padding="SAME")),
    "a max pool": ((7, 7, 4), lambda x: lj.max_pool(x, 3, strides=2, padding="SAME")),
    "normalization": ((4, 4, 8), lj.local_response_norm),
    **{name: ((5,), getattr(jax.nn, name)) for name in ("gelu", "elu", "softplus", "silu", "relu")},
    "softmax": ((6,), jax.nn.log_softmax),
    "products": ((3, 4), lambda x: jnp.einsum("nij,njk->nik", x, jnp.swapaxes(x, 1, 2))),
    "choices": ((4, 4, 1), lambda x: jnp.where(x > 0, x, 2.0 * x).reshape(x.shape[0], -1) ** 3),
    "a slice": ((4, 4, 1), lambda x: lax.slice_in_dim(x, 1, 4, 2, axis=1)),
    "padding": ((4, 6), lambda x: jnp.pad(x, ((0, 0), (1, 0), (0, 2)))),
    "parts": ((4, 6), lambda x: jnp.concatenate([x, jnp.ones((x.shape[0], 4, 1))], axis=-1)),
}  # fmt: skip


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_model_computes_what_the_function_does(name, batch_size):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    shape, function = FUNCTIONS[name]
    inputs = weights(3, *shape)
    with jax.numpy_rank_promotion("allow"):
        saved = RNG.bit_generator.state
        expected = function(inputs)
        RNG.bit_generator.state = saved  # the same weights
        model = to_onnx(function, jax.ShapeDtypeStruct(shape, np.float32), batch_size)
    np.testing.assert_allclose(run_onnx(model, inputs), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: jnp.sort(x), "'sort' is not; export it as stablehlo"),
        (
            lambda x: lj.conv2d_transpose(x, weights(3, 3, 2, 1), strides=2),
            "padding must be around an",
        ),
        (lambda x: x[: len(x)], "`function` must take a batch of any size; .*; export a fixed batch"),
        (lambda x: lax.pad(x, 0.0, [(0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0)]), "padding must be around an array"),
    ],
)
def test_what_is_not_known_is_refused(function, message):
    pytest.importorskip("onnx")
    with pytest.raises(lj.InputError, match=message):
        to_onnx(function, jax.ShapeDtypeStruct((4, 4, 1), np.float32))


def test_without_the_packages_the_remedy_is_said(monkeypatch):
    original = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.startswith("onnx"):
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(lj.InputError, match=r"needs the package onnx: pip install 'lenet-jax\[onnx\]'"):
        to_onnx(jnp.tanh, jax.ShapeDtypeStruct((4,), np.float32))
    with pytest.raises(lj.InputError, match=r"needs the package onnxruntime: pip install"):
        run_onnx(b"", np.zeros(1))
