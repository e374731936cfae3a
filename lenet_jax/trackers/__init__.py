"""Trackers: consumers of a run's events, which record them elsewhere.

A tracker is a component: its function takes its options and, if it names it, the `directory` of the run, and returns a
function of the run's events (`lenet_jax.runs.Event`). A tracker that fails costs a warning, never a step.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lenet_jax import components
from lenet_jax.config import Config
from lenet_jax.runs import Event

Tracker = Callable[[Event], None]

_log = logging.getLogger(__name__)


def tracked(events: Iterable[Event], config: Config, directory: Path) -> Iterator[Event]:
    """Yield the events of a run, after each of its trackers has got them.

    Args:
        events: of the run.
        config: of the run, complete.
        directory: of the run.
    """
    notify = make_notifier(config, directory)
    for event in events:
        notify(event)
        yield event


def make_notifier(config: Config, directory: Path) -> Tracker:
    """Return a function that passes an event to all trackers of a run; they are made at its first event."""
    nodes = components.named_parts("trackers", config.trackers)
    trackers: dict[str, Tracker] = {}

    def notify(event: Event) -> None:
        for path, node in list(nodes.items()):
            try:
                if path not in trackers:
                    trackers[path] = components.build(node, directory=str(directory))
                trackers[path](event)
            except Exception as error:  # whatever it is, the run goes on
                cause = error.__cause__ or error
                _log.warning("`%s` failed and gets no more events: %s: %s", path, type(cause).__name__, cause)
                del nodes[path]

    return notify
