"""The code blocks of a page in Markdown, and how they are run: in order, in one folder, as a reader runs them.

A block in `python` whose first line is a comment with a path (`# nets.py`) is written to that file; any other one is a
program. A block in `bash` is run by bash, one in `console` by its lines after "$ ". Comments in front of a block say:

- `<!-- not run: REASON -->`: it cannot run here;
- `<!-- exit code: N -->`: it ends so;
- `<!-- needs: MODULE -->`: it is left out where the module is not installed;
- `<!-- tested with: KEY=VALUE ... -->`: what is appended to its commands `lenet-jax train`, so that they take seconds,
  unless they have the key. In front of anything else than a block it holds for the page.
"""

import importlib.util
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

LANGUAGES = ("python", "bash", "console")
MARKS = ("not run", "exit code", "needs", "tested with")
_COMMENT = re.compile(r"<!-- ([a-z ]+): (.+) -->")
_FENCE = re.compile(r"( *)```(\w+)$")
_FILE = re.compile(r"# ([\w/]+\.py)\n")


class Block(NamedTuple):
    """A code block that a reader is meant to run."""

    language: str
    text: str
    line: int  # of its first line, in the page
    marks: Mapping[str, str]


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page in their order.

    Raises:
        ValueError: if a comment in front of a block says something unknown.
    """
    return list(_find_blocks(page.splitlines()))


def _find_blocks(lines: list[str]) -> Iterator[Block]:
    of_page: dict[str, str] = {}
    marks: dict[str, str] = {}
    number = 0
    while number < len(lines):
        comment, fence = _COMMENT.fullmatch(lines[number].strip()), _FENCE.fullmatch(lines[number])
        number += 1
        if comment is not None:
            if comment[1] not in MARKS:
                raise ValueError(f"line {number}: no mark of a block: {comment[1]!r}; use one of {', '.join(MARKS)}.")
            marks[comment[1]] = comment[2]
        elif fence is not None:
            end = lines.index(f"{fence[1]}```", number)
            if fence[2] in LANGUAGES:
                text = textwrap.dedent("\n".join(lines[number:end])) + "\n"
                yield Block(fence[2], text, number, {**of_page, **marks})
            marks, number = {}, end + 1
        elif marks:
            of_page, marks = {**of_page, **marks}, {}


def script(block: Block) -> str:
    """Return the lines of bash that run a block, in which commands `lenet-jax train` are short enough for a test."""
    if block.language == "python":
        return f"python - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK\n"
    text = block.text
    if block.language == "console":
        text = "".join(f"{line[2:]}\n" for line in text.splitlines() if line.startswith("$ "))
    extra = block.marks.get("tested with", "").split()

    def appended(match: re.Match[str]) -> str:
        command = match[0].rstrip()
        missing = [each for each in extra if f" {each.partition('=')[0]}=" not in command]
        return " ".join([command, *missing]) + (" " if match[0] != command else "")

    return re.sub(r"^lenet-jax train\b[^\n&]*", appended, text.replace("\\\n", " "), flags=re.MULTILINE)


def run_block(block: Block, folder: Path, run: Callable[[str], tuple[int, str, str]]) -> str:
    """Run a block, and return why it failed; "" if it did not.

    Args:
        block: of a page.
        folder: in which the blocks of the page are run.
        run: a function that runs lines of bash there, and returns exit code, output and errors.
    """
    needed = block.marks.get("needs")
    if "not run" in block.marks or (needed and importlib.util.find_spec(needed) is None):
        return ""
    file = _FILE.match(block.text) if block.language == "python" else None
    if file is not None:
        path = folder / file[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        return ""
    code, out, err = run(script(block))
    expected = int(block.marks.get("exit code", "0"))
    return "" if code == expected else f"line {block.line}: exit code {code}\n{block.text}\n{out}\n{err}"
