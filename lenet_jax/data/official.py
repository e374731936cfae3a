"""The official files of the data sets that this project prepares: where they are, their sizes and their SHA-256.

`checksums.tsv` holds what TensorFlow Datasets has pinned for them.
"""

import functools
from pathlib import Path
from typing import NamedTuple

from lenet_jax.data.idx import FILES

IDX_SETS = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "kmnist": "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
}
"""Set of four IDX files -> the address of their folder."""

EMNIST_SPLITS = ("balanced", "byclass", "bymerge", "letters", "digits", "mnist")
_EMNIST = {"archive": "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip"}
ARCHIVE_SETS = {
    "cifar10": {"archive": "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"},
    "cifar100": {"archive": "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"},
    "svhn": {
        "train": "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
        "test": "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
    },
    **{f"emnist/{split}": _EMNIST for split in EMNIST_SPLITS},
}
"""Set of another form -> the addresses of its files by their roles."""

BUILT_IN = (*IDX_SETS, *ARCHIVE_SETS)
"""The sets that this project prepares itself; a name with a version, such as "mnist:3.0.1", is that of TFDS's own."""

_NUMERALS = {1: "official file", 2: "two official files", 4: "four official files"}


class OfficialFile(NamedTuple):
    """One of the official files of a data set, from `checksums.tsv`."""

    address: str
    name: str
    num_bytes: int
    sha256: str


def addresses(name: str) -> dict[str, str]:
    """Return the official addresses of the files of a data set, by their roles, such as "train_images"."""
    if name in IDX_SETS:
        return {role: f"{IDX_SETS[name]}{file}.gz" for role, file in FILES.items()}
    return ARCHIVE_SETS[name]


def official_files(name: str) -> dict[str, OfficialFile]:
    """Return the official files of a data set by their roles."""
    pinned = _pinned()
    return {role: pinned[address] for role, address in addresses(name).items()}


def describe_files(name: str) -> str:
    """Return how many official files a set has, in words."""
    return _NUMERALS[len(addresses(name))]


@functools.cache
def _pinned() -> dict[str, OfficialFile]:
    lines = Path(__file__).with_name("checksums.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return {address: OfficialFile(address, name, int(size), sha256) for address, size, sha256, name in rows}
