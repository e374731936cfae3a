"""Image-classification sets of TensorFlow Datasets, prepared and read without TensorFlow.

The sets of `official.py` are prepared by this project's own builders (`tfds_builder.py`). Any other set that TFDS has
prepared in the array_record format is read by its TFDS name. Decoding the images takes seconds, so the decoded arrays
are cached; loading from the cache imports neither tensorflow_datasets nor an image library.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.data.cache import Arrays, digest_files, load_or_decode
from lenet_jax.data.images import Form, bring_pixels_to
from lenet_jax.data.official import (
    ARCHIVE_SETS,
    BUILT_IN,
    IDX_SETS,
    OfficialFile,
    addresses,
    describe_files,
    official_files,
)
from lenet_jax.errors import InputError
from lenet_jax.storage import MAX_HEADER_BYTES, locked, open_untrusted, read_file

_BUILT_IN_VERSION = "1.0.0"
_NAME = re.compile(r"\w+(/\w[\w.-]*)?(:\d+\.\d+\.\d+)?")
_NETWORK_TIMEOUT = 10  # seconds without receiving data
_BLOCK = 1 << 16  # bytes


def tfds_directory(directory: str | None) -> Path:
    """Return the folder of TFDS's prepared sets: the given folder, $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    return Path(directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def read_tfds(
    name: str, directory: str | None, manual_dir: str | None, label: str = "label", form: Form | None = None
) -> tuple[Arrays, int]:
    """Read a data set, and prepare it first if it is one of `BUILT_IN`.

    Args:
        name: as in `lenet_jax.data.load_tfds`.
        directory: see `tfds_directory`.
        manual_dir: folder of the official files; None: they are downloaded.
        label: the feature that is the label.
        form: to which the images are brought; None: they stay as they are.

    Returns:
        The arrays {split}_images and {split}_labels of each split of the set, and the number of classes.

    Raises:
        InputError: if the set is neither prepared nor one of `BUILT_IN`, is not an image-classification set, or its
            files cannot be obtained or are not the official ones.
    """
    prepared, files, num_classes = find_set(name, directory, manual_dir, label)
    more = [] if label == "label" else [label]
    more += [] if form is None else [form.key()]
    key = digest_files(files, "tfds images and labels", *more)
    return load_or_decode(key, lambda: _decode(prepared, label, form)), num_classes


def find_set(
    name: str, directory: str | None, manual_dir: str | None, label: str = "label"
) -> tuple[Path, list[Path], int]:
    """Return the folder of a prepared set, the files in it and the number of its classes; see `read_tfds`."""
    prepared = prepare(name, directory, manual_dir) if name in BUILT_IN else _find(name, tfds_directory(directory))
    num_classes = _num_classes(prepared, label)
    files = [path for path in prepared.iterdir() if not path.is_dir()]
    for path in files:
        if not path.is_file():  # opening a named pipe would block
            raise InputError(f"{path}: must be a file; it is something else.")
    return prepared, files, num_classes


def prepare(name: str, directory: str | None, manual_dir: str | None) -> Path:
    """Prepare one of `BUILT_IN`, unless it is already prepared, and return its folder.

    Of the sets in archives, one that TFDS itself has prepared under the same name is taken if there is one.

    Args:
        name: one of `BUILT_IN`.
        directory: see `tfds_directory`.
        manual_dir: folder of the official files; None: they are downloaded.

    Raises:
        InputError: if the files cannot be obtained or are not the official ones.
    """
    family = "idx_images" if name in IDX_SETS else "archive_images"
    target = tfds_directory(directory) / family / name.replace("/", "_") / _BUILT_IN_VERSION
    if (target / "dataset_info.json").exists():
        return target
    if manual_dir is not None:
        _check_manual_dir(Path(manual_dir).expanduser(), name)
    elif name in ARCHIVE_SETS and _prepared_folders(name, tfds_directory(directory)):
        return _find(name, tfds_directory(directory))
    with _quiet_tfds(), tempfile.TemporaryDirectory() as temporary:
        import tensorflow_datasets as tfds

        from lenet_jax.data.tfds_builder import ArchiveImages, IdxImages

        folder = Path(temporary if manual_dir is None else manual_dir).expanduser()
        for file in official_files(name).values():
            if manual_dir is None:
                _download(file, folder, name)
            _check_official(file, folder / file.name, name, file.address if manual_dir is None else folder / file.name)
        builder_class = IdxImages if name in IDX_SETS else ArchiveImages
        builder = builder_class(
            config=name.replace("/", "_"), data_dir=tfds_directory(directory), file_format="array_record"
        )
        try:
            with locked(target.parent, "data set", wait=True):
                if not (target / "dataset_info.json").exists():  # nor has it been prepared in the meantime
                    _remove_incomplete(target.parent)
                    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
        except OSError as error:
            raise InputError(
                f"`data.directory` {tfds_directory(directory)}: {name} cannot be prepared there "
                f"({error.strerror or error}); set another folder."
            ) from error
    return target


def _remove_incomplete(folder: Path) -> None:
    """Remove what processes that were killed have left of a set, whose folder is locked."""
    for path in folder.glob("incomplete.*"):
        shutil.rmtree(path, ignore_errors=True)


def _names(name: str) -> list[str]:
    """Return the names of the official files of a set."""
    return [address.rpartition("/")[2] for address in addresses(name).values()]


def _check_manual_dir(manual_dir: Path, name: str) -> None:
    missing = [file for file in _names(name) if not (manual_dir / file).is_file()]
    if missing:
        raise InputError(
            f"`data.manual_dir` {manual_dir} must hold the {describe_files(name)}; missing: {', '.join(missing)}."
        )


def _download(file: OfficialFile, folder: Path, name: str) -> None:
    """Download a file, but stop soon after its known size; TFDS would store a response of any size."""
    import requests

    try:
        with (
            requests.get(file.address, stream=True, timeout=_NETWORK_TIMEOUT) as response,
            (folder / file.name).open("wb") as target,
        ):
            response.raise_for_status()
            for block in response.iter_content(_BLOCK):
                target.write(block)
                if target.tell() > file.num_bytes:
                    break
    except OSError as error:  # includes the exceptions of requests
        raise _no_download(name, error) from error


def _check_official(file: OfficialFile, path: Path, name: str, origin: str | Path) -> None:
    rule = f"{origin}: the file must be the official one of {name}"
    if (size := path.stat().st_size) != file.num_bytes:
        got = size if size < file.num_bytes else "more"
        raise InputError(f"{rule}, of {file.num_bytes} bytes; got {got}; download it again.")
    with open_untrusted(path) as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != file.sha256:
            raise InputError(f"{rule}; its SHA-256 differs; download it again.")


def _no_download(name: str, error: Exception) -> InputError:
    return InputError(
        f"`data.name` {name} is not prepared and cannot be downloaded ({type(error).__name__}); put its "
        f"{describe_files(name)} ({', '.join(_names(name))}) into a folder and set data.manual_dir=FOLDER"
        + ("; data=embedded has 5,000 of its digits." if name == "mnist" else ".")
    )


def is_prepared(name: str, directory: str | None) -> bool:
    """Return whether a set can be read without a download."""
    folder, own = tfds_directory(directory), name.replace("/", "_")
    return any(_prepared_folders(each, folder) for each in (name, f"idx_images/{own}", f"archive_images/{own}"))


def _find(name: str, directory: Path) -> Path:
    if not _NAME.fullmatch(name):
        raise InputError(f'`data.name` must be like "name", "name/config" or "name:1.0.0"; got {name!r}.')
    prepared = _prepared_folders(name, directory)
    if len(prepared) == 1:
        return prepared[0]
    if not prepared:
        raise InputError(
            f"`data.name` must be one of {', '.join(BUILT_IN)} or a set that is already prepared in {directory}; "
            f"got {name!r}; prepare it there with "
            f'tfds.builder("{name}", file_format="array_record").download_and_prepare(), or set data.directory.'
        )
    choices = ", ".join(str(p.relative_to(directory).parent) + f":{p.name}" for p in prepared)
    raise InputError(f"`data.name` {name!r} must name one prepared set; choose one of: {choices}.")


def _prepared_folders(name: str, directory: Path) -> list[Path]:
    """Return the folders of the sets of a name, "name", "name/config" or "name:1.0.0"."""
    base, _, version = name.partition(":")
    prepared = [path.parent for path in sorted((directory / base).rglob("dataset_info.json"))]
    return [p for p in prepared if re.fullmatch(r"\d+\.\d+\.\d+", p.name) and version in ("", p.name)]


def _num_classes(prepared: Path, label: str) -> int:
    path = prepared / "features.json"
    try:
        content = json.loads(read_file(path, MAX_HEADER_BYTES))
        features = content["featuresDict"]["features"]
        if "image" not in features["image"]:
            raise KeyError("image")
        num_classes = int(features[label]["classLabel"]["numClasses"])
        untrusted = [name for name in _class_names(content) if not name.startswith("tensorflow_datasets.")]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{prepared}: the set must have the features `image`, an image, and `{label}`, a class; "
            "see its features.json."
        ) from error
    if untrusted:
        raise InputError(f"{path}: each feature must be one of tensorflow_datasets; got {untrusted[0][:80]!r}.")
    return num_classes


def _class_names(content: Any) -> Iterator[str]:
    """Yield the classes that a features.json names; TFDS would import their modules without a check."""
    if isinstance(content, list):
        for item in content:
            yield from _class_names(item)
    elif isinstance(content, dict):
        for key, value in content.items():
            if key in ("pythonClassName", "python_class_name", "type") and isinstance(value, str):
                yield value
            yield from _class_names(json.loads(value) if key == "json" and isinstance(value, str) else value)


def open_splits(prepared: Path) -> dict[str, Any]:
    """Return the splits of a prepared set, each a sequence of decoded examples.

    Raises:
        InputError: if the set is damaged, or is not prepared in the array_record format.
    """
    with _quiet_tfds(), _damage_reported(prepared):
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(prepared)
        try:
            return {split: builder.as_data_source(split) for split in builder.info.splits}  # pyright: ignore[reportCallIssue]
        except NotImplementedError as error:
            file_format = getattr(builder.info.file_format, "value", None)
            raise InputError(
                f"{prepared}: the set must be prepared in the array_record format; got {file_format}; "
                'prepare it again with file_format="array_record".'
            ) from error


def _decode(prepared: Path, label: str = "label", form: Form | None = None) -> Arrays:
    arrays = {}
    for split, source in open_splits(prepared).items():
        with _quiet_tfds(), _damage_reported(prepared):
            examples = list(source)
            images = [each["image"] if form is None else bring_pixels_to(each["image"], form) for each in examples]
            arrays[f"{split}_images"] = _stack(images, f"{prepared} ({split})")
            arrays[f"{split}_labels"] = np.array([example[label] for example in examples], np.int64)
    return arrays


def _stack(images: list[np.ndarray], origin: str) -> np.ndarray:
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise InputError(
            f"{origin}: all images must have the same size; got {len(shapes)}, such as {sorted(shapes)[:3]}; set "
            "`data.image_size`."
        )
    return np.stack(images)


@contextlib.contextmanager
def _damage_reported(prepared: Path) -> Iterator[None]:
    """Report any exception of TFDS, array_record or the image library as an `InputError` that names the folder."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a damaged file can make its reader raise almost any exception
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"{prepared}: the prepared set is damaged ({reason}); delete the folder, prepare it again."
        ) from error


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Redirect TFDS's standard output to standard error, and disable its progress bars unless on a terminal."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)  # TFDS warns that OpenCV is not installed
    try:
        with contextlib.redirect_stdout(sys.stderr):
            import tensorflow_datasets as tfds

            if not sys.stderr.isatty():
                tfds.disable_progress_bar()
            yield
    finally:
        absl.setLevel(level)
