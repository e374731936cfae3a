"""Images of a user's own, brought to the form that a run's training images have.

MNIST's digits are white on black; each was scaled, its aspect ratio kept, into 20x20 pixels, and put with its centre of
mass at the centre of 28x28 (LeCun, Cortes and Burges, "The MNIST database of handwritten digits"). EMNIST's characters
fill 24x24 of 28x28 pixels, in their middle (Cohen et al. 2017, section II.A); Fashion-MNIST and KMNIST are white on
black, and scaled as they are.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lenet_jax.config.catalogue import TARGET
from lenet_jax.data.images import ENDINGS, MOST_FILE_BYTES, decode_as_seen
from lenet_jax.data.npz import read_inputs
from lenet_jax.errors import InputError
from lenet_jax.storage import read_file

ARRAYS = (".npy", ".npz")
_INK = 0.2  # of the strongest mark: what is weaker is paper


class Style(NamedTuple):
    """How the training images of a run were made of photographs or scans."""

    on_black: bool = False  # light on dark: others are inverted
    box: int | None = None  # pixels that a character fills at most, a side; None: images are scaled as they are
    by_mass: bool = False  # whether its centre of mass is in the middle, or that of its box
    transposed: bool = False


class Prepared(NamedTuple):
    """An image, or several, in the form of a run's training images."""

    name: str  # of its file
    inputs: np.ndarray  # (N, H, W, C) uint8, or floats as they were
    steps: str  # what was done to it
    is_array: bool = False  # whether the file is of arrays, not an image


def style_of(data: Mapping[str, Any], shape: tuple[int, ...]) -> Style:
    """Return the style of the images of a data set, as far as its configuration tells.

    Args:
        data: the component that loads it, complete.
        shape: of one image.
    """
    loader, name = str(data[TARGET]).removeprefix("lenet_jax.data.load_"), str(data.get("name", ""))
    if shape != (28, 28, 1):
        return Style()
    if loader == "emnist" or name.startswith("emnist"):
        return Style(on_black=True, box=24, transposed=not data.get("upright", False))
    if name in ("fashion_mnist", "kmnist"):
        return Style(on_black=True)
    if loader in ("embedded", "idx", "pickle_archive") or name in ("mnist", "ylecun/mnist"):
        return Style(on_black=True, box=20, by_mass=True)
    return Style()


def prepare_files(
    paths: list[Path],
    shape: tuple[int, ...],
    style: Style,
    *,
    are_pixels: bool = True,
    invert: bool | None = None,
    centre: bool | None = None,
) -> Iterator[Prepared]:
    """Read images and arrays, and bring them to the form of a network's inputs.

    Args:
        paths: PNG and JPEG files, folders of such, npy and npz files.
        shape: of one input, (height, width, channels) for images.
        style: of the training images.
        are_pixels: whether the training images are uint8 pixels; else they are floats, which no image file has.
        invert: whether images are inverted; None: those that are dark on light, if the style is light on dark.
        centre: whether characters are cut out, scaled and centred; None: if the style has a box, and the image has not
            the size of the network's inputs already.

    Raises:
        InputError: if a file cannot be read, has no mark on it, or an array has another shape.
    """
    if centre and style.box is None:
        raise InputError("predict: `--centre` must be used with a run on images of characters; this one is on others.")
    for path in paths:
        if path.suffix.lower() in ARRAYS:
            yield _prepare_array(path, shape, invert, are_pixels=are_pixels)
        elif not are_pixels:
            raise InputError(f"{path}: must be an npy or npz file, as the run's inputs are floats; it is neither.")
        elif path.is_dir():
            yield from (_prepare_image(each, shape, style, invert, centre) for each in _images_in(path))
        else:
            yield _prepare_image(path, shape, style, invert, centre)


def _images_in(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not found:
        raise InputError(f"{folder}: must hold images ({', '.join(ENDINGS)}); it has none.")
    return found


def _prepare_array(path: Path, shape: tuple[int, ...], invert: bool | None, *, are_pixels: bool) -> Prepared:
    name, inputs = read_inputs(path)
    origin = f"{path} ({name})" if name else str(path)
    if shape[-1:] == (1,) and inputs.shape[-len(shape) + 1 :] == shape[:-1]:
        inputs = inputs[..., None]
    if inputs.shape == shape:
        inputs = inputs[None]
    if inputs.shape[1:] != shape or not len(inputs):
        raise InputError(f"{origin}: must be an array (N, {', '.join(map(str, shape))}); got shape {inputs.shape}.")
    if not are_pixels:
        inputs = inputs.astype(np.float32)
        if not np.isfinite(inputs).all():
            raise InputError(f"{origin}: inputs must be finite numbers; some are not.")
    elif inputs.dtype.kind in "iub":
        if inputs.min() < 0 or inputs.max() > 255:
            raise InputError(f"{origin}: pixels must be 0 to 255; got {inputs.min()} to {inputs.max()}.")
        inputs = inputs.astype(np.uint8)
    elif not (inputs.min() >= 0 and inputs.max() <= 1):
        raise InputError(
            f"{origin}: float pixels must be 0 to 1; got {inputs.min()} to {inputs.max()}; save those of 0 to 255 as "
            "uint8."
        )
    else:
        inputs = inputs.astype(np.float32)
    count = f"{len(inputs)} {'input' if len(inputs) == 1 else 'inputs'}"
    if not invert:
        return Prepared(str(path), inputs, f"{count}, taken as they are", is_array=True)
    white = np.uint8(255) if inputs.dtype == np.uint8 else np.float32(1)
    return Prepared(str(path), white - inputs, f"{count}, inverted", is_array=True)


def _prepare_image(
    path: Path, shape: tuple[int, ...], style: Style, invert: bool | None, centre: bool | None
) -> Prepared:
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise InputError(f"{path}: the run must be on images; its inputs have shape {shape}; give them as an npy file.")
    height, width, channels = shape
    pixels = decode_as_seen(str(path), read_file(path, MOST_FILE_BYTES), "grey" if channels == 1 else "rgb")
    found = pixels.shape[:2]
    steps = [f"{found[1]}x{found[0]}"]
    if invert if invert is not None else style.on_black and _background(pixels) > 127:
        pixels = 255 - pixels
        steps.append("inverted")
    if style.box is not None and (centre if centre is not None else found != (height, width)):
        pixels = _centred(str(path), pixels[..., 0], (height, width), style.box, by_mass=style.by_mass)[..., None]
        middle = "its centre of mass" if style.by_mass else "its middle"
        steps.append(f"the character scaled into {style.box}x{style.box}, {middle} at that of {width}x{height}")
    elif found != (height, width):
        pixels = _resized(pixels, (height, width))
        steps.append(f"scaled to {width}x{height}")
    if style.transposed:
        pixels = pixels.swapaxes(0, 1)
        steps.append("transposed, as the training images are")
    if len(steps) == 1:
        steps.append("taken as it is")
    return Prepared(str(path), np.ascontiguousarray(pixels[None]), ", ".join(steps))


def _background(pixels: np.ndarray) -> float:
    """Return the median of the pixels at the border."""
    border = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    return float(np.median(np.concatenate(border)))


def _centred(name: str, pixels: np.ndarray, size: tuple[int, int], box: int, *, by_mass: bool) -> np.ndarray:
    """Return the light marks of an image, scaled into a box and centred on black.

    Raises:
        InputError: if there are none.
    """
    marks = np.maximum(pixels.astype(np.float32) - _background(pixels), 0)
    if marks.max() < 32:
        raise InputError(f"{name}: must have a light mark on a dark ground, or a dark one on light; it has none.")
    marks /= marks.max()
    rows, columns = (np.flatnonzero((marks > _INK).any(axis=axis)) for axis in (1, 0))
    marks = marks[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = box / max(marks.shape)
    scaled = _resized(marks, tuple(max(1, round(scale * n)) for n in marks.shape))
    scaled = np.clip(scaled / scaled.max(), 0, 1)
    middle = [(n - 1) / 2 for n in scaled.shape]
    if by_mass:
        middle = [float(scaled.sum(axis=1 - axis) @ np.arange(n) / scaled.sum()) for axis, n in enumerate(scaled.shape)]
        starts = [round(n / 2 - at) for n, at in zip(size, middle, strict=True)]
    else:
        starts = [(n - length) // 2 for n, length in zip(size, scaled.shape, strict=True)]
    starts = [min(max(at, 0), n - length) for at, n, length in zip(starts, size, scaled.shape, strict=True)]
    placed = np.zeros(size, np.float32)
    placed[starts[0] : starts[0] + scaled.shape[0], starts[1] : starts[1] + scaled.shape[1]] = scaled
    return np.rint(255 * placed).astype(np.uint8)


def _resized(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize pixels (H, W) or (H, W, C) by bilinear interpolation, with antialiasing."""
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        return _resized(pixels[..., 0], size)[..., None]
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR))
