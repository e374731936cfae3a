"""HTML pages in one file that needs no network connection: all text is escaped, and figures are drawn inside."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import quote

from lenet_jax.report.document import (
    Cell,
    Code,
    Document,
    Facts,
    Link,
    Links,
    Part,
    Picture,
    Stacked,
    Table,
    Text,
    shown,
)
from lenet_jax.report.svg import inline_svg

_STYLE = """
:root { color-scheme: light dark; --text: #222; --page: #fff; --quiet: #5a5a5a; --box: #f4f4f4; --line: #d8d8d8;
  --link: #0b57a4; --blue: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e4e4; --page: #16181b; --quiet: #a8adb3; --box: #22262b; --line: #3a3f46; --link: #8ab8f0;
    --blue: #4aa3df; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 70rem;
  margin: 1.5rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
p, figcaption { max-width: 46rem; } figcaption { color: var(--quiet); margin-bottom: .4rem; }
a { color: var(--link); }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .93rem; overflow-wrap: normal; }
td, th { text-align: left; padding: .2rem 1.1rem .2rem 0; vertical-align: top; }
thead th { border-bottom: 1px solid var(--line); vertical-align: bottom; } .scroll td { white-space: nowrap; }
tbody th { color: var(--quiet); font-weight: normal; }
.facts { width: 100%; } .facts td { width: 100%; overflow-wrap: anywhere; } .facts th { white-space: nowrap; }
th button { font: inherit; text-align: left; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th button::after { content: "\\a0\\2195"; color: var(--quiet); }
th[aria-sort=ascending] button::after { content: "\\a0\\2191"; }
th[aria-sort=descending] button::after { content: "\\a0\\2193"; }
figure { margin: 0; }
.card { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; padding: .4rem; }
.card svg { display: block; height: auto; margin: auto; } svg * { stroke-linejoin: round; stroke-linecap: butt; }
.card text { fill: var(--text); }
code { font-size: .93em; }
pre { overflow-x: auto; background: var(--box); padding: .8rem; font-size: 13px; line-height: 1.35; }
@media (max-width: 40rem) {
  .facts, .facts tbody, .facts tr, .facts th, .facts td { display: block; }
  .facts th { white-space: normal; padding: 0; }
  .list thead { display: none; } .list, .list tbody, .list tr, .list td { display: block; }
  .list tr { border-top: 1px solid var(--line); padding: .4rem 0; }
  .list td { white-space: normal; padding: 0; overflow-wrap: anywhere; } .list td:empty { display: none; }
  .list td::before { content: attr(data-name) ": "; color: var(--quiet); }
  .list td[data-name=""]::before { content: none; } .list td[data-name=""] { font-weight: bold; } }
@media print {
  :root { --text: #000; --page: #fff; --quiet: #444; --box: #fff; --line: #bbb; --link: #000;
    --blue: #0072b2; }
  body { font-size: 10pt; max-width: none; margin: 0; padding: 0; } pre { white-space: pre-wrap; }
  .card, .scroll { overflow: visible; border: 0; padding: 0; } .card svg { min-width: 0 !important; }
  .scroll table { font-size: 7.5pt; } .scroll td, .scroll th { padding-right: .6rem; }
  .scroll table:not(.sortable) td, .list td { white-space: normal; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; } th button::after { content: ""; } }
"""

_SORT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const sign = head.ariaSort === "ascending" ? -1 : 1;
      heads.forEach(each => { each.ariaSort = each === head ? (sign > 0 ? "ascending" : "descending") : null; });
      const text = row => row.cells[column].textContent;
      const order = (a, b) => text(a) === "" ? 1 : text(b) === "" ? -1
        : sign * text(a).localeCompare(text(b), "en", { numeric: true });
      const number = row => parseFloat(text(row));
      const compare = (a, b) => isNaN(number(a)) || isNaN(number(b)) || number(a) === number(b) ? order(a, b)
        : sign * (number(a) - number(b));
      body.append(...[...body.rows].sort(compare));
    };
  });
}
"""

_CODE = re.compile("`([^`]+)`")

GENERATOR = '<meta name="generator" content="lenet-jax">'
"""By which a page of ours is known."""


def page(title: str, body: str) -> str:
    """Return a complete page.

    Args:
        title: title and heading, as plain text.
        body: content below the heading, as HTML.
    """
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">{GENERATOR}
<title>{escape(title)}</title><style>{_STYLE}</style></head>
<body>
<h1>{escape(title)}</h1>
{body}
<script>{_SORT}</script>
</body>
</html>
"""


def to_page(document: Document) -> str:
    """Return a report as a complete page."""
    return page(document.title, "\n".join(filter(None, map(to_html, document.parts))))


def to_html(part: Part) -> str:
    """Return a part of a report as HTML; "" if there is nothing in it."""
    match part:
        case Facts(values):
            return metadata_table(values)
        case Table(heading, head, rows, caption, is_sortable, is_list):
            drawn = table(head, rows, sortable=is_sortable, as_list=is_list)
            return "\n".join([*_headed(heading, caption), drawn])
        case Text(heading, lines):
            return "\n".join([*_headed(heading), f"<pre>{escape(chr(10).join(lines))}</pre>"])
        case Links(heading, links):
            found = ", ".join(map(_text, links))
            return "\n".join([*_headed(heading), f"<p>{found}</p>"]) if links else ""
        case Picture():
            return _drawn(part)


def _headed(heading: str, caption: str = "") -> list[str]:
    above = [f"<h2>{escape(heading)}</h2>"] if heading else []
    return above + ([f"<p>{escape(caption)}</p>"] if caption else [])


def metadata_table(values: Mapping[str, Cell]) -> str:
    """Return a table with one row per name and value."""
    rows = (f"<tr><th>{escape(name)}</th><td>{_text(value)}</td></tr>" for name, value in values.items())
    return '<table class="facts"><tbody>' + "\n".join(rows) + "</tbody></table>"


def table(
    head: Sequence[Cell], rows: Sequence[Sequence[Cell]], *, sortable: bool = False, as_list: bool = False
) -> str:
    """Return a table, which scrolls sideways where it is wider than the screen.

    Args:
        head: names of the columns.
        rows: cells of each row.
        sortable: whether a click on the name of a column sorts the rows by it.
        as_list: whether a narrow screen has names and values below each other for each row.
    """
    names = "".join(f"<th>{escape(shown(cell)).replace('.', '.<wbr>')}</th>" for cell in head)  # long keys are divided
    labels = [f' data-name="{escape(shown(cell))}"' if as_list else "" for cell in head]

    def line(row: Sequence[Cell]) -> str:
        return "".join(f"<td{label}>{_text(cell)}</td>" for label, cell in zip(labels, row, strict=True))

    lines = "\n".join(f"<tr>{line(row)}</tr>" for row in rows)
    kinds = [*(["sortable"] if sortable else []), *(["list"] if as_list else [])]
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>'


def _text(cell: Cell) -> str:
    match cell:
        case Link(path, text):
            return f'<a href="{quote(path)}">{escape(text)}</a>'
        case Stacked(lines):
            return "<br>".join(map(escape, lines))
        case Code(text):
            return f"<code>{escape(text)}</code>"
    return escape(str(cell))


def _drawn(picture: Picture) -> str:
    """Return the HTML of a heading, a caption with a link to the file, and the figure."""
    drawing = inline_svg(picture.figure, name=picture.name, caption=picture.caption)
    file = _text(Link(f"figures/{picture.name}.png", "PNG"))
    return (
        f"<h2>{escape(picture.heading)}</h2>\n<figure><figcaption>{_with_code(picture.caption)} {file}</figcaption>\n"
        f'<div class="card">{drawing}</div></figure>'
    )


def _with_code(caption: str) -> str:
    """Return a caption as HTML, what stands between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escape(caption))
