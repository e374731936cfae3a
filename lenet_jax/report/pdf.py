"""A report as a PDF file, by matplotlib: pages of text on A4, and a page for each figure."""

import io
import textwrap
from collections.abc import Iterable, Sequence

import matplotlib
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from lenet_jax.report.document import Cell, Document, Facts, Links, Part, Picture, Table, Text, shown
from lenet_jax.report.text import align
from lenet_jax.sweeps.statistics import printable

_A4 = (8.27, 11.69)  # inches
_COLUMNS, _LINES = 104, 68  # of a page of text
_SIZE = 7.5  # points
_MIN_NAMES = 12  # characters of the first column of facts


def to_pdf(document: Document) -> bytes:
    """Return a report as a PDF file, the same bytes each time. Text stays text, which can be searched and copied."""
    file = io.BytesIO()
    with (
        matplotlib.rc_context({"pdf.fonttype": 42}),
        PdfPages(file, metadata={"Title": printable(document.title), "CreationDate": None}) as pages,
    ):
        lines: list[str] = [document.title, "=" * min(len(document.title), _COLUMNS)]
        for part in document.parts:
            if not isinstance(part, Picture):
                lines += ["", *_lines(part)]
                continue
            _save_text(pages, lines)
            lines = []
            _save_picture(pages, part)
        _save_text(pages, lines)
    return file.getvalue()


def _save_picture(pages: PdfPages, picture: Picture) -> None:
    """Save a figure below its heading and its caption."""
    figure = picture.figure
    width = max(40, int(15 * figure.get_figwidth()))
    caption = "\n".join(textwrap.wrap(printable(picture.caption), width))
    above = 1 + 0.1 / figure.get_figheight()
    text = figure.text(0.02, above, caption, fontsize=8, va="bottom", parse_math=False)
    space = (caption.count("\n") + 1) * 0.155 / figure.get_figheight()
    heading = figure.text(
        0.02, above + space, printable(picture.heading), fontsize=12, weight="bold", va="bottom", parse_math=False
    )
    pages.savefig(figure, bbox_inches="tight", pad_inches=0.4)
    text.remove()
    heading.remove()


def _save_text(pages: PdfPages, lines: Sequence[str]) -> None:
    while lines and not lines[0]:
        lines = lines[1:]
    wrapped = [part for line in lines for part in _wrapped(printable(line))]
    for start in range(0, len(wrapped), _LINES):
        page = wrapped[start : start + _LINES]
        figure = Figure(figsize=_A4)
        figure.text(
            0.08,
            0.95,
            "\n".join(page),
            family="monospace",
            fontsize=_SIZE,
            va="top",
            linespacing=1.25,
            parse_math=False,
        )
        pages.savefig(figure)


def _wrapped(line: str) -> list[str]:
    """Return a line as lines that fit on a page; those that follow are indented as far as the last column began."""
    if len(line) <= _COLUMNS:
        return [line]
    column = line.rfind("  ", 0, _COLUMNS // 2) + 2
    indent = " " * (column if column > 1 else 4)
    return textwrap.wrap(line, _COLUMNS, subsequent_indent=indent, drop_whitespace=False, replace_whitespace=False)


def _lines(part: Part) -> list[str]:
    match part:
        case Facts(values):
            width = max([_MIN_NAMES, *map(len, values)])
            lines = {name: shown(value).split("\n") for name, value in values.items()}
            pairs = [(name if n == 0 else "", line) for name, each in lines.items() for n, line in enumerate(each)]
            return [f"{name:<{width}}  {line}" for name, line in pairs]
        case Table(heading, head, rows, caption):
            return [*_headed(heading), *([caption, ""] if caption else []), *_aligned([head, *rows])]
        case Text(heading, lines):
            return [*_headed(heading), *lines]
        case Links(heading, links):
            return [*_headed(heading), ", ".join(link.text for link in links)]
        case Picture():
            return []


def _headed(heading: str) -> Iterable[str]:
    return [heading, "-" * len(heading)] if heading else []


def _aligned(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Return rows as lines with aligned columns; a cell of several lines takes so many of them."""
    split = [[shown(cell).split("\n") for cell in row] for row in rows]
    heights = [max(map(len, row), default=0) for row in split]
    cells = [
        [cell[line] if line < len(cell) else "" for cell in row]
        for row, height in zip(split, heights, strict=True)
        for line in range(height)
    ]
    return align(cells, left=len(rows[0])) if rows[0] else []
