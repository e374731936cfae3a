"""Writes results.json as Markdown tables between two comments of README.md."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from experiments.benchmarks.cases import CASES, SYSTEMS, Case, Goal
from experiments.benchmarks.results import Entry, Results, best_peer

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
_EMPTY = f"# Benchmarks\n\n    python -m experiments.benchmarks\n\n{BEGIN}\n{END}\n"

_DISTURBED = 0.05  # fraction of the processor time above which other programs are mentioned

Row = list[str]


def update_readme(results: Results) -> None:
    """Write the tables of all stored cases between the comments; append the comments if the README has none."""
    text = README.read_text() if README.exists() else _EMPTY
    if BEGIN not in text or END not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n\n{format_results(results)}\n{END}{after}")


def format_results(results: Results) -> str:
    """Return one section per device, with one table per case, in the order of the cases."""
    sections = []
    for device, entries in sorted(results.items()):
        sections.append(f"### On {'a CPU' if device == 'cpu' else device}\n")
        sections += [
            format_case(case, entries[name]) for name, case in CASES.items() if _has_ours(case, entries.get(name))
        ]
    return "\n".join(sections)


def _has_ours(case: Case, entry: dict[str, Any] | None) -> bool:
    """Tell whether a stored entry is of the system that is ours in this case today."""
    return entry is not None and all(case.systems[0] in point["systems"] for point in entry["points"].values())


def format_case(case: Case, entry: Entry) -> str:
    """Return the table of a case, with its goals, the machine and the package versions."""
    case = _as_stored(case, entry)
    points, one_point = entry["points"], len(case.points) == 1
    table = _table_of_systems(case, points[case.points[0].name]) if one_point else _table_of_points(case, points)
    rounds = f"{entry['rounds']} {'round' if entry['rounds'] == 1 else 'rounds'}"
    machine = f"{entry['machine']['processor']}, {entry['machine']['cores']} cores"
    versions = ", ".join(f"{name} {version}" for name, version in entry["versions"].items())
    notes = [
        *(line for goal in case.goals if (line := _compare(case, goal, points))),
        *([] if case.limit is None else [_compare_with_limit(case, points)]),
        *([] if one_point else _unavailable(points)),
        *_disturbance(entry),
        f"{entry['date']}, {rounds}, {machine}, {versions}.",
    ]
    return "\n".join([f"#### {case.name}: {case.title}", "", *table, "", *(f"- {note}" for note in notes)]) + "\n"


def _as_stored(case: Case, entry: Entry) -> Case:
    """Return the case without the systems and points that were added after it was measured."""
    points = tuple(point for point in case.points if point.name in entry["points"])
    stored = entry["points"][points[0].name]["systems"]
    return dataclasses.replace(case, points=points, systems=tuple(name for name in case.systems if name in stored))


def _table_of_systems(case: Case, point: dict[str, Any]) -> list[str]:
    """Return a table with one row per system."""
    systems = point["systems"]
    also = list(systems[case.systems[0]]["also"])
    ratio = ["ours / it (lowest to highest)"] if case.peers else []
    header = ["system", case.unit, "lowest to highest round", *also, *ratio]
    rows = []
    for name in case.systems:
        label, found = SYSTEMS[name].label, systems[name]
        if "unavailable" in found:
            rows.append([label, f"cannot run: {found['unavailable']}"])
            continue
        numbers = [found["median"], *(found["also"][key] for key in also)]
        median, *others = map(_number, numbers)
        rows.append([label, median, _range(found["rounds"]), *others, *([_ratio(found)] if case.peers else [])])
    return _table(header, rows)


def _table_of_points(case: Case, points: dict[str, Any]) -> list[str]:
    """Return a table with one row per point."""
    first = points[case.points[0].name]["systems"]
    also = list(first[case.systems[0]]["also"])
    header = ["", *(f"{SYSTEMS[name].label}, {case.unit}" for name in case.systems), *also]
    header += ["ours / best peer (lowest to highest)"] if case.peers else []
    growing = all(point.work for point in case.points)
    header += ["growth of the time / growth of the work"] if growing else []
    rows = []
    for point in case.points:
        systems, best = points[point.name]["systems"], points[point.name]["best_peer"]
        ours = systems[case.systems[0]]
        row = [point.name, *(_number(systems[name].get("median")) for name in case.systems)]
        row += [_number(ours["also"][key]) for key in also]
        row += [_ratio(systems[best]) if best else "-"] if case.peers else []
        if growing:
            time = ours["median"] / first[case.systems[0]]["median"]
            row.append(_number(time / (point.work / case.points[0].work)))
        rows.append(row)
    return _table(header, rows)


def _compare(case: Case, goal: Goal, points: dict[str, Any]) -> str | None:
    """Return a sentence about a goal; None if no peer of the goal ran."""
    ratios = []
    for point in points.values():
        systems = point["systems"]
        best = best_peer(systems, goal.peers or case.peers)
        if best and goal.of:
            ratio = systems[case.systems[0]]["also"][goal.of] / systems[best]["also"][goal.of]
            ratios.append((ratio, f"the {goal.of} of {SYSTEMS[best].label}"))
        elif best:
            ratios.append((systems[best]["ratio"]["median"], SYSTEMS[best].label))
    if not ratios:
        return None
    num_met = sum(ratio <= goal.ratio for ratio, _ in ratios)
    if len(points) == 1:
        (ratio, label), *_ = ratios
        found, verdict = f"{_number(ratio)} of {label}", _verdict(num_met == 1)
    else:
        found, verdict = "compared with the best peer", f"met in {num_met} of {len(ratios)} rows"
    return f"Ours {found}; goal: at most {_number(goal.ratio)}: {verdict}."


def _compare_with_limit(case: Case, points: dict[str, Any]) -> str:
    medians = [point["systems"][case.systems[0]]["median"] for point in points.values()]
    return f"Goal: at most {_number(case.limit)} {case.unit}: {_verdict(max(medians) <= case.limit)}."


def _verdict(met: bool) -> str:
    return "met" if met else "not met"


def _disturbance(entry: Entry) -> list[str]:
    share = entry["disturbance"]
    return [f"Other programs took up to {share:.0%} of the cores meanwhile."] if share > _DISTURBED else []


def _unavailable(points: dict[str, Any]) -> list[str]:
    """Return the reasons why peers are missing, one line each."""
    return list(
        dict.fromkeys(
            f"{SYSTEMS[name].label} cannot run: {found['unavailable']}"
            for point in points.values()
            for name, found in point["systems"].items()
            if "unavailable" in found
        )
    )


def _table(header: Row, rows: list[Row]) -> list[str]:
    lines = [header, ["---"] * len(header), *(row + [""] * (len(header) - len(row)) for row in rows)]
    return ["| " + " | ".join(re.sub(r"\s*\|\s*", " / ", cell) for cell in line) + " |" for line in lines]


def _ratio(found: dict[str, Any]) -> str:
    if "ratio" not in found:
        return ""
    ratio = found["ratio"]
    return f"{_number(ratio['median'])} ({_number(ratio['min'])} to {_number(ratio['max'])})"


def _range(values: list[float]) -> str:
    return f"{_number(min(values))} to {_number(max(values))}"


def _number(value: float | None) -> str:
    """Format a number with three significant digits, without an exponent."""
    if value is None:
        return "-"
    rounded = float(f"{value:.3g}")
    return f"{value:,.0f}" if abs(rounded) >= 100 else f"{value:#.3g}"
