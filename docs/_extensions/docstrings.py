"""Docstrings as reStructuredText: they are written as plain text, with `code` and at times a table in Markdown."""

import re
from itertools import groupby
from typing import Any

from sphinx.application import Sphinx

_CODE = re.compile(r"(`[^`]*`)")
_OF_A_FIELD = "Alias for field number"  # what Python says of a field without a docstring
_DEFINITION = re.compile(r"^[a-z]\w*: \S")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the event, after that of napoleon."""
    app.connect("autodoc-process-docstring", _process, priority=800)
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True}


def to_restructured_text(lines: list[str]) -> list[str]:
    """Return the lines of a docstring with their marks escaped, and with tables as reStructuredText has them."""
    converted = []
    for kind, group in groupby(lines, _kind):
        block = list(group)
        converted += {"table": _table, "example": list, "text": _text}[kind](block)
    return converted


def _process(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [] if lines and lines[0].startswith(_OF_A_FIELD) else to_restructured_text(lines)


def _shorten(
    app: Sphinx, what: str, name: str, found: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Return a signature with short names, also where a default is a function and Sphinx cannot read it."""
    if signature is None or "<function " not in signature:
        return signature, returned
    short = re.sub(r"~[\w.]*?(\w+)(?![\w.])", r"\1", signature)
    return re.sub(r"<function .*?>(?=[,)])", "...", short), returned


def _kind(line: str) -> str:
    if line.lstrip().startswith("|"):
        return "table"
    return "example" if line.lstrip().startswith((">>>", "..")) else "text"


def _table(lines: list[str]) -> list[str]:
    """Return a table of Markdown as a list table."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    rows = [row for row in rows if not all(set(cell) <= set("-: ") for cell in row)]
    found = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        found += [
            f"   {'-' if number else '* -'} {cell}".replace("   - ", "     - ") for number, cell in enumerate(row)
        ]
    return [*found, ""]


def _text(lines: list[str]) -> list[str]:
    text = "\n".join(lines)
    parts = [part if part.startswith("`") else re.sub(r"(?<!\\)([*|])", r"\\\1", part) for part in _CODE.split(text)]
    return _with_bullets("".join(parts).split("\n"))


def _with_bullets(lines: list[str]) -> list[str]:
    """Return lines with those of a list of definitions, `name: meaning`, as a list with bullets."""
    found: list[str] = []
    inside = False
    for number, line in enumerate(lines):
        starts = bool(_DEFINITION.match(line)) and (inside or number == 0 or not lines[number - 1])
        inside = starts or (inside and line.startswith("    "))
        if starts:
            name, _, meaning = line.partition(": ")
            found.append(f"- `{name}`: {meaning}")
        else:
            found.append(f"  {line.strip()}" if inside else line)
    return found
