"""Data sets that are larger than memory: their examples are read, by Grain, as a run needs them.

A source is anything with `__len__` and `__getitem__`, such as a list, a torch `Dataset` or one of
`grain.sources`; an example of it is a pair (inputs, targets).
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from lenet_jax.config.checks import Count, NonNegativeInt, Positive
from lenet_jax.environment import install_command
from lenet_jax.errors import InputError
from lenet_jax.types import Dataset, Split, show

_DIGESTED = 64  # examples of each split


@runtime_checkable
class Source(Protocol):
    """Random access to examples. An attribute `identity`, a text, may name the content in records."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]:
        """Return inputs and targets of an example, each an array or a pytree of arrays of the same shapes in all."""
        ...


class Reading(NamedTuple):
    """How the examples are read; their order and values do not depend on it."""

    workers: int = 8  # threads that read and decode, in each process that does
    processes: int = 0  # processes that do; 0: this one


@dataclasses.dataclass(frozen=True)
class StreamedDataset(Dataset):
    """A data set whose three splits hold shapes, `jax.ShapeDtypeStruct` (N, ...), and whose examples are in sources."""

    sources: Mapping[str, "Checked"] = dataclasses.field(kw_only=True, repr=False)
    reading: Reading = dataclasses.field(default=Reading(), kw_only=True, repr=False)

    def digest(self) -> str:
        """Return a SHA-256 of the number, shapes and dtypes of the examples of each split, and of 64 of them."""
        digest = hashlib.sha256()
        for part, source in self.sources.items():
            digest.update(f"{part} {len(source)} {show(source.example, width=10_000)} {source.identity}".encode())
            for index in np.unique(np.linspace(0, len(source) - 1, _DIGESTED).astype(int)):
                for leaf in jax.tree.leaves(source[int(index)]):
                    digest.update(np.ascontiguousarray(leaf).data)
        return digest.hexdigest()


class Checked:
    """Some examples of a source, as NumPy arrays that all have the shapes and dtypes of the first."""

    def __init__(self, source: Source, name: str, positions: Sequence[int] | np.ndarray | None = None) -> None:
        """Look at the first example.

        Args:
            source: the source.
            name: of the split, for messages.
            positions: which examples of the source, in order; None: all.

        Raises:
            InputError: if there is no example, or the first one is no pair of arrays.
        """
        self._source, self._name = source, name
        self._positions = None if positions is None else np.asarray(positions)
        if not isinstance(source, Source):
            kind = type(source).__name__
            raise InputError(f"data ({name}): a source must have __len__ and __getitem__; got a {kind}.")
        if not len(self):
            raise InputError(f"data ({name}): a source must have at least one example; got none.")
        self.identity = str(getattr(source, "identity", ""))
        self.example = _shapes(self._read(0))
        self._kind = _kind(self.example)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._source) if self._positions is None else len(self._positions)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return the inputs and targets of an example, as NumPy arrays.

        Raises:
            InputError: if they are not as those of the first.
        """
        found = self._read(index)
        if _kind(found) != self._kind:
            raise InputError(
                f"data ({self._name}): all examples must have the same shapes and dtypes; example 0 has "
                f"{show(self.example)}, example {index} {show(_shapes(found))}; bring them to one size."
            )
        return found

    def _read(self, index: int) -> tuple[Any, Any]:
        position = index if self._positions is None else int(self._positions[index])
        found: Any = self._source[position]
        if not (isinstance(found, tuple | list) and len(found) == 2):
            kind = type(found).__name__
            raise InputError(f"data ({self._name}): an example must be a pair (inputs, targets); got a {kind}.")
        return _to_arrays(found[0], is_input=True), _to_arrays(found[1], is_input=False)

    def __repr__(self) -> str:
        """Return the number of examples, and what one is."""
        return f"Checked({len(self)} of {type(self._source).__name__})"


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _kind(tree: Any) -> tuple[Any, ...]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _to_arrays(tree: Any, *, is_input: bool) -> Any:
    """Return the arrays of an example as a data set in memory would have them: 32 bits, images with channels."""

    def convert(x: Any) -> np.ndarray:
        x = np.asarray(x)
        if is_input and x.dtype == np.uint8:
            return x[..., None] if x.ndim == 2 else x
        if x.dtype.kind == "f":
            return x.astype(np.float32)
        return x.astype(np.int32) if x.dtype.kind in "biu" else x

    return jax.tree.map(convert, tree)


def make_stream(
    sources: Mapping[str, Source],
    *,
    num_classes: int,
    pixel_divisor: float = 256.0,
    reading: Reading = Reading(),  # noqa: B008  immutable
    positions: Mapping[str, np.ndarray] | None = None,
) -> StreamedDataset:
    """Return a data set that is read as a run needs it.

    Args:
        sources: "train", "validation" and "test".
        num_classes: number of outputs of the model.
        pixel_divisor: uint8 pixels are divided by it.
        reading: by how many threads and processes.
        positions: which examples of each source make up its split, in order; None: all.

    Raises:
        InputError: if Grain is not installed, or the splits have no examples of one kind.
    """
    check_grain()
    checked = {part: Checked(source, part, (positions or {}).get(part)) for part, source in sources.items()}
    kinds = {part: show(source.example) for part, source in checked.items()}
    if len(set(kinds.values())) != 1:
        raise InputError(f"data: the examples of all splits must have the same shapes and dtypes; got {kinds}.")
    splits = {part: Split(*_with_axis(source)) for part, source in checked.items()}
    return StreamedDataset(
        **splits, num_classes=num_classes, pixel_divisor=pixel_divisor, sources=checked, reading=reading
    )


def _with_axis(source: Checked) -> tuple[Any, Any]:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((len(source), *x.shape), x.dtype), source.example)


def load_sources(
    *,
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    num_classes: Count = 10,
    pixel_divisor: Positive = 256.0,
    workers: Count = 8,
    processes: NonNegativeInt = 0,
) -> StreamedDataset:
    """Stream from sources of your own: anything with `__len__` and `__getitem__`.

    An example is a pair (inputs, targets): uint8 images (H, W) or (H, W, C), floats as they are, integer labels or
    floats, or pytrees of such; all have the same shapes.

    Args:
        train: the source of the training examples; in a configuration a component, as {_target_: mylab.data.Photos}.
        validation: of the validation examples.
        test: of the test examples.
        num_classes: number of outputs of the model; labels are 0 to num_classes - 1.
        pixel_divisor: divisor of the uint8 pixels.
        workers: threads that read examples.
        processes: processes that read examples, each with so many threads, for a source whose `__getitem__` holds
            Python's global lock; it must then be picklable; 0: this process.

    Raises:
        InputError: if a source is missing or is none, or Grain is not installed.
    """
    sources = {"train": train, "validation": validation, "test": test}
    for part, source in sources.items():
        if source is None:
            raise InputError(
                f"`data.{part}` must be a source, such as {{_target_: mylab.data.Photos, split: {part}}}; got null."
            )
    return make_stream(
        sources, num_classes=num_classes, pixel_divisor=pixel_divisor, reading=Reading(workers, processes)
    )


def is_streamed(data: Any) -> bool:
    """Tell whether a data set is read as it is needed."""
    return isinstance(data, StreamedDataset)


def check_in_memory(data: Any, what: str) -> None:
    """Check that a data set is in memory.

    Args:
        data: the data set.
        what: what needs it there, for the message.

    Raises:
        InputError: if it is streamed.
    """
    if is_streamed(data):
        raise InputError(f"{what} needs the data in memory; got streamed ones; use data.stream=false or other data.")


def check_grain() -> None:
    """Check that Grain can be imported.

    Raises:
        InputError: if it cannot.
    """
    try:
        import grain  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"`data.stream` needs the package grain ({error}); install it: {install_command('stream')}."
        ) from error
