"""Pages that are files of the repository: Markdown that a page includes, and notebooks.

A link to a file of the repository is turned into one to the page that includes it, or to a copy of it where no page
does. The links of an included file are relative to its own folder.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

_INCLUDE = re.compile(r"^```\{include\} (\S+)", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the two events."""
    app.connect("source-read", _read_page)
    app.connect("include-read", _rewrite_links)
    return {"parallel_read_safe": True}


def notebook_to_markdown(text: str) -> str:
    """Return the cells of a notebook as Markdown, without their outputs."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```ipython3\n{source}\n```")
    return "\n\n".join(parts) + "\n"


def pages_of_files(docs: Path) -> dict[Path, str]:
    """Return the page of each file that a page includes: its path -> the page's name."""
    found = {}
    for page in sorted(docs.rglob("*.md")):
        for name in _INCLUDE.findall(page.read_text(encoding="utf-8")):
            found[(page.parent / name).resolve()] = page.relative_to(docs).with_suffix("").as_posix()
    return found


def rewrite_links(text: str, file: Path, page: Path, docs: Path) -> str:
    """Return the text of a file with links that hold on the page that includes it.

    Args:
        text: the Markdown of the file.
        file: its path.
        page: the path of the page.
        docs: the folder of all pages.
    """
    pages = pages_of_files(docs)

    def rewrite(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return match[0]
        wanted = (file.parent / path).resolve()
        readme = wanted / "README.md"
        name = pages.get(readme if readme in pages else wanted)
        if name is not None:
            return f"{image}[{label}](/{name}.md{hash_}{anchor})"
        if wanted.is_relative_to(docs) and wanted.suffix in (".md", ".ipynb"):
            return f"{image}[{label}](/{wanted.relative_to(docs).as_posix()}{hash_}{anchor})"
        if wanted.is_file():
            scheme = "" if image else "path:"
            return f"{image}[{label}]({scheme}{os.path.relpath(wanted, page.parent)})"
        return label  # a folder

    return _LINK.sub(rewrite, text)


def _read_page(app: Sphinx, name: str, content: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    if page.suffix == ".ipynb":
        content[0] = notebook_to_markdown(content[0])
    elif page.is_file():
        content[0] = rewrite_links(content[0], page, page, Path(app.srcdir))


def _rewrite_links(app: Sphinx, path: Path, _: str, content: list[str]) -> None:
    docs, page = Path(app.srcdir), Path(app.env.doc2path(app.env.docname))  # the name that MyST gives has no folder
    content[0] = rewrite_links(content[0], (docs / path).resolve(), page, docs)
