"""Functions of JAX as ONNX models, by jax2onnx, and what such a model computes, by ONNX Runtime."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lenet_jax.errors import InputError

_INSTALL = "pip install 'lenet-jax[onnx]'"


def to_onnx(function: Callable[[Any], Any], example: jax.ShapeDtypeStruct, batch_size: int | None = None) -> bytes:
    """Return a function of a batch as an ONNX model.

    Args:
        function: of an array (N, ...).
        example: shape and dtype of one of its examples.
        batch_size: N; None: any.

    Raises:
        InputError: if jax2onnx is not installed, or cannot convert an operation of the function.
    """
    try:
        import jax2onnx  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(f"to_onnx: needs the package jax2onnx: {_INSTALL}.") from error
    shape: Any = ("B" if batch_size is None else batch_size, *example.shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: Any = jax2onnx.to_onnx(function, inputs=[jax.ShapeDtypeStruct(shape, example.dtype)])
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")
        raise InputError(f"to_onnx: `function` must be made of what jax2onnx can convert; {reason}.") from error
    return model.SerializeToString()


def run_onnx(model: bytes, inputs: np.ndarray) -> np.ndarray:
    """Return what an ONNX model of one input and one output computes.

    Raises:
        InputError: if ONNX Runtime is not installed.
    """
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(f"run_onnx: needs the package onnxruntime: {_INSTALL}.") from error
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]
