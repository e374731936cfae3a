"""The directive `commands`: a section for each command of `lenet-jax`, with what its `--help` prints."""

import subprocess
import sys
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lenet_jax.cli import USAGE


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}


def printed(*arguments: str) -> str:
    """Return what `lenet-jax` prints.

    Raises:
        subprocess.CalledProcessError: if its exit code is not 0.
    """
    command = [sys.executable, "-m", "lenet_jax", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip()


class Commands(SphinxDirective):
    """A section for `lenet-jax` itself and for each of its commands."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        pages = {"lenet-jax": ["--help"], "lenet-jax train": ["train", "--help"]}
        pages |= {f"lenet-jax {command}": [command, "--help"] for command in USAGE}
        lines = [f"## {title}\n\n```text\n{printed(*arguments)}\n```\n" for title, arguments in pages.items()]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)
