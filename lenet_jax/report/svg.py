"""Figures as SVG, as files and inside a page: text stays text, images of pixels are embedded, all is in one file."""

import io
import re
from html import escape

import matplotlib
from matplotlib.figure import Figure

from lenet_jax.report.document import Picture
from lenet_jax.report.figures import COLOURS, INK

_OF_RASTERIZED_PARTS = 144  # dots an inch, of what a figure draws as pixels
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_UNUSED_IDS = re.compile(r"<g id=\"[^\"]*\"")  # alike in all figures, while those in <defs> are hashes
_NAMESPACES = re.compile(r" (?:xmlns(?::xlink)?|version)=\"[^\"]*\"")
_STYLE = re.compile(r"<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>")  # which the page has once for all figures
_SIZE = re.compile(r"width=\"[\d.]+pt\" height=\"[\d.]+pt\"")
_COLOURS = {"#000000": "--text", INK: "--text", COLOURS[0].lower(): "--blue"}  # those that a dark page has lighter
_COLOUR = re.compile(rf"(?<=fill: |roke: )(?:{'|'.join(_COLOURS)})")
_SMALLEST = 0.85  # of the size of a figure, on a narrow screen


def to_svg(picture: Picture, *, transparent: bool = False) -> bytes:
    """Return a figure as an SVG file, the same bytes each time; its text stays text.

    Args:
        picture: the figure, and its name.
        transparent: whether what is behind the figure shows through, instead of white.
    """
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": picture.name}):
        picture.figure.savefig(
            file, format="svg", dpi=_OF_RASTERIZED_PARTS, metadata=_NO_METADATA, transparent=transparent
        )
    return file.getvalue()


def inline_svg(figure: Figure, *, name: str, caption: str) -> str:
    """Return a figure as an `<svg>` element of HTML; the same bytes for the same figure.

    It fills the width of what is around it, but is never so wide that it is blown up, nor so narrow that its text is
    too small to read. Behind it is the page, whose colours its axes and texts have.

    Args:
        figure: the figure.
        name: of the figure, by which its ids differ from those of other figures on the page.
        caption: what a reader who can't see it is told.
    """
    text = to_svg(Picture(name, "", caption, figure), transparent=True).decode()
    start = text.index("<svg")
    end = text.index(">", start)
    points = 72 * figure.get_figwidth()
    size = f'style="width:100%;min-width:{_SMALLEST * points:.0f}px;max-width:{points * 4 / 3:.0f}px"'
    head = _SIZE.sub(f'{size} role="img" aria-label="{escape(caption)}"', _NAMESPACES.sub("", text[start:end]))
    body = _UNUSED_IDS.sub("<g", _STYLE.sub("", text[end:], count=1)).strip()
    return head + _COLOUR.sub(lambda found: f"var({_COLOURS[found[0]]})", body)
