"""What a report says, before it is a page or a PDF file: a title, and parts one below the other."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure


class Link(NamedTuple):
    """A text that leads to a file or a folder; also a cell of a table."""

    path: str  # relative to the folder of the report
    text: str


class Stacked(NamedTuple):
    """A cell of several lines."""

    lines: tuple[str, ...]


class Code(NamedTuple):
    """A cell that is a command or a name, in letters of a fixed width."""

    text: str


Cell = object
"""A `Link`, a `Stacked`, a `Code`, or what is shown as its text."""


class Facts(NamedTuple):
    """A name and a value a row."""

    values: Mapping[str, object]


class Table(NamedTuple):
    """A table below its heading ("": none) and a sentence about it ("": none)."""

    heading: str
    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    is_sortable: bool = False
    is_list: bool = False  # whether a row is a list of names and values where the screen is narrow


class Text(NamedTuple):
    """Lines of a fixed width."""

    heading: str
    lines: Sequence[str]


class Links(NamedTuple):
    """Links side by side."""

    heading: str
    links: Sequence[Link]


class Picture(NamedTuple):
    """A figure."""

    name: str  # of its file in `figures/`, without the ending
    heading: str
    caption: str
    figure: Figure


Part = Facts | Table | Text | Links | Picture


class Document(NamedTuple):
    """A report."""

    title: str
    parts: Iterable[Part]  # figures are drawn as they are asked for


def shown(cell: Cell) -> str:
    """Return a cell as text."""
    match cell:
        case Link() | Code():
            return cell.text
        case Stacked(lines):
            return "\n".join(lines)
    return str(cell)
