"""A small image-classification set, prepared as any TFDS builder prepares one."""

import io

import numpy as np
from PIL import Image

from lenet_jax.data import tfds

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 6, 3), np.uint8)
LABELS = np.arange(20) % 3
SPLITS = {"train": slice(0, 12), "validation": slice(12, 16), "test": slice(16, 20)}


def prepare_shapes(directory, splits=SPLITS, images=IMAGES, shape=(8, 6, 3), target="label"):
    """Prepare a set named "shapes" as a TFDS builder does, and return its folder."""
    import tensorflow_datasets

    class Shapes(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tensorflow_datasets.core.Version("1.2.3")

        def _info(self):
            features = {
                "image": tensorflow_datasets.features.Image(shape=shape),
                target: tensorflow_datasets.features.ClassLabel(num_classes=3),
            }
            return tensorflow_datasets.core.DatasetInfo(
                builder=self, features=tensorflow_datasets.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, dl_manager):
            return {part: self._generate_examples(where) for part, where in splits.items()}

        def _generate_examples(self, where):
            for index, (pixels, label) in enumerate(zip(images[where], LABELS[where], strict=True)):
                png = io.BytesIO()
                Image.fromarray(pixels).save(png, "png")
                png.seek(0)
                yield index, {"image": png, target: int(label)}

    with tfds._quiet_tfds():
        Shapes(data_dir=directory, file_format="array_record").download_and_prepare()
    return directory / "shapes" / "1.2.3"


def prepare_as(directory, name, images, labels):
    """Prepare a set with the name of one of TFDS's own, from images and labels by split."""
    import tensorflow_datasets

    def _info(self):
        features = {
            "id": tensorflow_datasets.features.Text(),
            "image": tensorflow_datasets.features.Image(shape=images["train"].shape[1:]),
            "label": tensorflow_datasets.features.ClassLabel(num_classes=10),
        }
        return tensorflow_datasets.core.DatasetInfo(
            builder=self, features=tensorflow_datasets.features.FeaturesDict(features), disable_shuffling=True
        )

    def _generate_examples(self, part):
        for index, (pixels, label) in enumerate(zip(images[part], labels[part], strict=True)):
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "png")
            png.seek(0)
            yield index, {"id": f"{part}_{index}", "image": png, "label": int(label)}

    def _split_generators(self, dl_manager):
        return {part: self._generate_examples(part) for part in images}

    methods = {"_info": _info, "_generate_examples": _generate_examples, "_split_generators": _split_generators}
    attributes = {"VERSION": tensorflow_datasets.core.Version("3.0.2"), "name": name, **methods}
    base = tensorflow_datasets.core.GeneratorBasedBuilder
    builder = type(base)("Stock", (base,), {**attributes, "__module__": __name__}, skip_registration=True)
    with tfds._quiet_tfds():
        builder(data_dir=directory, file_format="array_record").download_and_prepare()
