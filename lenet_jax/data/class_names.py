"""What the classes of a data set are called, where its configuration or its folder tells."""

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lenet_jax.config.catalogue import TARGET
from lenet_jax.data.folder import read_class_names
from lenet_jax.errors import InputError

# Lower case that looks as upper case is merged with it.
_MERGED = string.digits + string.ascii_uppercase + "abdefghnqrt"
_NAMES: dict[str, Sequence[str]] = {
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": "おきすつなはまやれを",
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "emnist/balanced": _MERGED,
    "emnist/bymerge": _MERGED,
    "emnist/byclass": string.digits + string.ascii_uppercase + string.ascii_lowercase,
    "emnist/letters": ["", *string.ascii_lowercase],  # labels are 1 to 26
}


def class_names(data: Mapping[str, Any]) -> Sequence[str] | None:
    """Return the names of the classes of a data set by label; None where they are not known.

    Args:
        data: the component that loads it, complete.
    """
    loader = str(data[TARGET])
    if loader == "lenet_jax.data.load_folder":
        try:
            return read_class_names(Path(str(data["directory"])).expanduser())
        except InputError:
            return None
    if loader == "lenet_jax.data.load_emnist":
        return _NAMES.get(f"emnist/{data['split']}")
    return _NAMES.get(str(data.get("name"))) if loader == "lenet_jax.data.load_tfds" else None
