"""A report as files: a page, a PDF file, or the figures alone."""

from pathlib import Path

from lenet_jax.errors import unknown_name
from lenet_jax.report.document import Document, Picture
from lenet_jax.report.html import to_page
from lenet_jax.report.pdf import to_pdf
from lenet_jax.report.svg import to_svg
from lenet_jax.storage import write_atomically

FORMATS = ("html", "pdf", "svg")
FIGURES = "figures"


def write_document(document: Document, directory: Path, format: str = "html") -> Path:
    """Write a report into a directory; return the path of what was written.

    Args:
        document: the report.
        directory: of the run or the sweep.
        format: "html": `index.html`, and the figures as `figures/*.png`; "pdf": `report.pdf`; "svg": the figures alone,
            as `figures/*.svg`.

    Raises:
        InputError: if the format is another one.
    """
    match format:
        case "html":
            return _write_page(document, directory)
        case "pdf":
            path = directory / "report.pdf"
            write_atomically(path, to_pdf(document))
            return path
        case "svg":
            for picture in (part for part in document.parts if isinstance(part, Picture)):
                write_atomically(directory / FIGURES / f"{picture.name}.svg", to_svg(picture), durable=False)
            return directory / FIGURES
    raise unknown_name("report: --format", format, FORMATS)


def _write_page(document: Document, directory: Path) -> Path:
    parts = []
    for part in document.parts:
        if isinstance(part, Picture):
            path = directory / FIGURES / f"{part.name}.png"
            path.parent.mkdir(exist_ok=True)
            part.figure.savefig(path)
        parts.append(part)
    path = directory / "index.html"
    write_atomically(path, to_page(document._replace(parts=parts)).encode())
    return path
