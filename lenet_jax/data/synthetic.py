"""Images of random pixels, for a run without data: whether a configuration works, and what it costs."""

import numpy as np

from lenet_jax.config.checks import Count, NonNegativeInt, Positive, Seed, TwoCounts
from lenet_jax.data.streams import Reading, make_stream
from lenet_jax.types import Dataset, Split


class SyntheticImages:
    """Random pixels and labels, each example drawn when it is asked for by the seed and its place."""

    def __init__(self, shape: tuple[int, int, int], num_classes: int, count: int, seed: int) -> None:
        """Note what to draw.

        Args:
            shape: height, width and channels.
            num_classes: labels are 0 to num_classes - 1.
            count: number of examples.
            seed: of all of them.
        """
        self._shape, self._num_classes, self._count, self._seed = shape, num_classes, count, seed

    def __len__(self) -> int:
        """Return the number of examples."""
        return self._count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int32]:
        """Return uint8 pixels (H, W, C) and the label."""
        rng = np.random.default_rng((self._seed, index))
        return rng.integers(0, 256, self._shape, np.uint8), np.int32(rng.integers(self._num_classes))


def load_synthetic(
    *,
    image_size: Count | TwoCounts = 32,
    channels: Count = 3,
    num_classes: Count = 10,
    train_size: Count = 1_000,
    validation_size: Count = 200,
    test_size: Count = 200,
    seed: Seed = 0,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
    stream: bool = False,
    workers: Count = 8,
    processes: NonNegativeInt = 0,
) -> Dataset:
    """Make images of random pixels with random labels, from which nothing can be learnt.

    Args:
        image_size: pixels, a side or [height, width].
        channels: 1 for grey, 3 for colours.
        num_classes: labels are 0 to num_classes - 1.
        train_size: number of training images.
        validation_size: of validation images.
        test_size: of test images.
        seed: decides pixels and labels.
        train_on_validation: whether to train on the validation images as well.
        pixel_divisor: divisor of the pixels.
        stream: whether images are made as they are needed.
        workers: threads that make them.
        processes: that make them, each with so many threads; 0: this process.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    ends = np.cumsum([train_size, validation_size, test_size])
    source = SyntheticImages((height, width, channels), num_classes, int(ends[-1]), seed)
    places: dict[str, np.ndarray] = dict(
        zip(("train", "validation", "test"), np.split(np.arange(ends[-1]), ends[:-1]), strict=True)
    )
    if train_on_validation:
        places["train"] = np.concatenate([places["train"], places["validation"]])
    options = {"num_classes": num_classes, "pixel_divisor": pixel_divisor}
    if stream:
        sources = {part: source for part in places}  # noqa: C420  its type
        return make_stream(sources, positions=places, reading=Reading(workers, processes), **options)
    return Dataset(**{part: _examples(source, chosen) for part, chosen in places.items()}, **options)


def _examples(source: SyntheticImages, places: np.ndarray) -> Split:
    images, labels = zip(*(source[int(place)] for place in places), strict=True)
    return Split(np.stack(images), np.stack(labels))
