"""What the network of a run says of images of a user's own."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lenet_jax import components
from lenet_jax.data.class_names import class_names
from lenet_jax.data.folds import build_data
from lenet_jax.data.own_images import Prepared, prepare_files, style_of
from lenet_jax.errors import InputError
from lenet_jax.evaluation import predict_task
from lenet_jax.objective import Task
from lenet_jax.runs.evaluate import Which, load_network
from lenet_jax.runs.platforms import check_platform
from lenet_jax.runs.run_directory import Record


class Prediction(NamedTuple):
    """What a network says of an image."""

    file: str
    index: int | None  # in an array; None: the file is an image
    label: int
    class_name: str | None  # where the data have names
    confidence: float  # the probability of the label, 0 to 1
    probabilities: list[float]  # the softmax of the logits
    preparation: str  # what was done to the image

    @property
    def name(self) -> str:
        """Return the file, with the index in it."""
        return self.file if self.index is None else f"{self.file}[{self.index}]"


def predict_files(
    record: Record,
    paths: Sequence[str | Path],
    *,
    weights: Which = None,
    invert: bool | None = None,
    centre: bool | None = None,
) -> list[Prediction]:
    """Classify images of files by the network of a run.

    They are brought to the form of the training images: inverted, scaled and centred as the run's data were made, as
    far as the configuration tells how that was; see `lenet_jax.data.own_images`.

    Args:
        record: of the run, with a complete configuration, as `read_allowed` returns it.
        paths: PNG and JPEG files, folders of such, npy and npz files of arrays (N, H, W) or (N, H, W, C).
        weights: as for `lenet_jax.runs.evaluate.evaluate_run`.
        invert: whether images are inverted; None: those that are dark on light, if the training images are light on
            dark.
        centre: whether the character in an image is cut out, scaled and centred; None: if the training images are of
            such, and the image has not their size.

    Raises:
        InputError: if a file cannot be used, or the run did not learn to classify images.

    Returns:
        One prediction an image, in the order of the paths.
    """
    check_platform()
    if record.result is None:
        raise InputError(f"predict: `DIR` must hold a finished run; finish it: lenet-jax resume {record.directory}.")
    config, described = record.config, record.run["data"]
    objective = components.build(config.objective)
    if not objective.has_labels:
        name = components.short_name(config.objective)
        raise InputError(f"predict: `DIR` must be of a run that classifies; the objective of this one is {name}.")
    shape = tuple(described["image_shape"])
    style = style_of(config.data, shape)
    dtype = described.get("dtype") or _load_dtype(record)
    options: Any = {"are_pixels": dtype == "uint8", "invert": invert, "centre": centre}
    prepared = list(prepare_files([Path(path) for path in paths], shape, style, **options))
    model, variables = load_network(record, shape, weights)
    task = Task(model, objective, (), config.trainer.compute_dtype, pixel_divisor(record))
    predict = jax.jit(functools.partial(predict_task, task))
    names = described.get("class_names") or class_names(config.data) or []
    found: dict[int, np.ndarray] = {}
    with jax.default_matmul_precision(config.trainer.matmul_precision):
        for places in _by_dtype(prepared):
            outputs = predict(variables, np.concatenate([prepared[place].inputs for place in places]))
            if outputs.ndim != 2:
                raise InputError(f"predict: `DIR` must be of a run with a class an image; got {outputs.shape[1:]}.")
            ends = np.cumsum([len(prepared[place].inputs) for place in places])[:-1]
            found |= dict(zip(places, np.split(np.asarray(jax.nn.softmax(outputs)), ends), strict=True))
    return [
        _to_prediction(each, number, row, names)
        for place, each in enumerate(prepared)
        for number, row in enumerate(found[place])
    ]


def _load_dtype(record: Record) -> str:
    """Return the dtype of a run's inputs, which older records have not."""
    return str(jax.tree.leaves(build_data(record.config.data).train.inputs)[0].dtype)


def pixel_divisor(record: Record) -> float:
    """Return what uint8 pixels are divided by in a run; a loader of the user's own, which knows, loads its data."""
    divisor = record.config.data.get("pixel_divisor")
    return build_data(record.config.data).pixel_divisor if divisor is None else divisor


def _by_dtype(prepared: Sequence[Prepared]) -> list[list[int]]:
    places: dict[Any, list[int]] = {}
    for place, each in enumerate(prepared):
        places.setdefault(each.inputs.dtype, []).append(place)
    return list(places.values())


def _to_prediction(prepared: Prepared, number: int, probabilities: np.ndarray, names: Sequence[str]) -> Prediction:
    label = int(probabilities.argmax())
    return Prediction(
        prepared.name,
        number if prepared.is_array else None,
        label,
        names[label] if label < len(names) else None,
        float(probabilities[label]),
        [float(each) for each in probabilities],
        prepared.steps,
    )
