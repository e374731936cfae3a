"""Data sets: they are loaded from several sources, checked, split and cached.

The functions `load_*` are components: the files in `conf/data` name them. A user's own loader may have any options; it
returns a `Dataset`.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lenet_jax import components
from lenet_jax.config.catalogue import TARGET, built_in
from lenet_jax.config.checks import Count, Decay, NonNegativeInt, Positive, Seed, Text, TwoCounts
from lenet_jax.data.embedded import read_embedded
from lenet_jax.data.folds import build_data
from lenet_jax.data.idx import find_idx_files, is_emnist, read_idx_files
from lenet_jax.data.images import make_form
from lenet_jax.data.pickle_archive import read_pickle_archive
from lenet_jax.data.splits import count_outputs, hold_out, hold_out_at_random, join, make_examples, take_first
from lenet_jax.data.streams import Reading
from lenet_jax.data.tfds import find_set, read_tfds
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.types import Dataset, Split

_log = logging.getLogger(__name__)

SOURCES = ("embedded", "tfds", "idx", "pickle_archive", "npz", "folder", "huggingface")


def load_dataset(dataset: str | None = None, /, source: str | None = None, **options: Any) -> Dataset:
    """Load a data set by the name of its file in `conf/data`, as `data=NAME` of the command line does.

    `load_dataset()` gives 5,000 MNIST digits that are part of the package, `load_dataset("mnist")` all 70,000: those
    that were prepared, or they are downloaded; `load_dataset("npz", directory="my.npz")` your own.

    Args:
        dataset: embedded, mnist, fashion_mnist, kmnist, emnist, cifar10, cifar100, svhn, tfds, idx, pickle_archive,
            npz, folder or huggingface; may be given as `name`; None: embedded.
        source: None; or the function `load_SOURCE` that loads it, to which the name is then an option: "embedded",
            "tfds", "idx", "pickle_archive", "npz", "folder", "huggingface".
        **options: options of the function that the file names; `load_npz` and so on describe them. And `folds` and
            `fold`: of so many parts of the training and validation examples, the one that validates.

    Returns:
        Inputs (N, ...) and targets (N, ...) for training, validation and test; of images uint8 (N, H, W, C), of
        labels int32 (N,).

    Raises:
        InputError: if a name or an option is unknown, a value is out of its range, or a file is missing, damaged or has
            other content.

    >>> load_dataset().train.inputs.shape
    (4000, 28, 28, 1)
    """
    if source is not None:
        if source not in SOURCES:
            raise unknown_name("data source", source, SOURCES)
        node = {TARGET: f"{__name__}.load_{source}"} | ({} if dataset is None else {"name": dataset})
    else:
        files = built_in("data")
        chosen: str = options.pop("name", "embedded") if dataset is None else dataset
        chosen = "embedded" if chosen == _EMBEDDED else chosen
        if chosen not in files:
            raise unknown_name("data", chosen, files)
        node = dict(files[chosen])
    return build_data(components.complete("data", {**node, **options}))


_EMBEDDED = "mnist_5k"  # what the digits in the package are called in records


# ---- components -----------------------------------------------------------------------------------------------------


def load_embedded(
    *,
    name: Literal["mnist_5k", "mnist"] = "mnist_5k",
    num_classes: Count | None = 10,
    train_size: Count | None = None,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
) -> Dataset:
    """Load the 5,000 MNIST digits of the package: 4,000 for training, 500 for validation and 500 for test.

    All 5,000 are training images of MNIST, so they test no network that was trained on full MNIST.

    Args:
        name: name of the data set.
        num_classes: labels are 0 to num_classes - 1; None: 10.
        train_size: use only the first `train_size` training images; None: all.
        train_on_validation: whether to train on the validation images as well, for systems that were published
            without a validation set.
        pixel_divisor: divisor of the uint8 pixels: 256 (Theano) or 255 (Keras).
    """
    return _assemble(name, read_embedded(), num_classes or 10, None, train_size, train_on_validation, pixel_divisor)


def load_tfds(
    *,
    name: Text = "mnist",
    directory: Text | None = None,
    manual_dir: Text | None = None,
    test_split: Text = "test",
    image_size: Count | TwoCounts | None = None,
    crop: bool = False,
    num_classes: Count | None = None,
    train_size: Count | None = None,
    validation_size: Count = 10_000,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
    stream: bool = False,
    workers: Count = 8,
    processes: NonNegativeInt = 0,
) -> Dataset:
    """Load an image-classification set of TensorFlow Datasets, without TensorFlow.

    Args:
        name: mnist, fashion_mnist or kmnist, which are prepared when first used; or a set that TFDS has prepared in
            the array_record format, as "name", "name/config" or "name:1.0.0".
        directory: folder of the prepared sets; None: $TFDS_DATA_DIR or ~/tensorflow_datasets.
        manual_dir: folder of the official files, if the user has downloaded them; None: they are downloaded.
        test_split: the split to test on, for a set whose test images have no labels; ImageNet's is "validation".
        image_size: resize the images to so many pixels, a side or [height, width]; null: they must have one size.
        crop: whether what is too long for `image_size` is first cut off on both sides; else images are squeezed.
        num_classes: labels are 0 to num_classes - 1; None: the number that the set declares.
        train_size: use only the first `train_size` training images; None: all.
        validation_size: hold out the last `validation_size` training images, if the set has no validation split.
        train_on_validation: whether to train on the validation images as well.
        pixel_divisor: divisor of the uint8 pixels.
        stream: whether images are read and decoded as they are needed, for sets that are larger than memory.
        workers: threads that read a stream.
        processes: of a stream, each with so many threads; 0: this process.
    """
    form = None if image_size is None and not crop else make_form(image_size, crop=crop)
    if not stream:
        arrays, declared = read_tfds(name, directory, manual_dir, form=form)
        arrays, classes = _with_test_split(arrays, test_split), num_classes or declared
        return _assemble(name, arrays, classes, validation_size, train_size, train_on_validation, pixel_divisor)
    from lenet_jax.data.streamed_images import PreparedImages, stream_divided

    prepared, files, declared = find_set(name, directory, manual_dir)
    source, classes = PreparedImages(prepared, files, "label", form), num_classes or declared
    places: dict[str, np.ndarray] = {}
    for part, positions in source.positions().items():
        places |= {f"{part}_images": positions, f"{part}_labels": np.zeros(len(positions), np.int32)}
    places = _with_test_split(places, test_split)
    divided = _assemble(
        name, places, classes, validation_size, train_size, train_on_validation, pixel_divisor, make=_make_places
    )
    return stream_divided(divided, source, Reading(workers, processes))


def _with_test_split(arrays: dict[str, np.ndarray], split: str) -> dict[str, np.ndarray]:
    """Return the arrays {split}_images and {split}_labels with those of a split as those of the test."""
    if split == "test":
        return arrays
    if f"{split}_images" not in arrays:
        names = [key.removesuffix("_images") for key in arrays if key.endswith("_images")]
        raise unknown_name("data.test_split", split, names)
    kinds = ("images", "labels")
    rest = {key: each for key, each in arrays.items() if key not in {f"{split}_{kind}" for kind in kinds}}
    return rest | {f"test_{kind}": arrays[f"{split}_{kind}"] for kind in kinds}


def load_idx(
    *,
    name: Text = "idx",
    directory: Text | None = None,
    num_classes: Count | None = 10,
    upright: bool = False,
    train_size: Count | None = None,
    validation_size: Count = 10_000,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
) -> Dataset:
    """Load a folder of the four IDX files of the MNIST family, with or without gzip.

    Args:
        name: name of the data set in records and reports.
        directory: the folder; required.
        num_classes: labels are 0 to num_classes - 1; None: the highest label + 1.
        upright: whether to transpose the images, as those of EMNIST have to be to stand as MNIST's do.
        train_size: use only the first `train_size` training images; None: all.
        validation_size: hold out the last `validation_size` training images.
        train_on_validation: whether to train on the validation images as well.
        pixel_divisor: divisor of the uint8 pixels.
    """
    files = find_idx_files(_required_path(directory, "a folder of IDX files"))
    arrays = read_idx_files(files)
    if upright:
        arrays = _transposed(arrays)
    elif is_emnist(files):
        _log.warning("%s: EMNIST's images are stored transposed; data.upright=true makes them stand", directory)
    return _assemble(name, arrays, num_classes, validation_size, train_size, train_on_validation, pixel_divisor)


def load_pickle_archive(
    *,
    name: Text = "mnist",
    directory: Text | None = None,
    num_classes: Count = 10,
    train_size: Count | None = None,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
) -> Dataset:
    """Load the classic mnist.pkl.gz of the Theano tutorials, with an unpickler that allows NumPy arrays only.

    Args:
        name: name of the archive in its folder, without .pkl.gz.
        directory: the archive or its folder; required.
        num_classes: labels are 0 to num_classes - 1.
        train_size: use only the first `train_size` training images; None: all.
        train_on_validation: whether to train on the validation images as well.
        pixel_divisor: divisor of the uint8 pixels.
    """
    path = _required_path(directory, "the archive or its folder")
    arrays = read_pickle_archive(path / f"{name}.pkl.gz" if path.is_dir() else path)
    return _assemble(name, arrays, num_classes, None, train_size, train_on_validation, pixel_divisor)


def load_npz(
    *,
    name: Text = "npz",
    directory: Text | None = None,
    num_classes: Count | None = None,
    train_size: Count | None = None,
    validation_size: Count | Decay = 0.1,
    seed: Seed | None = None,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
) -> Dataset:
    """Load NumPy arrays of an npz file, without pickle.

    The arrays are x_train, y_train, x_test, y_test, as Keras has them, or train_inputs, train_targets, test_inputs,
    test_targets, or train_images, train_labels and so on; those of validation (or val) are optional. uint8 images
    (N, H, W) or (N, H, W, C) are scaled in the training step; float inputs (N, ...) are taken as they are, so images
    need their axis of channels. Targets are labels, integers (N,) of any dtype, or floats (N, ...).

    Args:
        name: name of the data set in records and reports.
        directory: the file; required.
        num_classes: number of outputs of the model: labels are 0 to num_classes - 1; None: the highest label + 1, or
            the size of a float target.
        train_size: use only the first `train_size` training examples; None: all.
        validation_size: how many training examples are held out, or which fraction, if the file has no validation.
        seed: None: the last ones are held out; a number: it chooses them, of each label its share.
        train_on_validation: whether to train on the validation examples as well.
        pixel_divisor: divisor of the uint8 pixels.
    """
    from lenet_jax.data.npz import read_npz

    arrays = read_npz(_required_path(directory, "an npz file"))
    return _assemble(name, arrays, num_classes, validation_size, train_size, train_on_validation, pixel_divisor, seed)


def load_folder(
    *,
    name: Text = "folder",
    directory: Text | None = None,
    image_size: Count | TwoCounts | None = None,
    crop: bool = False,
    colors: Literal["grey", "rgb"] | None = None,
    num_classes: Count | None = None,
    train_size: Count | None = None,
    validation_size: Count | Decay = 0.1,
    test_size: Count | Decay = 0.1,
    seed: Seed = 0,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
    stream: bool = False,
    workers: Count = 8,
    processes: NonNegativeInt = 0,
) -> Dataset:
    """Load PNG and JPEG images whose classes are folders.

    The folder has the folders train, test and perhaps validation (or val), with a folder a class in each; or it has a
    folder a class, and the images are divided, of each class its share. Labels are the places of the classes' names,
    sorted as texts.

    Args:
        name: name of the data set in records and reports.
        directory: the folder; required.
        image_size: resize the images to so many pixels, a side or [height, width]; null: they must have one size.
        crop: whether what is too long for `image_size` is first cut off on both sides; else images are squeezed.
        colors: grey (1 channel) or rgb (3); null: grey if all images are, else rgb.
        num_classes: number of outputs of the model; None: the number of classes.
        train_size: use only `train_size` training images; None: all.
        validation_size: how many images, or which fraction of all, are held out for validation, if there is no folder.
        test_size: the same for the test, if the folder is not divided.
        seed: decides the order of the training images and which images are held out.
        train_on_validation: whether to train on the validation images as well.
        pixel_divisor: divisor of the pixels.
        stream: whether images are read and decoded as they are needed, for folders that are larger than memory.
        workers: threads that read a stream.
        processes: of a stream, each with so many threads; 0: this process.
    """
    from lenet_jax.data.folder import list_image_folder, read_image_folder

    path, form = _required_path(directory, "a folder of folders of images"), make_form(image_size, colors, crop=crop)
    source, make = None, make_examples
    if stream:
        from lenet_jax.data.streamed_images import ImageFiles, stream_divided

        found, arrays, make = list_image_folder(path), {}, _make_places
        classes, first = found.classes, 0
        for part, labels in found.labels.items():
            arrays |= {f"{part}_images": np.arange(first, first + len(labels)), f"{part}_labels": labels}
            first += len(labels)
        source = ImageFiles(path, found.every, np.concatenate(list(found.labels.values())), form)
    else:
        arrays, classes = read_image_folder(path, form)
    if "all_images" in arrays:
        every = make(arrays["all_images"], arrays["all_labels"], len(classes), f"data {name}")
        held_out = _size(test_size, len(every.targets))
        rest, test = hold_out_at_random(every, held_out, seed, "data.test_size")
        total = len(every.targets)
        arrays = {"train_images": rest.inputs, "train_labels": rest.targets}
        arrays |= {"test_images": test.inputs, "test_labels": test.targets}
    else:
        total = len(arrays["train_labels"])
    order = np.random.default_rng(seed).permutation(len(arrays["train_labels"]))  # those of a class are in a row
    arrays |= {key: arrays[key][order] for key in ("train_images", "train_labels")}
    held_out, classes = _size(validation_size, total), num_classes or len(classes)
    data = _assemble(name, arrays, classes, held_out, train_size, train_on_validation, pixel_divisor, seed, make=make)
    return data if source is None else stream_divided(data, source, Reading(workers, processes))


def load_huggingface(
    *,
    name: Text | None = None,
    directory: Text | None = None,
    config: Text | None = None,
    input_column: Text | None = None,
    target_column: Text | None = None,
    image_size: Count | TwoCounts | None = None,
    colors: Literal["grey", "rgb"] | None = None,
    num_classes: Count | None = None,
    train_size: Count | None = None,
    validation_size: Count | Decay = 0.1,
    seed: Seed | None = None,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
) -> Dataset:
    """Load a set of Hugging Face's library `datasets`, from a folder or its local cache; nothing is downloaded.

    Args:
        name: of a set in the cache, as "ylecun/mnist"; with `directory`, its name in records.
        directory: folder of `save_to_disk`, a parquet file or a folder of such; None: the set `name` in the cache.
        config: of a set in the cache that has several.
        input_column: images, or arrays of numbers; None: the only column of images, or of arrays.
        target_column: classes or numbers; None: the only column of classes, else label, labels or target.
        image_size: resize the images to so many pixels, a side or [height, width]; null: they must have one size.
        colors: grey (1 channel) or rgb (3); null: grey if all images are, else rgb.
        num_classes: number of outputs of the model; None: the classes that the set declares, or as `load_npz`.
        train_size: use only the first `train_size` training examples; None: all.
        validation_size: how many training examples are held out, or which fraction, if the set has no validation.
        seed: None: the last ones are held out; a number: it chooses them, of each label its share.
        train_on_validation: whether to train on the validation examples as well.
        pixel_divisor: divisor of the uint8 pixels.
    """
    from lenet_jax.data.huggingface import read_huggingface
    from lenet_jax.data.images import Form

    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    path = None if directory is None else Path(directory).expanduser()
    arrays, declared = read_huggingface(name, path, config, input_column, target_column, Form(size, colors))
    return _assemble(
        name or "huggingface",
        arrays,
        num_classes or declared,
        validation_size,
        train_size,
        train_on_validation,
        pixel_divisor,
        seed,
    )


def load_emnist(
    *,
    split: Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"] = "balanced",
    upright: bool = False,
    directory: Text | None = None,
    manual_dir: Text | None = None,
    train_size: Count | None = None,
    validation_size: Count = 10_000,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
) -> Dataset:
    """Load EMNIST: handwritten letters and digits, 28x28 pixels (Cohen et al. 2017, arXiv:1702.05373).

    Args:
        split: balanced (47 classes, 112,800 images to train and 18,800 to test), byclass (62; 697,932 and 116,323),
            bymerge (47; the same), letters (labels 1 to 26; 88,800 to 124,800 and 14,800 to 20,800), digits (10;
            240,000 and 40,000) or mnist (10; 60,000 and 10,000).
        upright: whether to transpose the images, so that they stand as those of MNIST; false: as NIST stores and TFDS
            reads them.
        directory: folder of the prepared sets; None: $TFDS_DATA_DIR or ~/tensorflow_datasets.
        manual_dir: folder of the official gzip.zip, if the user has downloaded it; None: it is downloaded (562 MB).
        train_size: use only the first `train_size` training images; None: all.
        validation_size: hold out the last `validation_size` training images.
        train_on_validation: whether to train on the validation images as well.
        pixel_divisor: divisor of the pixels.
    """
    from lenet_jax.data.archives import SETS

    name = f"emnist/{split}"
    arrays, _ = read_tfds(name, directory, manual_dir)
    if upright:
        arrays = _transposed(arrays)
    classes = SETS[name].num_classes["label"]  # TFDS itself declares 37 of letters
    return _assemble(name, arrays, classes, validation_size, train_size, train_on_validation, pixel_divisor)


def load_cifar100(
    *,
    label: Literal["fine", "coarse"] = "fine",
    directory: Text | None = None,
    manual_dir: Text | None = None,
    train_size: Count | None = None,
    validation_size: Count = 10_000,
    train_on_validation: bool = False,
    pixel_divisor: Positive = 256.0,
) -> Dataset:
    """Load CIFAR-100: 50,000 and 10,000 colour images of 32x32 pixels (Krizhevsky 2009).

    Args:
        label: fine (100 classes) or coarse (20).
        directory: folder of the prepared sets; None: $TFDS_DATA_DIR or ~/tensorflow_datasets.
        manual_dir: folder of the official archive, if the user has downloaded it; None: it is downloaded.
        train_size: use only the first `train_size` training images; None: all.
        validation_size: hold out the last `validation_size` training images.
        train_on_validation: whether to train on the validation images as well.
        pixel_divisor: divisor of the pixels.
    """
    target = "label" if label == "fine" else "coarse_label"
    arrays, classes = read_tfds("cifar100", directory, manual_dir, target)
    return _assemble("cifar100", arrays, classes, validation_size, train_size, train_on_validation, pixel_divisor)


def _transposed(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: each.swapaxes(1, 2) if key.endswith("_images") else each for key, each in arrays.items()}


def _assemble(
    name: str,
    arrays: dict[str, np.ndarray],
    num_classes: int | None,
    validation_size: float | None,
    train_size: int | None,
    train_on_validation: bool,
    pixel_divisor: float,
    seed: int | None = None,
    make: Callable[..., Split] = make_examples,
) -> Dataset:
    """Check the arrays {split}_images and {split}_labels and divide them into training, validation and test."""
    parts = [part for part in ("train", "validation", "test") if f"{part}_images" in arrays]
    for part in ("train", "test"):
        if part not in parts:
            raise InputError(f"`data.name` {name} must have a {part} split; it has {', '.join(parts)}.")
    num_classes = num_classes or count_outputs([arrays[f"{part}_labels"] for part in parts])
    splits = {
        part: make(arrays[f"{part}_images"], arrays[f"{part}_labels"], num_classes, f"data {name} ({part})")
        for part in parts
    }
    if "validation" not in splits and validation_size is not None:
        size = _size(validation_size, len(splits["train"].targets))
        splits["train"], splits["validation"] = _hold_out_validation(splits["train"], size, seed)
    for kind, shapes in (
        ("images", {part: split.inputs.shape[1:] for part, split in splits.items()}),
        ("targets", {part: split.targets.shape[1:] for part, split in splits.items()}),
    ):
        if len(set(shapes.values())) != 1:
            raise InputError(f"data {name}: the {kind} of all splits must have the same shape; got {shapes}.")
    if train_on_validation:
        splits["train"] = join(splits["train"], splits["validation"])
    splits["train"] = take_first(splits["train"], train_size)
    return Dataset(**splits, num_classes=num_classes, pixel_divisor=pixel_divisor)


def _make_places(places: np.ndarray, labels: np.ndarray, num_classes: int, origin: str) -> Split:
    """Return places in a source, which are divided as the examples themselves would be."""
    return Split(places, labels.astype(np.int32))


def _hold_out_validation(train: Split, size: int, seed: int | None) -> tuple[Split, Split]:
    if seed is None:
        return hold_out(train, size)
    return hold_out_at_random(train, size, seed, "data.validation_size")


def _size(size: float, total: int) -> int:
    """Return a size that is a number, or a fraction of a total."""
    return size if isinstance(size, int) else max(1, round(size * total))


def _required_path(directory: str | None, what: str) -> Path:
    if directory is None:
        raise InputError(f"`data.directory` must be {what}; got null.")
    return Path(directory).expanduser()
