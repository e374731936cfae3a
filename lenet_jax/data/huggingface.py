"""Sets of Hugging Face's library `datasets`: folders of `save_to_disk`, parquet files, sets in its local cache.

Nothing is downloaded and no code of a set is run. The library is imported only here.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lenet_jax.data.cache import Arrays
from lenet_jax.data.folder import SPLITS
from lenet_jax.data.images import Form, decode_images
from lenet_jax.environment import install_command
from lenet_jax.errors import InputError

_TARGETS = ("label", "labels", "fine_label", "target", "targets")  # in this order, where no column is of classes
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def read_huggingface(
    name: str | None,
    directory: Path | None,
    config: str | None,
    input_column: str | None,
    target_column: str | None,
    form: Form,
) -> tuple[Arrays, int | None]:
    """Read a set.

    Args:
        name: of a set in the local cache, if there is no directory.
        directory: folder of `save_to_disk`, a parquet file or a folder of such.
        config: of a set in the cache.
        input_column: images, or arrays of numbers; None: the only such column.
        target_column: classes or numbers; None: the only column of classes, or one with a usual name.
        form: size and colours of the images.

    Returns:
        The arrays {split}_images and {split}_labels of train, validation and test, as far as there are, and the number
        of classes if the set declares it.

    Raises:
        InputError: if the library is not installed, the set is not there, damaged or lacks a column, or an image cannot
            be used.
    """
    origin = str(directory or name)
    with _reporting(origin):
        found = _open(name, directory, config)
    splits = {part: next((found[word] for word in words if word in found), None) for part, words in SPLITS.items()}
    present = {part: split for part, split in splits.items() if split is not None}
    missing = [part for part in ("train", "test") if part not in present]
    if missing:
        raise InputError(f"{origin}: must have the splits train and test; it has {', '.join(sorted(found)) or 'none'}.")
    features = present["train"].features
    inputs, targets = _input_column(features, input_column, origin), _target_column(features, target_column, origin)
    arrays, kinds = {}, []
    for part, split in present.items():
        for column in (inputs, targets):
            if column not in split.features:
                raise InputError(f"{origin}: all splits must have the same columns; {part} has no {column!r}.")
        with _reporting(f"{origin} ({part})"):
            arrays[f"{part}_images"] = _read_inputs(split, inputs, form, f"{origin} ({part})")
            arrays[f"{part}_labels"] = _read_numbers(split, targets)
        kinds.append(arrays[f"{part}_images"].shape[-1])
    if _is_image(features[inputs]) and len(set(kinds)) > 1:
        raise InputError(f"{origin}: some splits are grey and some are not; set `data.colors`.")
    return arrays, getattr(features[targets], "num_classes", None)


def _open(name: str | None, directory: Path | None, config: str | None) -> Mapping[str, Any]:
    """Return the splits of a set by name."""
    datasets = _import()
    if directory is None:
        return _open_cached(datasets, name, config)
    files = [directory] if directory.suffix == ".parquet" else sorted(directory.rglob("*.parquet"))
    if files:
        return _open_parquet(datasets, files, directory)
    if not (directory / "dataset_dict.json").is_file():
        raise InputError(
            f"`data.directory` must be a folder of DatasetDict.save_to_disk, a parquet file or a folder of such; "
            f"got {directory}."
        )
    return datasets.load_from_disk(str(directory))


def _import() -> Any:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"data=huggingface needs the package datasets ({error}); install it: {install_command('huggingface')}."
        ) from error
    return datasets


def _open_cached(datasets: Any, name: str | None, config: str | None) -> Mapping[str, Any]:
    if name is None or not _NAME.fullmatch(name):
        raise InputError(
            f"`data.directory` must be a folder or a file, or `data.name` that of a set in the local cache, as "
            f"ylecun/mnist; got {name!r}."
        )
    from datasets.packaged_modules.cache.cache import Cache  # pyright: ignore[reportMissingImports]

    try:
        options = {"config_name": config, "version": "auto", "hash": "auto"}
        builder = Cache(dataset_name=name.rpartition("/")[2], repo_id=name, **options)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise InputError(
            f"`data.name` {name} must be in the local cache, {datasets.config.HF_DATASETS_CACHE}: {reason}; load it "
            f'once where there is a network: datasets.load_dataset("{name}").'
        ) from error
    return builder.as_dataset()


def _open_parquet(datasets: Any, files: list[Path], directory: Path) -> Mapping[str, Any]:
    """Return the splits of parquet files, which begin with the split's name or are in a folder of that name."""
    import pyarrow.parquet  # pyright: ignore[reportMissingImports]

    tables: dict[str, list[Any]] = {}
    for file in files:
        inside = file.name if file == directory else file.relative_to(directory).as_posix()
        words = [word for word in re.split(r"[\W_]+", inside.lower()) if word]
        part = next((part for part, names in SPLITS.items() if set(names) & set(words)), None)
        if part is None:
            choices = ", ".join(name for names in SPLITS.values() for name in names)
            raise InputError(f"{file}: the name of the file or its folder must have a split in it: {choices}.")
        if not file.is_file():
            raise InputError(f"{file}: must be a file; it is something else.")
        tables.setdefault(part, []).append(pyarrow.parquet.read_table(file))
    return {part: datasets.Dataset(pyarrow.concat_tables(each)) for part, each in tables.items()}


def _input_column(features: Mapping[str, Any], column: str | None, origin: str) -> str:
    images = [name for name, each in features.items() if _is_image(each)]
    arrays = [name for name, each in features.items() if not _is_image(each) and not hasattr(each, "dtype")]
    arrays += [name for name, each in features.items() if type(each).__name__.startswith("Array")]
    return _choose("input_column", column, images or arrays, features, origin)


def _target_column(features: Mapping[str, Any], column: str | None, origin: str) -> str:
    classes = [name for name, each in features.items() if type(each).__name__ == "ClassLabel"]
    usual = [name for name in _TARGETS if name in features]
    return _choose("target_column", column, classes if len(classes) == 1 else usual[:1], features, origin)


def _choose(option: str, column: str | None, candidates: list[str], features: Mapping[str, Any], origin: str) -> str:
    if column is None and len(candidates) == 1:
        return candidates[0]
    if column is None or column not in features:
        got = "null" if column is None else repr(column)
        raise InputError(f"`data.{option}` must be a column of {origin}: one of {', '.join(features)}; got {got}.")
    return column


def _is_image(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _read_inputs(split: Any, column: str, form: Form, origin: str) -> np.ndarray:
    if not _is_image(split.features[column]):
        return _read_numbers(split, column)
    import datasets  # pyright: ignore[reportMissingImports]

    stored = split.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def content(number: int) -> bytes:
        image = stored[number][column]
        if not isinstance(image, dict) or not image.get("bytes"):
            raise InputError(f"{origin}: an image must be in the set itself, not a path to a file; save the set again.")
        return image["bytes"]

    names = (f"{origin}, image {number}" for number in range(len(stored)))
    return decode_images(((name, lambda n=number: content(n)) for number, name in enumerate(names)), form)


def _read_numbers(split: Any, column: str) -> np.ndarray:
    values = split.select_columns([column]).with_format("numpy")[:][column]
    array = np.asarray(values)
    if array.dtype == object:
        raise InputError(f"column {column!r}: all of its arrays must have the same shape.")
    return array


@contextlib.contextmanager
def _reporting(origin: str) -> Iterator[None]:
    """Report what the library raises as an `InputError` that names the set."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a damaged file can make the library raise almost any exception
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{origin}: cannot be read as a set of the library datasets ({reason}).") from error
