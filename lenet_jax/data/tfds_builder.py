"""TensorFlow Datasets builders of this project's own sets that work without TensorFlow.

TFDS's own builders open files and encode images with TensorFlow. These read the official files themselves and pass PNG
bytes to `tfds.features.Image`. `tfds.py` has checked the files in `manual_dir` against `checksums.tsv`, which pins the
size and SHA-256 of each official address.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from lenet_jax.data import archives
from lenet_jax.data.idx import read_idx
from lenet_jax.data.official import ARCHIVE_SETS, IDX_SETS, addresses, official_files


class _Source(NamedTuple):
    description: str
    citation: str


_SOURCES = {
    "mnist": _Source(
        "70,000 handwritten digits.",
        "Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits.",
    ),
    "fashion_mnist": _Source(
        "70,000 pictures of clothes in ten classes.",
        "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017.",
    ),
    "kmnist": _Source(
        "70,000 cursive Japanese characters in ten classes.",
        "T. Clanuwat et al., Deep Learning for Classical Japanese Literature, arXiv:1812.01718, 2018.",
    ),
}


class IdxImages(tfds.core.GeneratorBasedBuilder):
    """Images of 28x28 pixels in ten classes, in the order of the official files."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012  TFDS reads a plain dict
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=name, description=source.description) for name, source in _SOURCES.items()
    ]

    @property
    def _config_name(self) -> str:
        return str(self.builder_config.name)  # pyright: ignore[reportOptionalMemberAccess]

    def _info(self) -> tfds.core.DatasetInfo:
        source = _SOURCES[self._config_name]
        features = {
            "image": tfds.features.Image(shape=(28, 28, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=source.description,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=IDX_SETS[self._config_name],
            citation=source.citation,
            disable_shuffling=True,  # keeps the published order, on which the published split depends
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        paths: dict[str, Any] = dl_manager.download(addresses(self._config_name))  # pyright: ignore
        return {
            part: self._generate_examples(Path(paths[f"{part}_images"]), Path(paths[f"{part}_labels"]))
            for part in ("train", "test")
        }

    def _generate_examples(self, images_path: Path, labels_path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (pixels, label) in enumerate(zip(read_idx(images_path, 3), read_idx(labels_path, 1), strict=True)):
            yield index, {"image": _to_png(pixels), "label": int(label)}


class ArchiveImages(tfds.core.GeneratorBasedBuilder):
    """Images in official archives, in their order, with the features `image` and `label` of TFDS's own builders."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012  TFDS reads a plain dict
    MANUAL_DOWNLOAD_INSTRUCTIONS = "The official files."
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=name.replace("/", "_"), description=archives.SETS[name].description)
        for name in ARCHIVE_SETS
    ]

    @property
    def _name(self) -> str:
        config = str(self.builder_config.name)  # pyright: ignore[reportOptionalMemberAccess]
        return next(name for name in ARCHIVE_SETS if name.replace("/", "_") == config)

    def _info(self) -> tfds.core.DatasetInfo:
        source = archives.SETS[self._name]
        features = {
            "image": tfds.features.Image(shape=source.image_shape),
            **{label: tfds.features.ClassLabel(num_classes=count) for label, count in source.num_classes.items()},
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=source.description,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=next(iter(addresses(self._name).values())),
            citation=source.citation,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        files = {role: folder / file.name for role, file in official_files(self._name).items()}
        content = archives.SETS[self._name].read(files)
        return {part: self._generate_examples(arrays) for part, arrays in content.items()}

    def _generate_examples(self, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(len(arrays["image"])):
            example: dict[str, Any] = {name: int(each[index]) for name, each in arrays.items() if name != "image"}
            yield index, {"image": _to_png(arrays["image"][index]), **example}


def _to_png(pixels: np.ndarray) -> io.BytesIO:
    png = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(png, "png")
    png.seek(0)
    return png
