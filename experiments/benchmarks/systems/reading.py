"""An epoch of JPEG images in minibatches, in a random order, to the framework's arrays; nothing is computed of them."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.benchmarks.problem import Reading, num_threads, time_calls
from experiments.benchmarks.systems.jax_tools import device_name as device_name

Minibatches = Callable[[np.ndarray], Iterator[np.ndarray]]  # the order of the images -> minibatches (N, H, W, C)


def read(task: Reading, how: str) -> tuple[float, list[float]]:
    """Return the sum of the pixels of an epoch, and the seconds that each epoch takes after the first.

    Args:
        task: the images and minibatches.
        how: "stream", as `data.stream=true`; "memory", as all other data; or "torch", a DataLoader.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = _write_images(Path(folder), task)
        epoch = {"stream": _stream, "memory": _memory, "torch": _torch}[how](Path(folder), files, task)
        orders = iter([np.random.default_rng(seed).permutation(task.images) for seed in range(task.epochs + 1)])
        check = sum(float(np.asarray(each, np.float64).sum()) for each in epoch(next(orders)))
        return check, time_calls(lambda: sum(1 for _ in epoch(next(orders))), task.epochs)


def _write_images(folder: Path, task: Reading) -> list[Path]:
    rng, files = np.random.default_rng(0), []
    for number in range(task.images):
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)  # resized: noise would make large files
        files.append(folder / f"{number}.jpg")
        Image.fromarray(coarse).resize((task.size, task.size), Image.Resampling.BILINEAR).save(files[-1])
    return files


def _stream(folder: Path, files: list[Path], task: Reading) -> Minibatches:
    import jax

    from lenet_jax.data import stream_reader, streams
    from lenet_jax.data.images import make_form
    from lenet_jax.data.streamed_images import ImageFiles

    source = streams.Checked(ImageFiles(folder, files, np.zeros(len(files)), make_form(task.size, "rgb")), "train")

    def epoch(order: np.ndarray) -> Iterator[np.ndarray]:
        for (images, _), _ in stream_reader.read_chunks(source, order, task.batch, streams.Reading()):
            yield jax.block_until_ready(jax.device_put(images))

    return epoch


def _memory(folder: Path, files: list[Path], task: Reading) -> Minibatches:
    import jax
    import jax.numpy as jnp

    images = jnp.asarray(np.stack([np.asarray(Image.open(path)) for path in files]))
    gather = jax.jit(lambda images, indices: images[indices])

    def epoch(order: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(order), task.batch):
            yield jax.block_until_ready(gather(images, order[start : start + task.batch]))

    return epoch


class _Files:
    """The images as torch's DataLoader takes them."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(Image.open(self._files[index]).convert("RGB"))


def _torch(folder: Path, files: list[Path], task: Reading) -> Minibatches:
    from torch.utils.data import DataLoader

    def epoch(order: np.ndarray) -> Iterator[np.ndarray]:
        loader = DataLoader(_Files(files), task.batch, sampler=order.tolist(), num_workers=num_threads())
        return iter(loader)

    return epoch
