"""Writes the tables of published and measured figures in experiments/ from the records of the experiments.

    python -m experiments.index

The `claims.toml` of an experiment lists published figures and the recorded values to compare with them. The README of
the experiment gets a table between two markers, and experiments/README.md gets one row per claim.
"""

import argparse
import json
import statistics
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

ROOT = Path(__file__).resolve().parent
BEGIN, END = "<!-- table: python -m experiments.index -->", "<!-- end of table -->"


class Claim(NamedTuple):
    """A published figure and the figure that the recorded runs give."""

    what: str
    published: str
    measured: str
    goal: str
    met: bool | None  # None: there is no goal, or no record yet


def read_claims(folder: Path) -> list[Claim]:
    """Return the claims of an experiment, with the figures from its records."""
    content = tomllib.loads((folder / "claims.toml").read_text())
    return [_compare(claim, _values(folder, claim)) for claim in content["claim"]]


def _values(folder: Path, claim: dict[str, Any]) -> list[float]:
    """Return the measured values, one per run, in the unit of the claim."""
    pattern = claim.get("records", "records/*")
    paths = sorted(folder.glob(f"{pattern}/result.json"))
    if "epoch" in claim:
        values = [_line_of_epoch(path.with_name("metrics.jsonl"), claim["epoch"])[claim["key"]] for path in paths]
    else:
        values = [_result(path, claim["key"]) for path in paths]
    found = [float(value) for value in values if value is not None]
    match claim["as"]:
        case "percent":
            return [100 * value for value in found]
        case "error percent":
            return [100 * (1 - value) for value in found]
        case "minutes":
            return [value / 60 for value in found]
        case "number":
            return found
    raise ValueError(f"{folder.name}: `as` must be percent, error percent, minutes or number; got {claim['as']!r}.")


def _result(path: Path, key: str) -> float | None:
    """Return a value of `result.json`; None if the run has not recorded it.

    `best_test_accuracy` is of the best weights and `last_test_accuracy` of the last ones, whichever of them are the
    result of the run, whose metrics have names without a prefix.
    """
    result = json.loads(path.read_text())
    if key not in result and key.startswith(("best_", "last_")):
        trainer = json.loads(path.with_name("run.json").read_text())["config"]["trainer"]
        own = "last_" if trainer.get("weights", "best") == "last" else "best_"
        return result.get(key.removeprefix(own))
    return result[key]


def _line_of_epoch(path: Path, epoch: int | Literal["last"]) -> dict[str, Any]:
    """Return the evaluation after an epoch."""
    lines = [line for line in map(json.loads, path.read_text().splitlines()) if "epoch" in line]
    return lines[-1] if epoch == "last" else next(line for line in lines if line["epoch"] == epoch)


def _compare(claim: dict[str, Any], values: Sequence[float]) -> Claim:
    digits, unit = claim.get("digits", 2), claim["unit"]

    def show(value: float) -> str:
        return f"{value:,.{digits}f} {unit}".strip()

    published = show(claim["published"]) if "published" in claim else ""
    goal, met = claim.get("goal", {}), None
    if not values:
        return Claim(claim["what"], published, "no record yet", _describe(goal, show), None)
    mean = statistics.fmean(values)
    measured = show(mean)
    if len(values) > 1:
        deviation = statistics.stdev(values)
        measured = (
            f"{mean:,.{digits}f} ± {deviation:.{digits}f} {unit} "
            f"({min(values):,.{digits}f} to {max(values):,.{digits}f}, {len(values)} seeds)"
        )
        if goal.get("kind") == "within two standard deviations":
            met = abs(mean - claim["published"]) <= 2 * deviation
    match goal.get("kind"):
        case "at most":
            met = mean <= goal["value"]
        case "at least":
            met = mean >= goal["value"]
        case "each at most":
            met = max(values) <= goal["value"]
    return Claim(claim["what"], published, measured, _describe(goal, show), met)


def _describe(goal: dict[str, Any], show: Any) -> str:
    if not goal:
        return ""
    return f"{goal['kind']} {show(goal['value'])}" if "value" in goal else f"published {goal['kind']}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _met(claim: Claim) -> str:
    return {True: "met", False: "**missed**", None: ""}[claim.met]


def folder_table(claims: Sequence[Claim]) -> str:
    """Return the table of one experiment."""
    rows = [("what", "published", "measured", "goal", ""), ("---",) * 5]
    rows += [(claim.what, claim.published, claim.measured, claim.goal, _met(claim)) for claim in claims]
    return "\n".join(map(_row, rows))


def index_table(claims: dict[str, Sequence[Claim]]) -> str:
    """Return the table of all experiments.

    Args:
        claims: name of the experiment's folder -> its claims.
    """
    rows = [("experiment", "what", "published", "measured", "goal"), ("---",) * 5]
    rows += [
        (
            f"[{name}]({name}/README.md)",
            claim.what,
            claim.published,
            claim.measured,
            f"{claim.goal} {_met(claim)}".strip(),
        )
        for name, own in claims.items()
        for claim in own
    ]
    return "\n".join(map(_row, rows))


def replace_table(text: str, table: str) -> str:
    """Return the text of a page with a new table between its markers.

    Raises:
        ValueError: if the page lacks the markers.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page must have the lines {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}"


def pages(root: Path = ROOT) -> dict[Path, str]:
    """Return the up-to-date text of each page that has a table, by its path."""
    claims = {path.parent.name: read_claims(path.parent) for path in sorted(root.glob("*/claims.toml"))}
    wanted = {root / name / "README.md": folder_table(own) for name, own in claims.items()}
    wanted[root / "README.md"] = index_table(claims)
    return {path: replace_table(path.read_text(), table) for path, table in wanted.items()}


def write_pages(check: bool = False) -> bool:
    """Write the pages that are out of date, or only list them; return whether there were any."""
    outdated = {path: text for path, text in pages(ROOT).items() if path.read_text() != text}
    for path, text in outdated.items():
        print(f"{path.relative_to(ROOT)}: {'out of date' if check else 'written'}")
        if not check:
            path.write_text(text)
    return bool(outdated)


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a table is out of date")
    check = parser.parse_args().check
    return 1 if write_pages(check) and check else 0


if __name__ == "__main__":
    raise SystemExit(main())
