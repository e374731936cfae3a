"""A report as a page, a PDF file, or figures as SVG files: the same content."""

import re
import xml.etree.ElementTree as xml
import zlib

import pytest

from lenet_jax.errors import InputError
from lenet_jax.report import figures
from lenet_jax.report.document import Document, Facts, Link, Links, Picture, Stacked, Table, Text
from lenet_jax.report.formats import write_document


def document():
    figure = figures.likelihood_curve([0.5, 0.1])
    return Document(
        "A title",
        [
            Facts({"command": "lenet-jax train 'notes=$a_b$ <i>' " + "x" * 200}),
            Picture("curve", "The curve", "What it shows, $in$ dollars.", figure),
            Table("Jobs", ["job", "options"], [[Link("0/", "zero"), Stacked(("a=1", "b_c=2"))]], "All of them."),
            Text("Notes", [f"line {number}" for number in range(120)]),
            Links("Files", [Link("run.json", "run.json")]),
        ],
    )


def pages_of(content):
    return len(re.findall(rb"/Type /Page\b", content))


def test_a_pdf_has_the_text_on_a4_and_each_figure_on_a_page(tmp_path):
    path = write_document(document(), tmp_path, "pdf")
    content = path.read_bytes()
    assert (path, content[:5]) == (tmp_path / "report.pdf", b"%PDF-")
    assert pages_of(content) == 4  # facts, the figure, and 120 lines and more on two
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_is_the_same_bytes_each_time(tmp_path):
    for format in ("pdf", "svg"):
        paths = [write_document(document(), tmp_path / name, format) for name in ("a", "b")]
        one, other = (path if path.is_file() else path / "curve.svg" for path in paths)
        assert one.read_bytes() == other.read_bytes()


def test_a_pdf_embeds_its_fonts_as_truetype(tmp_path):
    content = write_document(document(), tmp_path, "pdf").read_bytes()
    assert b"/Subtype /CIDFontType2" in content or b"/Subtype /TrueType" in content
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    assert any(b" Tf" in zlib.decompress(stream) for stream in streams if stream[:1] == b"x")


def test_svg_is_a_file_for_each_figure(tmp_path):
    folder = write_document(document(), tmp_path, "svg")
    assert folder == tmp_path / "figures"
    (path,) = folder.iterdir()
    assert path.name == "curve.svg"
    assert "iterations done" in "".join(xml.parse(path).getroot().itertext())
    assert not (tmp_path / "index.html").exists()


def test_a_page_has_the_figures_beside_it(tmp_path):
    path = write_document(document(), tmp_path)
    assert path == tmp_path / "index.html"
    assert [each.name for each in (tmp_path / "figures").iterdir()] == ["curve.png"]


def test_another_format_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"`report: --format` has no 'docx'; choose one of: html, pdf, svg\."):
        write_document(document(), tmp_path, "docx")
