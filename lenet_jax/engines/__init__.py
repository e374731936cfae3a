"""Engines: what carries tasks to other processes, on this machine or others.

An engine takes tasks, each a picklable description of what to do, and gives a future for each. It knows neither sweeps
nor Hydra, and decides nothing: which tasks there are, and which of them run again, its caller says.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable


@runtime_checkable
class Future(Protocol):
    """A task that an engine has taken."""

    def done(self) -> bool:
        """Tell whether the task has ended, whatever came of it."""
        ...

    def result(self) -> Any:
        """Return what the task's function has returned, or raise what it has raised, or one of `Engine.lost`."""
        ...

    def cancel(self) -> Any:
        """Take the task back, if it has not begun."""


@runtime_checkable
class Engine(Protocol):
    """Carries tasks to other processes."""

    @property
    def num_workers(self) -> int | None:
        """Return how many tasks run at the same time; None: the engine has a queue of its own, and takes all."""
        ...

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """Return what the result of a future raises when the process of its task was killed or its machine lost."""
        ...

    def start(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Sequence[Future]:
        """Have a function called with each task, in another process.

        Args:
            function: the function; it can be pickled.
            tasks: the tasks; they can be pickled.

        Returns:
            A future for each task, in their order.
        """
        ...

    def close(self) -> None:
        """End the processes of the engine, in which no task runs any more."""


class End(NamedTuple):
    """How a task has ended."""

    task: Any
    value: Any = None  # what its function has returned
    error: Exception | None = None  # what was raised instead
    lost: bool = False  # whether its process is gone


class Running:
    """The tasks that an engine has taken and that have not ended."""

    def __init__(self, engine: Engine, function: Callable[[Any], Any]) -> None:
        """Begin without tasks.

        Args:
            engine: what carries them.
            function: what is called with each of them.
        """
        self._engine, self._function = engine, function
        self._futures: list[tuple[Any, Future]] = []

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._futures)

    @property
    def room(self) -> int | None:
        """Return how many tasks the engine takes now; None: any number."""
        limit = self._engine.num_workers
        return None if limit is None else max(limit - len(self), 0)

    def start(self, tasks: Sequence[Any]) -> None:
        """Hand tasks to the engine."""
        if tasks:
            with _not_interrupted_from_the_terminal():
                self._futures += zip(tasks, self._engine.start(self._function, tasks), strict=True)

    def ended(self) -> list[End]:
        """Return the ends of the tasks that have ended since the last call."""
        before, self._futures, done = self._futures, [], []
        for each in before:
            (done if each[1].done() else self._futures).append(each)
        return [self._end(*each) for each in done]

    def cancel(self, tasks: Sequence[Any]) -> None:
        """Take back the tasks that have not begun; the others among them may be ended as if they were lost."""
        for task, future in self._futures:
            if task in tasks:
                future.cancel()

    def _end(self, task: Any, future: Future) -> End:
        try:
            return End(task, future.result())
        except self._engine.lost as error:
            return End(task, error=error, lost=True)
        except Exception as error:  # of the task, whatever it is: the caller decides
            return End(task, error=error)


@contextlib.contextmanager
def _not_interrupted_from_the_terminal() -> Iterator[None]:
    """Let processes that are started in the block ignore Ctrl-C; the process that has started them tells them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
