"""A TensorFlow Datasets builder of the IDX family that works without TensorFlow.

TFDS's own builders open files and encode images with TensorFlow. This one reads the four IDX files itself and passes
PNG bytes to `tfds.features.Image`. `checksums.tsv` pins the size and SHA-256 of each official address; `tfds.py` has
checked the files in `manual_dir` against it.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from PIL import Image

from lenet_jax.data.idx import FILES, read_idx


class _Source(NamedTuple):
    address: str
    description: str
    citation: str


_SOURCES = {
    "mnist": _Source(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "70,000 handwritten digits.",
        "Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits.",
    ),
    "fashion_mnist": _Source(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "70,000 pictures of clothes in ten classes.",
        "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017.",
    ),
    "kmnist": _Source(
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "70,000 cursive Japanese characters in ten classes.",
        "T. Clanuwat et al., Deep Learning for Classical Japanese Literature, arXiv:1812.01718, 2018.",
    ),
}


def addresses(config: str) -> dict[str, str]:
    """Return the official addresses of the four files of a data set, by their roles, such as "train_images"."""
    return {role: f"{_SOURCES[config].address}{name}.gz" for role, name in FILES.items()}


class OfficialFile(NamedTuple):
    """One of the four official files of a data set, from `checksums.tsv`."""

    address: str
    name: str
    num_bytes: int
    sha256: str


def official_files(config: str) -> list[OfficialFile]:
    """Return the four official files of a data set."""
    pinned: Any = IdxImages.url_infos
    return [
        OfficialFile(address, pinned[address].filename, int(pinned[address].size), pinned[address].checksum)
        for address in addresses(config).values()
    ]


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
            homepage=source.address,
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
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "png")
            png.seek(0)
            yield index, {"image": png, "label": int(label)}
