"""HTML pages that need no network connection: all text is escaped, and figures are files beside the page."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .1rem 1rem .1rem 0; vertical-align: top; }
pre { overflow-x: auto; background: #f5f5f5; padding: .8rem; font-size: 13px; line-height: 1.35; }
"""


def page(title: str, body: str) -> str:
    """Return a complete page.

    Args:
        title: title and heading, as plain text.
        body: content below the heading, as HTML.
    """
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


def metadata_table(values: Mapping[str, object]) -> str:
    """Return a table with one row per name and value."""
    return table([], [[name, value] for name, value in values.items()])


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a table.

    Args:
        head: names of the columns; empty: no header row.
        rows: cells of each row, as plain text.
    """
    lines = ["".join(f"<th>{escape(str(cell))}</th>" for cell in head)] if head else []
    lines += ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def save_pictures(directory: Path, drawn: Iterable[tuple[str, str, Figure]]) -> str:
    """Save figures in the folder `figures/` of a directory, and return HTML that shows them.

    Args:
        directory: the directory of the page.
        drawn: name, caption and figure of each picture.
    """
    parts = []
    for name, caption, figure in drawn:
        path = directory / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path)
        parts.append(_picture(name, f"figures/{name}.png", caption))
    return "\n".join(parts)


def _picture(name: str, source: str, caption: str) -> str:
    """Return the HTML of a heading, a caption and an image."""
    return (
        f"<h2>{escape(name.replace('_', ' ').capitalize())}</h2>\n<p>{escape(caption)}</p>\n"
        f'<img src="{escape(source)}" alt="{escape(caption)}">'
    )
