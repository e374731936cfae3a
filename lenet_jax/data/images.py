"""PNG and JPEG images: decoded one at a time, checked, brought to one size and one number of channels."""

import io
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from lenet_jax.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg")
MOST_PIXELS = 1 << 26  # of one image; a photograph of 8,000x8,000 has fewer
MOST_FILE_BYTES = 1 << 28  # of one image
_MOST_BYTES = 1 << 34  # of all images together, decoded
_MODES = {
    "1": "L",
    "L": "L",
    "LA": "L",
    "P": "RGB",
    "PA": "RGB",
    "RGB": "RGB",
    "RGBA": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
}


class Form(NamedTuple):
    """What images are brought to."""

    image_size: tuple[int, int] | None = None  # (height, width); None: they must have one size
    colors: str | None = None  # "grey" or "rgb"; None: grey if all images are, else rgb
    crop: bool = False  # whether what is too long for this size is cut off on both sides, before; else it is squeezed

    def key(self) -> str:
        """Return a text that names the form in the cache."""
        return f"Form(image_size={self.image_size}, colors={self.colors!r}{', crop=True' if self.crop else ''})"


def make_form(image_size: int | tuple[int, int] | None, colors: str | None = None, *, crop: bool = False) -> Form:
    """Return the form that options of a data set ask for.

    Args:
        image_size: a side or (height, width) in pixels, or None.
        colors: "grey", "rgb" or None.
        crop: see `Form`.

    Raises:
        InputError: if images are to be cropped to no size.
    """
    if crop and image_size is None:
        raise InputError("`data.image_size` must be given with data.crop=true; got null.")
    return Form((image_size, image_size) if isinstance(image_size, int) else image_size, colors, crop)


def decode_images(sources: Iterable[tuple[str, Callable[[], bytes]]], form: Form) -> np.ndarray:
    """Decode images of PNG or JPEG files.

    Transparency is dropped, a palette is resolved, the EXIF orientation is not applied. Images are resized by bilinear
    interpolation, with antialiasing where they become smaller.

    Args:
        sources: for each image its name, for messages, and a function that returns the bytes of its file.
        form: size and colours.

    Returns:
        uint8 images (N, H, W, C), C = 1 or 3.

    Raises:
        InputError: if an image is damaged, too large or of more than 8 bits a channel, or the sizes differ and `form`
            names none; the message names the image.
    """
    images, first, total = [], None, 0
    for name, read in sources:
        image = _decode(name, read(), lambda image: _bring_to(image, form))
        first = first or (name, image.shape[:2])
        if image.shape[:2] != first[1]:
            (height, width), (other_height, other_width) = first[1], image.shape[:2]
            raise InputError(
                f"{name}: all images must have the same size; it has {other_height}x{other_width} pixels, {first[0]} "
                f"has {height}x{width}; set `data.image_size`."
            )
        total += image.nbytes
        if total > _MOST_BYTES:
            raise InputError(
                f"{name}: all images must have at most {_MOST_BYTES} bytes decoded; this one exceeds it; set a smaller "
                "`data.image_size`."
            )
        images.append(image)
    channels = max(image.shape[2] for image in images)
    return np.stack([np.broadcast_to(image, (*image.shape[:2], channels)) for image in images])


def decode_image(name: str, content: bytes, form: Form) -> np.ndarray:
    """Decode an image of a PNG or JPEG file as `decode_images` does.

    Returns:
        uint8 pixels (H, W, C), C = 1 or 3.

    Raises:
        InputError: if it is damaged, too large or of more than 8 bits a channel; the message begins with `name`.
    """
    return _decode(name, content, lambda image: _bring_to(image, form))


def bring_pixels_to(pixels: np.ndarray, form: Form) -> np.ndarray:
    """Bring uint8 pixels (H, W, C), C = 1 or 3, to a form."""
    from PIL import Image

    return _bring_to(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), form)


def decode_as_seen(name: str, content: bytes, colors: str) -> np.ndarray:
    """Decode an image as a viewer shows it: turned as its EXIF data say, what is transparent on white.

    Args:
        name: for messages.
        content: the bytes of a PNG or JPEG file.
        colors: "grey" or "rgb".

    Returns:
        uint8 pixels (H, W, C), C = 1 or 3.

    Raises:
        InputError: if it is damaged, too large or of more than 8 bits a channel.
    """
    return _decode(name, content, lambda image: _bring_to(_as_seen(image), Form(colors=colors)))


def _as_seen(image: Any) -> Any:
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _decode(name: str, content: bytes, finish: Callable[[Any], np.ndarray]) -> np.ndarray:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
                _check(name, image)
                image.load()
                return finish(image)
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{name}: the image must have at most {MOST_PIXELS} pixels; got more.") from error
    except Exception as error:  # a damaged file can make its decoder raise almost any exception
        raise InputError(
            f"{name}: the image must be a whole PNG or JPEG file; it is none, or damaged ({type(error).__name__})."
        ) from error


def _check(name: str, image: Any) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise InputError(f"{name}: the image must have at most {MOST_PIXELS} pixels; got {image.height}x{image.width}.")
    if image.mode not in _MODES:
        raise InputError(f"{name}: the image must have 8 bits a channel; got the mode {image.mode!r} of Pillow.")


def _bring_to(image: Any, form: Form) -> np.ndarray:
    from PIL import Image

    mode = {"grey": "L", "rgb": "RGB", None: _MODES[image.mode]}[form.colors]
    if image.mode in ("P", "PA") and mode == "L":
        image = image.convert("RGB")
    image = image.convert(mode)
    if form.image_size is not None:
        height, width = form.image_size
        box = _middle(image.size, width / height) if form.crop else None
        image = image.resize((width, height), Image.Resampling.BILINEAR, box)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _middle(size: tuple[int, int], aspect: float) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the largest rectangle of an aspect, width to height, in the middle."""
    width, height = size
    inner = min(width, height * aspect), min(height, width / aspect)
    left, top = (width - inner[0]) / 2, (height - inner[1]) / 2
    return left, top, left + inner[0], top + inner[1]
