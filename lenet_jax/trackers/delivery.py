"""Handing the events of runs to their trackers: each tracker has a thread, so that no run waits for one.

A tracker that fails, hangs or is too slow costs a warning, never a step, and never the exit code of a run.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax import components
from lenet_jax.config import Config
from lenet_jax.config.catalogue import TARGET, built_in
from lenet_jax.runs import Event, Failed, Finished, Interrupted, Started

QUEUE_SIZE = 10_000  # events that a tracker may be behind before it gets no more
END_SECONDS = 60.0  # that the end of a run, or of all runs of a sweep, waits for all trackers together

_log = logging.getLogger(__name__)
_hanging: set[str] = set()  # trackers that this process has waited for in vain, by their paths in the configuration


class Delivery:
    """Hands the events of runs to their trackers; as a context manager, it waits for them at its end.

    A tracker is made at the first event of its run, in the thread that it shares with the trackers of the same path
    in the configurations of other runs.
    """

    def __init__(self, *, queue_size: int = QUEUE_SIZE, end_seconds: float = END_SECONDS) -> None:
        """Create the delivery; threads begin with the first event.

        Args:
            queue_size: events that a tracker may be behind before it gets no more.
            end_seconds: how long the end waits for all trackers together.
        """
        self._queue_size, self._end_seconds = queue_size, end_seconds
        self._threads: dict[str, _TrackerThread] = {}
        self._running: dict[Path, Config] = {}  # runs that have started and not ended

    def notify(self, config: Config, directory: Path, event: Event) -> None:
        """Hand an event of a run to its trackers, and return at once.

        Args:
            config: of the run, complete.
            directory: of the run.
            event: of the run.
        """
        directory = directory.absolute()
        if isinstance(event, Started):
            self._running[directory] = config
        elif isinstance(event, Finished | Failed | Interrupted):
            self._running.pop(directory, None)
        for path, node in components.named_parts("trackers", config.trackers).items():
            if path in _hanging:
                continue
            if path not in self._threads:
                self._threads[path] = _TrackerThread(path, self._queue_size)
            self._threads[path].put(_Item(directory, node, event))

    def __enter__(self) -> "Delivery":
        return self

    def __exit__(self, *_: object) -> None:
        for directory, config in list(self._running.items()):
            self.notify(config, directory, Interrupted())
        end = time.monotonic() + self._end_seconds
        with contextlib.suppress(KeyboardInterrupt):  # the user has waited long enough
            for thread in self._threads.values():
                thread.close(end)
            for thread in self._threads.values():
                thread.join(end)
        for path, thread in self._threads.items():
            if not thread.join(0):
                _hanging.add(path)
                _log.warning("`%s` was not done %g s after the end%s", path, self._end_seconds, thread.remedy)


class _Item(NamedTuple):
    directory: Path  # of the run
    node: Mapping[str, Any]  # the tracker
    event: Event


class _TrackerThread:
    """Calls the trackers of one path, one event after the other."""

    def __init__(self, path: str, queue_size: int) -> None:
        self._path, self._queue_size = path, queue_size
        self._queue: queue.Queue[_Item | None] = queue.Queue(queue_size)
        self._is_behind = False
        self._trackers: dict[Path, Callable[[Event], None] | None] = {}  # by the directory of the run; None: has failed
        self.remedy = ""
        self._thread = threading.Thread(target=self._work, name=path, daemon=True)
        self._thread.start()

    def put(self, item: _Item) -> None:
        """Queue an event; a tracker that is too far behind gets no more, so that what it has is without gaps."""
        if self._is_behind:
            return
        self.remedy = _remedy(item.node)
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._is_behind = True
            _log.warning(
                "`%s` is %d events behind and gets no more of them%s", self._path, self._queue_size, self.remedy
            )

    def close(self, deadline: float) -> None:
        """Let the thread end after the events that are queued, if there is a place for that by a `time.monotonic`."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=max(deadline - time.monotonic(), 0.001))

    def join(self, deadline: float) -> bool:
        """Wait until all events are handled, or until a time of `time.monotonic`; return whether they are."""
        self._thread.join(max(deadline - time.monotonic(), 0))
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._track(item)
            except BaseException as error:  # whatever it is, the run goes on
                self._trackers[item.directory] = None
                cause = error.__cause__ or error
                reason = next(iter(str(cause).splitlines()), "")
                kind, remedy = type(cause).__name__, _remedy(item.node)
                _log.warning("`%s` failed and gets no more events: %s: %s%s", self._path, kind, reason, remedy)

    def _track(self, item: _Item) -> None:
        if item.directory not in self._trackers:
            self._trackers[item.directory] = components.build(item.node, directory=str(item.directory))
        track = self._trackers[item.directory]
        if track is not None:
            track(item.event)
        if isinstance(item.event, Finished | Failed | Interrupted):
            self._trackers[item.directory] = None


def _remedy(node: Mapping[str, Any]) -> str:
    """Return how what a tracker lacks is recorded later; nothing for one that is not built in."""
    for name, content in built_in("trackers").items():
        if node[TARGET] in [each[TARGET] for each in content.values()]:
            return f"; what it lacks: lenet-jax log DIR --to {name}"
    return ""
