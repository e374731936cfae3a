"""Whatever texts come into a page, it has the elements and attributes that it has with harmless ones."""

import csv
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from lenet_jax.config import Config
from lenet_jax.report import page as run_page
from lenet_jax.report import sweep_page
from lenet_jax.report.html import to_page
from lenet_jax.runs.run_directory import Record
from lenet_jax.sweeps.ledger import DONE, FAILED, Entry, Ledger
from lenet_jax.sweeps.statistics import summarize_sweep, write_summary
from tests.faults.hostile import TEXTS

RESULT = {"test_accuracy": 0.9, "validation_accuracy": 0.9, "epochs": 1, "stopped_by": "max_epochs"}


class Structure(HTMLParser):
    """Notes elements and the names of their attributes, and declarations; addresses of pictures apart."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found, self.sources, self.text = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag == "wbr" and not attributes:  # where the name of a column may be divided, after each dot
            return
        self.found.append((tag, [name for name, _ in attributes]))
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        self.found.append(f"/{tag}")

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        self.found.append(f"!{data}")

    def handle_decl(self, declaration):
        self.found.append(declaration)

    def unknown_decl(self, data):
        self.found.append(data)

    def handle_pi(self, data):
        self.found.append(f"?{data}")


def page_of_a_run(text):
    result = {**RESULT, "stopped_by": text, "epochs": text, "seconds": text, "parameters_sha256": text}
    run = {
        "data": {"name": text, "train": 10},
        "devices": [{"kind": text}],
        "versions": {text: text},
        "code": {"revision": text},
    }
    run["started"] = run["host"] = run["command"] = text
    components = {name: {"_target_": text, "option": text} for name in ("model", "optimizer", "schedule", "objective")}
    components |= {"data": Config().data, "augment": {text: {"_target_": text}}, "trackers": {}}
    components["sharding"] = {"_target_": text}
    config = object.__new__(Config)  # without its checks
    vars(config).update(seed=text, notes=text, tags=(text,), trainer=Config().trainer, **components)
    summary = {
        "accuracy": 0.9, "examples": 10, "loss": 0.1, "expected_calibration_error": 0.1,
        "precision": [1.0], "recall": [1.0], "confusion_matrix": [[10]],
    }  # fmt: skip
    evaluation = SimpleNamespace(summary=summary, confusion=[[10]])
    return to_page(run_page._document(Record(Path("a"), config, run, [], result), evaluation, []))


def page_of_a_sweep(text, directory):
    identity = {
        "arguments": [text], "config_name": "config", "folders": {}, "base": {}, "code": {"revision": text},
        "versions": {text: text}, "data": [{"name": text, "sha256": text}],
    }  # fmt: skip
    ledger = Ledger.create(directory, identity)
    ledger.write(Entry(0, [f"a={text}", f"{text}=1"], "0", {}, DONE, result={**RESULT, "stopped_by": text}))
    ledger.write(Entry(1, ["a=b"], "1", {}, FAILED, error=text))
    summary = write_summary(ledger)
    return to_page(sweep_page._document(Ledger(directory), summary, [])), summary


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_text_stays_a_text_on_both_pages(text, without_type_checks, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    harmless = page_of_a_run("text"), page_of_a_sweep("text", tmp_path / "a")[0]
    text = text.encode(errors="replace").decode()  # as a file of JSON in UTF-8 has it
    hostile = page_of_a_run(text), page_of_a_sweep(text, tmp_path / "b")[0]
    for one, other in zip(harmless, hostile, strict=True):
        expected, found = Structure(one), Structure(other)
        assert found.found == expected.found
        assert found.sources == expected.sources
        assert set(found.sources) <= {"summary.csv", "summary.json", "sweep.json"}  # files beside the page
        assert text in "".join(found.text)


@pytest.mark.parametrize("text", ["<b>", "a\udcff", '" onload="', "a b", "javascript:alert(1)"])
def test_a_directory_of_any_name_stays_a_text(text, without_type_checks, tmp_path):
    identity = {
        "arguments": [], "config_name": "config", "folders": {}, "base": {}, "code": {"revision": None},
        "versions": {}, "data": [],
    }  # fmt: skip
    ledger = Ledger.create(tmp_path, identity)
    ledger.write(Entry(0, ["a=1"], text, {}, FAILED, error="an error"))
    if text.isprintable():
        (tmp_path / text).mkdir()
    page = Structure(sweep_page.write_page(ledger, summarize_sweep(ledger.entries())).read_text())
    links = [f"{quote(text)}/"] if text.isprintable() else []
    assert [each for each in page.sources if each != "sweep.json"] == links
    assert text.encode(errors="replace").decode() in page.text


@pytest.mark.parametrize(
    "text", ["<b>$x$", "../../x", "a\0b", "a" * 5000, "a/b?c#d", '" onload x', "$\\frac{", "_a", "%2e%2e/x"]
)
def test_a_hyperparameter_of_any_name_is_drawn_into_the_folder(text, without_type_checks, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sweep_page,
        "read_record",
        lambda path: Record(path, Config(), {}, [{"epoch": 1, "validation_accuracy": 0.5}], None),
    )
    (tmp_path / "sweep").mkdir()
    identity = {
        "arguments": [], "config_name": "config", "folders": {}, "base": {}, "code": {"revision": None},
        "versions": {}, "data": [],
    }  # fmt: skip
    ledger = Ledger.create(tmp_path / "sweep", identity)
    for number in range(2):
        config = {"model": {"_target_": "mylab.net", text: number}}
        ledger.write(Entry(number, [f"{text}={number}"], str(number), config, DONE, result=RESULT))
    page = sweep_page.write_page(ledger, summarize_sweep(ledger.entries()))
    sources = [each for each in Structure(page.read_text()).sources if each.startswith("figures/")]
    assert len(sources) == 2
    assert sorted(sources) == sorted(f"figures/{path.name}" for path in (tmp_path / "sweep" / "figures").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-1+1",
    "@SUM(A1)",
    '=HYPERLINK("http://a")',
    "-a",
    "+",
    "-",
    "\uff1d1+1",
]
NUMBERS = [
    "1",
    "-1",
    "+1",
    "-0.5",
    "1e-3",
    "-1e+3",
    ".5",
    "-inf",
    "nan",
    "[2,3]",
    "a=b",
    "",
    "lenet",
    "1-1",
    "a\tb",
    "\r=1",
    "\x1b[0m",
]


@pytest.mark.parametrize("value", [*FORMULAS, *NUMBERS])
def test_a_cell_of_the_table_is_no_formula_and_numbers_stay_numbers(value, tmp_path):
    identity = {
        "arguments": [], "config_name": "config", "folders": {}, "base": {}, "code": {}, "versions": {}, "data": [],
    }  # fmt: skip
    ledger = Ledger.create(tmp_path, identity)
    ledger.write(Entry(0, [f"a={value}", "+extra=1"], "0", {}, DONE, result={**RESULT, "stopped_by": value}))
    ledger.write(Entry(1, ["a=other"], "1", {}))
    write_summary(ledger)
    with (tmp_path / "summary.csv").open(newline="") as file:
        head, row, _ = csv.reader(file)
    assert head[:3] == ["number", "a", "'+extra"]
    cells = dict(zip(head, row, strict=True))
    assert (
        cells["a"]
        == cells["stopped_by"]
        == (f"'{value}" if value in FORMULAS else "".join(c if c.isprintable() else "?" for c in value))
    )
    assert float(cells["test_accuracy"]) == 0.9
