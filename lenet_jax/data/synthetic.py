"""Images of random pixels, for a run without data: whether a configuration works, and what it costs."""

import numpy as np

from lenet_jax.config.checks import Count, NonNegativeInt, Positive, Seed, TwoCounts
from lenet_jax.data.streams import Reading, make_stream
from lenet_jax.types import Dataset, Split


class SyntheticImages:
    """Random pixels and labels, each example drawn when it is asked for by the seed and its place."""

    def __init__(self, shape: tuple[int, int, int], num_classes: int, count: int, seed: int, part: int) -> None:
        """Note what to draw.

        Args:
            shape: height, width and channels.
            num_classes: labels are 0 to num_classes - 1.
            count: number of examples.
            seed: of all parts.
            part: of the data set, 0 or above.
        """
        self._shape, self._num_classes, self._count, self._seed = shape, num_classes, count, (seed, part)

    def __len__(self) -> int:
        """Return the number of examples."""
        return self._count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int32]:
        """Return uint8 pixels (H, W, C) and the label."""
        rng = np.random.default_rng((*self._seed, index))
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
        pixel_divisor: divisor of the pixels.
        stream: whether images are made as they are needed.
        workers: threads that make them.
        processes: that make them, each with so many threads; 0: this process.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    sizes = {"train": train_size, "validation": validation_size, "test": test_size}
    sources = {
        part: SyntheticImages((height, width, channels), num_classes, count, seed, number)
        for number, (part, count) in enumerate(sizes.items())
    }
    if stream:
        reading = Reading(workers, processes)
        return make_stream(sources, num_classes=num_classes, pixel_divisor=pixel_divisor, reading=reading)
    splits = {part: _all_of(source) for part, source in sources.items()}
    return Dataset(**splits, num_classes=num_classes, pixel_divisor=pixel_divisor)


def _all_of(source: SyntheticImages) -> Split:
    images, labels = zip(*(source[index] for index in range(len(source))), strict=True)
    return Split(np.stack(images), np.stack(labels))
