"""Random access to the images of a folder, and of a set that TFDS has prepared, decoded when they are asked for."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.data.images import MOST_FILE_BYTES, Form, bring_pixels_to, decode_image
from lenet_jax.data.streams import Reading, StreamedDataset, check_grain, make_stream
from lenet_jax.data.tfds import open_splits
from lenet_jax.errors import InputError
from lenet_jax.storage import read_file
from lenet_jax.types import Dataset


class ImageFiles:
    """Images of PNG and JPEG files, with their labels."""

    def __init__(self, directory: Path, files: Sequence[Path], labels: np.ndarray, form: Form) -> None:
        """Note the names of the files.

        Args:
            directory: in which they are.
            files: one an image.
            labels: (N,).
            form: of the images; with colours, since those of all images cannot be known.

        Raises:
            InputError: if the form has no colours.
        """
        if form.colors is None:
            raise InputError(
                "`data.colors` must be grey or rgb with data.stream=true, which does not look at all images first; "
                "got null."
            )
        self._directory, self._form, self._labels = directory, form, labels.astype(np.int32)
        self._names = [str(path.relative_to(directory)) for path in files]
        self.identity = _digest(files, self._names)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int32]:
        """Return pixels (H, W, C) and label of an image.

        Raises:
            InputError: if it cannot be read.
        """
        path = self._directory / self._names[index]
        return decode_image(str(path), read_file(path, MOST_FILE_BYTES), self._form), self._labels[index]


class PreparedImages:
    """Images of all splits of a set that TFDS has prepared in the array_record format, one split after another."""

    def __init__(self, prepared: Path, files: Sequence[Path], label: str, form: Form | None) -> None:
        """Open the set.

        Args:
            prepared: its folder.
            files: that are in it.
            label: the feature that is the label.
            form: to which the images are brought; None: they stay as they are.

        Raises:
            InputError: if the set is damaged, or of another format.
        """
        self._prepared, self._label, self._form = prepared, label, form
        self.identity = _digest(files, [path.name for path in files])
        self._open()

    def _open(self) -> None:
        self._splits = open_splits(self._prepared)
        self._ends = np.cumsum([len(split) for split in self._splits.values()])

    def positions(self) -> dict[str, np.ndarray]:
        """Return the places of the examples of each split."""
        ends = [int(end) for end in self._ends]
        return {
            name: np.arange(start, end) for name, start, end in zip(self._splits, [0, *ends[:-1]], ends, strict=True)
        }

    def __len__(self) -> int:
        """Return the number of images in all splits."""
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any]:
        """Return pixels (H, W, C) and label of an image."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        split = list(self._splits.values())[number]
        example = split[index - int(self._ends[number]) + len(split)]
        pixels = example["image"] if self._form is None else bring_pixels_to(example["image"], self._form)
        return pixels, example[self._label]

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process opens the set with."""
        return {name: value for name, value in vars(self).items() if name not in ("_splits", "_ends")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the set again."""
        vars(self).update(state)
        self._open()


def stream_divided(divided: Dataset, source: Any, reading: Reading) -> StreamedDataset:
    """Return the examples of a source as they have been divided.

    Args:
        divided: a data set whose inputs are places in the source.
        source: random access to all examples.
        reading: by how many threads and processes.

    Raises:
        InputError: as `make_stream`.
    """
    positions = {part: split.inputs for part, split in divided.splits().items()}
    return make_stream(
        {part: source for part in positions},  # noqa: C420  its type
        num_classes=divided.num_classes,
        pixel_divisor=divided.pixel_divisor,
        reading=reading,
        positions=positions,
    )


def _digest(files: Sequence[Path], names: Sequence[str]) -> str:
    """Return a SHA-256 of the names and sizes of files."""
    check_grain()  # before anything that takes long
    digest = hashlib.sha256()
    for path, name in zip(files, names, strict=True):
        digest.update(f"{name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()
