"""Windows of images as arrays of their own, so that a convolution is one matrix product."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Num, Shaped

from lenet_jax.errors import InputError
from lenet_jax.ops.windows import Ints, Padding, make_window, taps, to_tuple


def sliding_windows(images: Shaped[np.ndarray, "..."], window: Ints, *, strides: Ints = 1) -> Shaped[np.ndarray, "..."]:
    """Return every window of NumPy images as a read-only view: no pixel is copied.

    Args:
        images: (N, H, W) or (N, H, W, C), any dtype.
        window: height and width in pixels.
        strides: steps down and right, in pixels.

    Returns:
        (N, out_h, out_w, K_h, K_w) or (N, out_h, out_w, K_h, K_w, C), out = (size - window) // stride + 1.

    Raises:
        InputError: if `images` has another rank, or the window does not fit into it.

    >>> sliding_windows(np.arange(12).reshape(1, 3, 4), 2)[0, 1, 2]
    array([[ 6,  7],
           [10, 11]])
    """
    if images.ndim not in (3, 4):
        raise InputError(f"sliding_windows: `images` needs 3 axes (NHW) or 4 (NHWC); got shape {images.shape}.")
    checked = make_window("sliding_windows", images.shape[1:3], window, strides, "VALID")
    view = np.lib.stride_tricks.sliding_window_view(images, checked.size, axis=(1, 2))
    view = view[:, :: checked.strides[0], :: checked.strides[1]]
    return view if images.ndim == 3 else np.moveaxis(view, 3, -1)


def extract_patches(
    x: Num[ArrayLike, "..."], window: Ints, *, strides: Ints = 1, padding: Padding = "VALID"
) -> Num[Array, "N out_h out_w KKC"]:
    """Return every window of images as a row: the JAX form of `sliding_windows`.

    A row lists the window's rows, columns, then channels, so `extract_patches(x, k) @ kernel.reshape(-1, out)` is
    `conv2d(x, kernel)`.

    Args:
        x: images (N, H, W, C).
        window: height and width in pixels.
        strides: steps down and right, in pixels.
        padding: "VALID", "SAME" (as TensorFlow) or ((top, bottom), (left, right)) pixels of zeros.

    Raises:
        InputError: if `x` has another rank, or the window does not fit into it.
    """
    x = jnp.asarray(x)
    if x.ndim != 4:
        raise InputError(f"extract_patches: `x` needs 4 axes (NHWC); got shape {x.shape}.")
    checked = make_window(
        "extract_patches", x.shape[1:3], to_tuple("extract_patches", "window", window, 2), strides, padding
    )
    return jnp.concatenate(taps(x, checked), axis=-1)
