"""A folder of PNG and JPEG images whose classes are folders.

Names are put into Unicode's form NFC and sorted by their code points, so that labels and the order of the images are
the same on every file system.
"""

import stat
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lenet_jax.data.cache import Arrays, digest_files, load_or_decode
from lenet_jax.data.images import ENDINGS, MOST_FILE_BYTES, Form, decode_images
from lenet_jax.errors import InputError
from lenet_jax.storage import read_file

SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}


class ImageFolder(NamedTuple):
    """The images of a folder by split, train, validation and test, or all."""

    files: dict[str, list[Path]]
    labels: dict[str, np.ndarray]  # (N,), places of the names
    classes: list[str]  # their names

    @property
    def every(self) -> list[Path]:
        """Return the files of all splits."""
        return [path for paths in self.files.values() for path in paths]


def read_image_folder(directory: Path, form: Form) -> tuple[Arrays, list[str]]:
    """Read the images of a folder.

    Args:
        directory: see `list_image_folder`.
        form: size and colours of the images.

    Returns:
        train_images, train_labels and so on, of a single folder of classes all_images and all_labels; and the names of
        the classes, of which the labels are the places.

    Raises:
        InputError: as `list_image_folder`, or if an image cannot be used.
    """
    found = list_image_folder(directory)
    names = [str(path.relative_to(directory)) for path in found.every]
    key = digest_files(found.every, "folder", form.key(), *names)
    arrays = dict(load_or_decode(key, lambda: _decode(found.files, found.every, form)))
    return arrays | {f"{part}_labels": labels for part, labels in found.labels.items()}, found.classes


def list_image_folder(directory: Path) -> ImageFolder:
    """Find the images of a folder.

    Args:
        directory: with the folders train, test and perhaps validation (or val, valid), which hold a folder a class;
            or with a folder a class.

    Raises:
        InputError: if there is no image, the splits have other classes, or a symbolic link leads out of the folder.
    """
    root = _find_root(directory)
    folders = _folders(directory, root)
    parts: dict[str, dict[str, list[Path]]] = {"all": {}}
    if "train" in folders:
        parts = {}
        for part, names in SPLITS.items():
            folder = next((folders[name] for name in names if name in folders), None)
            if folder is not None:
                parts[part] = _images_of_classes(folder, root)
        if "test" not in parts:
            raise InputError(f"`data.directory` {directory} must have a folder test beside train; it has none.")
    else:
        parts["all"] = _images_of_classes(directory, root, folders)
    classes = _common_classes(parts, directory)
    files = {part: [path for name in classes for path in found[name]] for part, found in parts.items()}
    sizes = {part: [len(found[name]) for name in classes] for part, found in parts.items()}
    labels = {part: np.repeat(np.arange(len(classes)), counts) for part, counts in sizes.items()}
    return ImageFolder(files, labels, classes)


def read_class_names(directory: Path) -> list[str]:
    """Return the names of the classes of a folder of images, of which the labels are the places.

    Raises:
        InputError: if it is no folder, or cannot be read.
    """
    root = _find_root(directory)
    folders = _folders(directory, root)
    return list(_folders(folders["train"], root) if "train" in folders else folders)


def _find_root(directory: Path) -> Path:
    if not directory.is_dir():
        raise InputError(f"`data.directory` must be a folder of folders of images; got {directory}.")
    return directory.resolve()


def _decode(files: dict[str, list[Path]], every: list[Path], form: Form) -> Arrays:
    images = decode_images(((str(path), lambda path=path: read_file(path, MOST_FILE_BYTES)) for path in every), form)
    ends = np.cumsum([len(paths) for paths in files.values()])[:-1]
    return {f"{part}_images": each for part, each in zip(files, np.split(images, ends), strict=True)}


def _folders(folder: Path, root: Path) -> dict[str, Path]:
    """Return the folders in a folder by name, without hidden ones."""
    return {name: path for name, path in _entries(folder, root).items() if path.is_dir()}


def _images_of_classes(folder: Path, root: Path, folders: dict[str, Path] | None = None) -> dict[str, list[Path]]:
    folders = _folders(folder, root) if folders is None else folders
    classes = {name: _images(path, root) for name, path in folders.items()}
    empty = [name for name, images in classes.items() if not images]
    if len(empty) == len(classes):
        raise InputError(f"{folder}: must have a folder a class, with images in it ({', '.join(ENDINGS)}); got none.")
    if empty:
        raise InputError(f"{folders[empty[0]]}: a class must have at least one image ({', '.join(ENDINGS)}); got none.")
    return classes


def _images(folder: Path, root: Path) -> list[Path]:
    images = []
    for path in _entries(folder, root).values():
        if path.is_dir():
            raise InputError(f"{path}: the folder of a class must hold images only; this is a folder; move it.")
        if path.suffix.lower() in ENDINGS:
            if not stat.S_ISREG(_mode(path)):
                raise InputError(f"{path}: must be a file; it is something else.")
            images.append(path)
    return images


def _entries(folder: Path, root: Path) -> dict[str, Path]:
    """Return what is in a folder by name, sorted, without what is hidden.

    Raises:
        InputError: if a symbolic link leads out of the root, or nowhere.
    """
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}).") from error
    names = [name for name in names if not name.startswith(".")]
    paths = {unicodedata.normalize("NFC", name): folder / name for name in names}
    bad = [name for name in names if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)]
    if bad or len(paths) < len(names):
        found = repr(bad[0])[:100] if bad else "two that differ in their Unicode form only"
        raise InputError(f"{folder}: the names in it must be different texts without control characters; got {found}.")
    for path in paths.values():
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise InputError(
                f"{path}: a symbolic link must stay inside {root}; it leads to {str(path.readlink())[:100]!r}."
            )
    return dict(sorted(paths.items()))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def _common_classes(parts: dict[str, dict[str, list[Path]]], directory: Path) -> list[str]:
    first, *others = parts
    for other in others:
        different = sorted(parts[first].keys() ^ parts[other].keys())
        if different:
            owner = first if different[0] in parts[first] else other
            raise InputError(
                f"`data.directory` {directory}: all splits must have the same classes; only {owner} of {first} and "
                f"{other} has {different[0]!r}."
            )
    return list(parts[first])
