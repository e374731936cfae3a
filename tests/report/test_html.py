"""Pages are one file, and look right on a narrow and on a wide screen, light and dark."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from lenet_jax.report import figures
from lenet_jax.report.document import Code, Document, Facts, Link, Picture, Stacked, Table
from lenet_jax.report.formats import write_document
from lenet_jax.report.html import page, table
from lenet_jax.report.svg import inline_svg
from tests.report.chromium import needs_chromium, show


def digits(count=40):
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)


def drawn(name):
    match name:
        case "confusion":
            return figures.confusion(9 * np.eye(10, dtype=np.int32) + np.eye(10, dtype=np.int32)[::-1])
        case "misclassified":
            return figures.misclassified(digits(), np.zeros(40, int), np.ones(40, int))
        case _:
            columns = {"train_loss": [2, 1, 0.5], "validation_loss": [2, 1.2, 1], "monitored": [9, 5, 4]}
            return figures.learning_curves({"epoch": [1, 2, 3], **columns})


FIGURES = ("confusion", "misclassified", "learning_curves")


class Attributes(HTMLParser):
    """Notes the attributes of all elements."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found += [(tag, name, value) for name, value in attributes]


@pytest.fixture
def whole(tmp_path):
    """Return a page with every part that pages have."""
    pictures = [Picture(name, name, f"What `{name}` shows.", drawn(name)) for name in FIGURES]
    rows = [[number, f"optimizer.learning_rate={number} " + "model.some_option=value " * 9] for number in (9, 10, 2)]
    facts = Facts({"command": "lenet-jax train " + "a" * 300, "parameters, SHA-256": "f" * 64})
    jobs = Table("Jobs", ["job", "overrides"], rows, is_sortable=True)
    document = Document("A title " + "x" * 200, [facts, *pictures, jobs])
    return write_document(document, tmp_path).read_text()


def test_a_page_with_figures_is_one_file(whole, tmp_path):
    addresses = [
        value for _, name, value in Attributes(whole).found if name in ("src", "href", "xlink:href", "data", "srcset")
    ]
    outside = [each for each in addresses if not each.startswith(("data:image/png;base64,", "#"))]
    assert outside == [f"figures/{name}.png" for name in FIGURES]  # links, beside what is drawn
    assert all((tmp_path / path).is_file() for path in outside)
    assert "://" not in whole
    assert "@import" not in whole
    assert "@font-face" not in whole
    assert len(whole) < 300_000


def test_the_ids_of_all_figures_on_a_page_differ(whole):
    ids = [value for _, name, value in Attributes(whole).found if name == "id"]
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r"url\(#([^)]+)\)", whole)) <= set(ids)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_bytes_each_time(name):
    first, second = (inline_svg(drawn(name), name=name, caption="") for _ in range(2))
    assert first == second


def test_a_figure_has_its_text_as_text_and_its_caption_as_label():
    figure = drawn("learning_curves")
    figure.suptitle("learning_rate <b>")
    svg = inline_svg(figure, name="a", caption='"<b>')
    assert ">learning_rate &lt;b&gt;</text>" in svg
    assert Attributes(svg).found[:3][-1] == ("svg", "aria-label", '"<b>')


def test_axes_and_texts_of_a_figure_have_the_colours_of_the_page_and_numbers_on_cells_their_own():
    svg = inline_svg(drawn("confusion"), name="a", caption="")
    of_texts = set(re.findall(r'<text style="[^"]*fill: ([^;"]+)', svg))
    assert of_texts == {"var(--text)", "#111111", "#ffffff"}  # of the title, and on light and on dark cells
    assert "#000000" not in svg
    assert "stroke: var(--blue)" in inline_svg(drawn("learning_curves"), name="a", caption="")


def test_cells_are_texts_links_or_several_lines():
    text = table(["<i>"], [["<b>"], [Stacked(("<u>", "v"))], [Link("a b/<c>", "<d>")], [Code("<e>")]])
    assert "<th>&lt;i&gt;</th>" in text
    assert "<td>&lt;b&gt;</td>" in text
    assert "<td>&lt;u&gt;<br>v</td>" in text
    assert '<a href="a%20b/%3Cc%3E">&lt;d&gt;</a>' in text
    assert "<td><code>&lt;e&gt;</code></td>" in text


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
def test_a_page_fits_its_screen(whole, width, dark, tmp_path):
    shown = show(whole, tmp_path, width=width, dark=dark)
    assert shown.width == width
    assert shown.scroll_width <= width
    assert shown.scheme == ("rgb(22, 24, 27)" if dark else "rgb(255, 255, 255)")
    assert shown.requests == []
    assert shown.console == []


@needs_chromium
def test_a_click_on_a_column_sorts_numbers_by_their_value_and_the_next_one_turns_the_order(whole, tmp_path):
    ask = """(() => {
      const cells = [...document.querySelectorAll("table.sortable tbody")][0].rows;
      const jobs = () => [...cells].map(row => row.cells[0].textContent).join(" ");
      const button = document.querySelector("table.sortable th button"), found = [jobs()];
      for (let click = 0; click < 2; click++) { button.click(); found.push(jobs()); }
      return found; })()"""
    assert show(whole, tmp_path, width=800, ask=ask).answer == ["9 10 2", "2 9 10", "10 9 2"]


@needs_chromium
def test_the_browser_tells_of_a_page_that_is_too_wide_asks_for_a_file_or_fails(tmp_path):
    flawed = '<div style="width:900px">a</div><img src="http://a.example/b.png"><script>missing()</script>'
    shown = show(page("a", flawed), tmp_path, width=400)
    assert shown.scroll_width > 400
    assert shown.requests == ["http://a.example/b.png"]
    assert any("missing is not defined" in line for line in shown.console)
