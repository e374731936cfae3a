"""The official archives of CIFAR-10, CIFAR-100, SVHN and EMNIST, read as their authors describe them.

Sources: Krizhevsky, "Learning multiple layers of features from tiny images", 2009 (binary version of the archives);
Netzer et al., "Reading digits in natural images with unsupervised feature learning", 2011 (format 2); Cohen et al.,
"EMNIST: an extension of MNIST to handwritten letters", 2017 (matched format, gzip).
"""

import contextlib
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lenet_jax.data.cache import Arrays
from lenet_jax.data.idx import read_idx
from lenet_jax.errors import InputError

_MOST_BYTES = 1 << 30  # of one file in an archive; the largest, of EMNIST, has 153 million
_PIXELS = 3 * 32 * 32
_CIFAR10 = {
    "train": [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)],
    "test": ["cifar-10-batches-bin/test_batch.bin"],
}
_CIFAR100 = {"train": ["cifar-100-binary/train.bin"], "test": ["cifar-100-binary/test.bin"]}


class ArchiveSet(NamedTuple):
    """A set of images in official archives."""

    read: Callable[[Mapping[str, Path]], dict[str, Arrays]]  # files by role -> split -> image and labels by name
    image_shape: tuple[int, int, int]
    num_classes: Mapping[str, int]  # of each label
    description: str
    citation: str


def read_cifar10(files: Mapping[str, Path]) -> dict[str, Arrays]:
    """Read the binary version of CIFAR-10: a byte for the label, then 1,024 red, green and blue ones, row by row."""
    return _read_cifar(files["archive"], _CIFAR10, ("label",))


def read_cifar100(files: Mapping[str, Path]) -> dict[str, Arrays]:
    """Read the binary version of CIFAR-100: a byte for the coarse and one for the fine label, then the pixels."""
    return _read_cifar(files["archive"], _CIFAR100, ("coarse_label", "label"))


def read_svhn(files: Mapping[str, Path]) -> dict[str, Arrays]:
    """Read the cropped digits of SVHN: MATLAB's X (32, 32, 3, N) and y (N, 1), where the digit 0 has the label 10."""
    return {part: _read_mat(files[part]) for part in ("train", "test")}


def read_emnist(split: str, files: Mapping[str, Path]) -> dict[str, Arrays]:
    """Read a split of EMNIST from gzip.zip: IDX files whose images are transposed; they are left so."""
    with _reporting(files["archive"], zipfile.BadZipFile), zipfile.ZipFile(files["archive"]) as archive:
        return {
            part: {
                "image": _read_member(archive, f"gzip/emnist-{split}-{part}-images-idx3-ubyte.gz", 3)[..., None],
                "label": _read_member(archive, f"gzip/emnist-{split}-{part}-labels-idx1-ubyte.gz", 1),
            }
            for part in ("train", "test")
        }


def _emnist(split: str, num_classes: int) -> ArchiveSet:
    return ArchiveSet(
        lambda files: read_emnist(split, files),
        (28, 28, 1),
        {"label": num_classes},
        "Handwritten letters and digits, transposed.",
        "G. Cohen et al., EMNIST: an extension of MNIST to handwritten letters, arXiv:1702.05373, 2017.",
    )


_TINY = "A. Krizhevsky, Learning multiple layers of features from tiny images, 2009."
SETS = {
    "cifar10": ArchiveSet(read_cifar10, (32, 32, 3), {"label": 10}, "60,000 colour images in ten classes.", _TINY),
    "cifar100": ArchiveSet(
        read_cifar100, (32, 32, 3), {"label": 100, "coarse_label": 20}, "60,000 colour images in 100 classes.", _TINY
    ),
    "svhn": ArchiveSet(
        read_svhn,
        (32, 32, 3),
        {"label": 10},
        "99,289 digits of house numbers, cropped.",
        "Y. Netzer et al., Reading digits in natural images with unsupervised feature learning, 2011.",
    ),
    **{
        f"emnist/{split}": _emnist(split, num_classes)
        for split, num_classes in {
            "balanced": 47, "byclass": 62, "bymerge": 47, "letters": 27, "digits": 10, "mnist": 10
        }.items()
    },
}  # fmt: skip
"""The sets that are prepared from archives, by name; letters has the labels 1 to 26."""


def _read_cifar(path: Path, members: Mapping[str, list[str]], labels: tuple[str, ...]) -> dict[str, Arrays]:
    wanted, content = {name for names in members.values() for name in names}, {}
    with _reporting(path, tarfile.TarError), tarfile.open(path, "r:gz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name in wanted and member.isfile() else None
            if file is not None:
                content[member.name] = file.read(_MOST_BYTES)
    splits = {}
    for part, names in members.items():
        missing = [name for name in names if name not in content]
        if missing:
            raise InputError(f"{path}: must hold {', '.join(names)}; missing: {', '.join(missing)}.")
        raw = np.frombuffer(b"".join(content[name] for name in names), np.uint8)
        if len(raw) % (len(labels) + _PIXELS):
            raise InputError(f"{path}: each example must have {len(labels) + _PIXELS} bytes; got {len(raw)} in all.")
        rows = raw.reshape(-1, len(labels) + _PIXELS)
        pixels = rows[:, len(labels) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        splits[part] = {"image": pixels, **{label: rows[:, place] for place, label in enumerate(labels)}}
    return splits


def _read_mat(path: Path) -> Arrays:
    import scipy.io

    with _reporting(path, Exception):  # a damaged file can make its parser raise almost any
        content: dict[str, Any] = scipy.io.loadmat(path, variable_names=["X", "y"])
    images, labels = np.asarray(content.get("X")), np.asarray(content.get("y"))
    fits = images.dtype == np.uint8 and images.ndim == 4 and images.shape[:3] == (32, 32, 3)
    if not fits or labels.shape != (images.shape[-1], 1) or not (labels.min() >= 1 and labels.max() <= 10):
        raise InputError(
            f"{path}: must have X, uint8 (32, 32, 3, N), and y, 1 to 10, (N, 1); got {images.dtype}{images.shape} and "
            f"{labels.dtype}{labels.shape}."
        )
    return {"image": np.moveaxis(images, -1, 0), "label": labels[:, 0] % 10}


def _read_member(archive: zipfile.ZipFile, name: str, num_axes: int) -> np.ndarray:
    if name not in archive.namelist():
        raise InputError(f"{archive.filename}: must hold {name}; it does not.")
    with tempfile.TemporaryDirectory() as folder, archive.open(name) as member:
        file = Path(folder) / Path(name).name
        file.write_bytes(member.read(_MOST_BYTES))
        return read_idx(file, num_axes)


@contextlib.contextmanager
def _reporting(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Report what a reader of archives raises as an `InputError` that names the file."""
    try:
        yield
    except (*errors, EOFError, OSError, zlib.error) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{path}: the archive is damaged ({reason}); download it again.") from error
