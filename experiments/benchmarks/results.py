"""The stored results of all cases, in results.json: medians, ratios, package versions and the machine."""

import datetime
import json
import platform
import statistics
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.benchmarks.cases import SYSTEMS, Case
from experiments.benchmarks.harness import PointResult
from experiments.benchmarks.problem import num_threads

FILE = Path(__file__).with_name("results.json")

Entry = dict[str, Any]
Results = dict[str, dict[str, Entry]]  # device -> case -> entry


def make_entry(case: Case, points: list[PointResult]) -> tuple[str, Entry]:
    """Return the device on which a case ran, and the entry to store."""
    first = points[0].measured[case.systems[0]]
    packages = sorted({package for system in case.systems for package in ("numpy", *SYSTEMS[system].packages)})
    versions = {name: version for name in packages if (version := _version(name)) is not None}
    return first[0].device, {
        "date": datetime.date.today().isoformat(),
        "rounds": len(first),
        "disturbance": max(_rounded(m.disturbance) for p in points for found in p.measured.values() for m in found),
        "unit": case.unit,
        "machine": {"processor": _processor(), "cores": num_threads()},
        "versions": {"python": platform.python_version(), **versions},
        "points": {point.name: _summarize(case, result) for point, result in zip(case.points, points, strict=True)},
    }


def _summarize(case: Case, result: PointResult) -> dict[str, Any]:
    systems: dict[str, Any] = {}
    ours = [measurement.value for measurement in result.measured[case.systems[0]]]
    for name in case.systems:
        if name in result.unavailable:
            systems[name] = {"unavailable": result.unavailable[name]}
            continue
        rounds = result.measured[name]
        values = [measurement.value for measurement in rounds]
        systems[name] = {
            "rounds": [_rounded(value) for value in values],
            "median": _rounded(statistics.median(values)),
            "check": rounds[-1].check,
            "also": {key: _rounded(statistics.median(m.also[key] for m in rounds)) for key in rounds[0].also},
        }
        if name in case.peers:
            ratios = [a / b for a, b in zip(ours, values, strict=True)]
            middle, low, high = map(_rounded, (statistics.median(ratios), min(ratios), max(ratios)))
            systems[name]["ratio"] = {"median": middle, "min": low, "max": high}  # ours / this system, per round
    return {"systems": systems, "best_peer": best_peer(systems, case.peers)}


def best_peer(systems: dict[str, Any], peers: Sequence[str]) -> str | None:
    """Return the peer with the lowest median; None if no peer ran."""
    ran = [name for name in peers if "median" in systems.get(name, {})]
    return min(ran, key=lambda name: systems[name]["median"], default=None)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def load() -> Results:
    """Return the stored results."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def store(device: str, case: Case, entry: Entry) -> None:
    """Replace the entry of a case on a device; all other entries are unchanged."""
    results = load()
    results.setdefault(device, {})[case.name] = entry
    FILE.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):  # TensorFlow has a distribution for CPUs only
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
