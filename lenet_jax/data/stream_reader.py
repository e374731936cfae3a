"""Reading the examples of a source in a given order, by Grain, ahead of where they are used."""

import contextlib
from collections.abc import Generator
from typing import Any

import jax
import numpy as np

from lenet_jax.data.streams import Reading, Source, StreamedDataset
from lenet_jax.errors import InputError
from lenet_jax.types import Dataset, Split

_BLOCK = 32  # examples that a thread reads at a time


def part_of_process(indices: np.ndarray, process_index: int, process_count: int) -> np.ndarray:
    """Return the examples of each minibatch that one of several processes reads.

    The parts of a minibatch, in the order of the processes, are the minibatch.

    Args:
        indices: the examples of each minibatch (steps, batch).
        process_index: 0 to process_count - 1, as `jax.process_index()`.
        process_count: number of processes, as `jax.process_count()`.

    Raises:
        InputError: if the processes cannot have the same number of examples of a minibatch.
    """
    batch_size = indices.shape[1]
    if batch_size % process_count:
        raise InputError(
            f"`trainer.batch_size` must be a multiple of the number of processes, {process_count}, for streamed data; "
            f"got {batch_size}."
        )
    size = batch_size // process_count
    return indices[:, process_index * size : (process_index + 1) * size]


def read_chunks(
    source: Source, order: np.ndarray, size: int, reading: Reading
) -> Generator[tuple[Any, int], None, None]:
    """Yield the examples of a source in some order, in chunks of one size.

    Args:
        source: whose examples are pairs of NumPy arrays or pytrees of such.
        order: the indices of the examples (N,).
        size: number of examples of a chunk.
        reading: by how many threads and processes; the order does not depend on it.

    Yields:
        The pair (inputs, targets) of arrays (size, ...), which is the consumer's own, and how many of its examples are
        new; in the last chunk the rest repeats the last example.

    Raises:
        InputError: if an example cannot be read.
    """
    chunk, filled = None, 0
    with contextlib.closing(_read_blocks(source, order, reading)) as blocks:
        for block in blocks:
            count, start = jax.tree.leaves(block)[0].shape[0], 0
            while start < count:
                if chunk is None:
                    chunk = jax.tree.map(lambda x: np.empty((size, *x.shape[1:]), x.dtype), block)
                end = min(count, start + size - filled)
                _copy(block, chunk, slice(start, end), slice(filled, filled + end - start))
                filled, start = filled + end - start, end
                if filled == size:
                    yield chunk, size
                    chunk, filled = None, 0
    if chunk is not None:
        _copy(chunk, chunk, slice(filled - 1, filled), slice(filled, size))
        yield chunk, filled


def read_split(data: Dataset, part: str) -> Split:
    """Return a split in memory, of streamed data too.

    Args:
        data: the data set.
        part: "train", "validation" or "test".

    Raises:
        InputError: if an example cannot be read.
    """
    if not isinstance(data, StreamedDataset):
        return data.splits()[part]
    count = len(data.sources[part])
    ((examples, _),) = read_chunks(data.sources[part], np.arange(count), count, data.reading)
    return Split(*examples)


def _copy(source: Any, target: Any, rows: slice, to_rows: slice) -> None:
    for new, leaf in zip(jax.tree.leaves(source), jax.tree.leaves(target), strict=True):
        leaf[to_rows] = new[rows]


class _Ordered:
    """The examples of a source in some order."""

    def __init__(self, source: Source, order: np.ndarray) -> None:
        self._source, self._order = source, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._source[int(self._order[index])]

    def __repr__(self) -> str:
        return f"{len(self)} examples of {self._source!r}"


def _read_blocks(source: Source, order: np.ndarray, reading: Reading) -> Generator[Any, None, None]:
    """Yield the examples in blocks, each read by one thread."""
    import grain  # pyright: ignore[reportMissingImports]
    from absl import flags

    if not flags.FLAGS.is_parsed():  # those of Grain have their defaults
        flags.FLAGS.mark_as_parsed()
    blocks = grain.MapDataset.source(_Ordered(source, order)).batch(_BLOCK)
    threads = grain.ReadOptions(num_threads=reading.workers, prefetch_buffer_size=2 * reading.workers)
    ahead = blocks.to_iter_dataset(threads)
    if reading.processes:
        ahead = ahead.mp_prefetch(grain.MultiprocessingOptions(num_workers=reading.processes, per_worker_buffer_size=2))
    iterator = iter(ahead)
    try:
        while True:
            try:
                block = next(iterator)
            except StopIteration:
                return
            except InputError:
                raise
            except Exception as error:  # of the user's source or of a damaged file, whatever it is
                raise _cannot_be_read(error) from error
            yield block
    finally:
        iterator.close()


def _cannot_be_read(error: Exception) -> InputError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    reason = lines[0].rstrip(".") if lines else ""
    return InputError(
        f"data: an example cannot be read ({type(error).__name__}: {reason[:300]}); HYDRA_FULL_ERROR=1 in the "
        "environment shows where."
    )
