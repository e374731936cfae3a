"""The command line of the benchmarks: python -m experiments.benchmarks [CASE ...]."""

import argparse
import dataclasses
import functools
import math
import sys
import tempfile
from pathlib import Path

from experiments.benchmarks import harness, results, tables
from experiments.benchmarks.cases import SYSTEMS, Case, select_cases


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen cases, store and print their results; return the exit code, 1 if a case failed."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks", description="Measure lenet_jax beside its peers."
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="a name, or the beginning of several; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="of each system, in turns (default: 5)")
    parser.add_argument("--systems", default="", metavar="NAME,NAME", help="only these, ours first; default: all")
    parser.add_argument("--quick", action="store_true", help="one round of tiny tasks, to try the program; not stored")
    parser.add_argument("--list", action="store_true", help="show the cases and their systems")
    parser.add_argument("--tables", action="store_true", help="write the stored results into README.md, run nothing")
    chosen = parser.parse_args(arguments)
    try:
        cases = [_only(case, chosen.systems) for case in select_cases(chosen.cases)]
    except ValueError as error:
        parser.error(str(error))
    if chosen.rounds < 1:
        parser.error(f"argument --rounds must be 1 or above; got {chosen.rounds}.")
    if chosen.list:
        for case in cases:
            print(f"{case.name}: {case.title} ({case.unit}): {', '.join(case.systems)}")
    elif chosen.tables:
        tables.update_readme(results.load())
    else:
        return max(_run(case, chosen.rounds, chosen.quick) for case in cases)
    return 0


def _only(case: Case, systems: str) -> Case:
    """Return the case with the named systems that it has; all of them if none is named."""
    named = [name.strip() for name in systems.split(",") if name.strip()]
    if unknown := [name for name in named if name not in SYSTEMS]:
        raise ValueError(f"--systems must be names of --list; got {', '.join(unknown)}.")
    if not named:
        return case
    kept = tuple(name for name in case.systems if name in named)
    if not kept or kept[0] != case.systems[0]:
        raise ValueError(f"--systems must contain {case.systems[0]} for the case {case.name}; got {systems}.")
    goals = tuple(
        dataclasses.replace(goal, peers=tuple(name for name in goal.peers if name in kept))
        for goal in case.goals
        if not goal.peers or set(goal.peers) & set(kept)
    )
    return dataclasses.replace(case, systems=kept, goals=goals)


def _run(case: Case, num_rounds: int, quick: bool) -> int:
    report = functools.partial(print, flush=True)
    if quick and case.loose:
        case = dataclasses.replace(case, tolerance=math.inf)
    with tempfile.TemporaryDirectory() as scratch:
        run = functools.partial(harness.run_process, scratch=Path(scratch), quick=quick)
        try:
            points = harness.run_case(case, 1 if quick else min(num_rounds, case.max_rounds), run, report)
        except harness.BenchmarkError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            return 1
    device, entry = results.make_entry(case, points)
    report(f"\n{tables.format_case(case, entry)}")
    if not quick:
        results.store(device, case, entry)
        tables.update_readme(results.load())
    return 0


if __name__ == "__main__":
    sys.exit(main())
