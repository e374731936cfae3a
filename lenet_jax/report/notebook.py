"""Progress in the output of a notebook's cell: lines of text above a bar."""

import sys


def writes_to_notebook() -> bool:
    """Tell whether standard output is that of a notebook's cell."""
    return type(sys.stdout).__module__.startswith("ipykernel")


class AboveBars:
    """The output of a notebook's cell, where a text is written above the progress bar."""

    def write(self, text: str) -> None:
        """Write a text."""
        from tqdm.std import tqdm

        with tqdm.external_write_mode(file=sys.stdout):
            sys.stdout.write(text)

    def flush(self) -> None:
        """Flush what was written."""
        sys.stdout.flush()


class NotebookBar:
    """A progress bar for the output of a notebook's cell, with what `terminal` uses of `rich.progress.Progress`."""

    def __init__(self) -> None:
        """Show an empty bar."""
        from tqdm.std import tqdm

        self._bar = tqdm(total=0, leave=False, file=sys.stdout, dynamic_ncols=True)

    def __enter__(self) -> "NotebookBar":
        """Return the bar."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self.stop()

    def start(self) -> None:
        """Do nothing: it is there from the beginning."""

    def stop(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def add_task(self, description: str, *, total: float | None) -> int:
        """Begin the one task."""
        self.update(0, completed=0, total=total, description=description)
        return 0

    def update(
        self,
        task: int,
        *,
        completed: float | None = None,
        advance: float = 0,
        total: float | None = None,
        description: str = "",
    ) -> None:
        """Set how far the task is, how far it goes, and what it does."""
        self._bar.total = total or self._bar.total
        self._bar.set_description_str(description, refresh=False)
        self._bar.n = round((self._bar.n if completed is None else completed) + advance, 2)
        self._bar.refresh()
