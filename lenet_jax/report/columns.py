"""Columns of a run's progress bar: the curve of what is monitored, and the memory of the process."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from rich.progress import ProgressColumn, Task
from rich.text import Text

_LEVELS = "▁▂▃▄▅▆▇█"
_STATM = Path("/proc/self/statm")  # of Linux


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Return values as bars of text, from the lowest to the highest; a space for one that is missing or not finite.

    Args:
        values: of a metric, one after another.
        width: characters at most; of more values some are left out, evenly, never the first and the last.
    """
    if len(values) > width:
        last = len(values) - 1
        values = [values[round(place * last / (width - 1))] for place in range(width)]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)

    def bar(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return " "
        return _LEVELS[round((value - low) / (high - low) * (len(_LEVELS) - 1))] if high > low else _LEVELS[0]

    return "".join(map(bar, values))


def resident_memory() -> int | None:
    """Return the bytes of memory that this process has in use; None where the system does not say so."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


class CurveColumn(ProgressColumn):
    """The values of a metric so far, as a `sparkline`."""

    def __init__(self, width: int) -> None:
        """Begin without values.

        Args:
            width: characters at most.
        """
        super().__init__()
        self._width = width
        self.values: list[float | None] = []

    def render(self, task: Task) -> Text:
        """Return the curve."""
        return Text(sparkline(self.values, self._width))


class MemoryColumn(ProgressColumn):
    """The memory that the process has in use."""

    max_refresh = 1.0  # seconds

    def render(self, task: Task) -> Text:
        """Return the memory in GB."""
        found = resident_memory()
        return Text("" if found is None else f"{found / 1e9:.1f} GB")
