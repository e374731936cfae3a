"""Runs each system in processes of its own, in several rounds, and checks that all systems compute the same values.

Imports no framework: the peak memory of a new process starts at that of its parent, so the parent must be small.
"""

import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from experiments.benchmarks.cases import SYSTEMS, Case
from experiments.benchmarks.problem import num_threads

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT = 15 * 60  # seconds per process
_STDERR_LINES = 12


class BenchmarkError(Exception):
    """Raised if a case cannot be reported: ours failed, or the systems do not compute the same values."""


class Measurement(NamedTuple):
    """The result of one process; see worker.py."""

    device: str
    check: float | None
    value: float
    also: dict[str, float]
    disturbance: float = 0.0  # fraction of the machine's processor time that other programs used meanwhile, 0 to 1


class Failure(NamedTuple):
    """The reason why a process gave no result."""

    reason: str  # one line
    stderr: str  # the last lines of standard error


class PointResult(NamedTuple):
    """The rounds of each system at one point of a case, and the reasons why peers are unavailable."""

    measured: dict[str, list[Measurement]]
    unavailable: dict[str, str]


Run = Callable[[Case, int, str], Measurement | Failure]


def run_case(case: Case, num_rounds: int, run: Run, report: Callable[[str], None]) -> list[PointResult]:
    """Measure all points of a case.

    Args:
        case: the case.
        num_rounds: number of rounds; each round runs every system once.
        run: (case, number of the point, system) -> the result of one process.
        report: called with a line for each round, after its check, and for each peer that cannot run.

    Raises:
        BenchmarkError: if ours fails, or the check value of a peer differs from ours.
    """
    return [_run_point(case, number, num_rounds, run, report) for number in range(len(case.points))]


def _run_point(case: Case, number: int, num_rounds: int, run: Run, report: Callable[[str], None]) -> PointResult:
    title = f"{case.name} {case.points[number].name}".strip()
    measured: dict[str, list[Measurement]] = {system: [] for system in case.systems}
    unavailable: dict[str, str] = {}
    for system in case.systems if case.warm_start else ():
        run(case, number, system)
    for round_number in range(num_rounds):
        this_round: dict[str, Measurement] = {}
        for system in _rotate([system for system in case.systems if system not in unavailable], round_number):
            found = run(case, number, system)
            if isinstance(found, Measurement):
                this_round[system] = found
            elif system in case.peers:
                unavailable[system] = found.reason
                report(f"{title}: {SYSTEMS[system].label} cannot run: {found.reason}\n{found.stderr}".rstrip())
            else:
                raise BenchmarkError(f"{title}: {SYSTEMS[system].label} failed: {found.reason}\n{found.stderr}")
        unavailable |= _check(case, title, this_round)
        times = []
        for system in case.systems:
            if system not in unavailable:
                measured[system].append(this_round[system])
                times.append(f"{system} {this_round[system].value:.4g}")
        report(f"{title}, round {round_number + 1} of {num_rounds}, {case.unit}: {', '.join(times)}")
    return PointResult({s: found for s, found in measured.items() if s not in unavailable}, unavailable)


def _rotate(systems: list[str], number: int) -> list[str]:
    first = number % len(systems)
    return systems[first:] + systems[:first]


def _check(case: Case, title: str, found: Mapping[str, Measurement]) -> dict[str, str]:
    """Compare the check values of a round; return the peers that ran on another device than ours, with the reason.

    Raises:
        BenchmarkError: if a check value differs from ours by more than the case's tolerance, or is not finite.
    """
    ours = found[case.systems[0]]
    elsewhere = {s: f"ran on {m.device}, ours on {ours.device}" for s, m in found.items() if m.device != ours.device}
    checks = {s: m.check for s, m in found.items() if s not in elsewhere and m.check is not None}
    for system, check in checks.items():
        if not math.isfinite(check) or not math.isclose(check, checks[case.systems[0]], rel_tol=case.tolerance):
            raise BenchmarkError(
                f"{title}: the systems do not compute the same; {system} must agree with {case.systems[0]} within "
                f"{case.tolerance:g} (relative): {', '.join(f'{s} {c:.8g}' for s, c in checks.items())}."
            )
    return elsewhere


def run_process(case: Case, point: int, system: str, *, scratch: Path, quick: bool = False) -> Measurement | Failure:
    """Measure one system in a process of its own.

    Args:
        case: the case.
        point: the number of the point in the case.
        system: a key of `SYSTEMS`.
        scratch: a folder for files that the processes share.
        quick: whether to measure a tiny task instead.
    """
    command = [sys.executable, "-m", "experiments.benchmarks.worker", case.name, str(point), system]
    environment = _environment(case, system, scratch)
    with (
        tempfile.TemporaryFile("w+", errors="replace") as output,
        tempfile.TemporaryFile("w+", errors="replace") as errors,
    ):
        started, busy, own = time.monotonic(), _busy_seconds(), _own_seconds()
        command += ["--started", str(started), *(["--quick"] if quick else [])]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=errors, start_new_session=True
        )
        try:
            process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            return Failure(f"took longer than {TIME_LIMIT} s", "")
        finally:
            _kill(process)
        seconds = (time.monotonic() - started) * (os.cpu_count() or 1)
        disturbance = max(0.0, (_busy_seconds() - busy) - (_own_seconds() - own)) / seconds
        output.seek(0)
        errors.seek(0)
        last_lines = "".join(errors.readlines()[-_STDERR_LINES:])
        try:
            found = json.loads(output.read().splitlines()[-1])
        except (IndexError, json.JSONDecodeError):
            return Failure(f"ended with exit code {process.returncode} and no result", last_lines)
    if "error" in found:
        return Failure(_without_folders(found["error"]), last_lines)
    return Measurement(**found, disturbance=disturbance)


def _busy_seconds() -> float:
    """Return the processor time of all programs since the machine started; 0 if the system does not report it."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, *others = fields
    return sum((user, nice, system, *others)) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Return the processor time of this process's children that have exited."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _kill(process: subprocess.Popen) -> None:
    """Kill the process and all processes that it started, unless they have exited."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _without_folders(message: str) -> str:
    """Shorten the paths in a message to file names, because the message is stored."""
    return re.sub(r"(?:/[^\s/:'\"]+)+/", "", message)[:200]


def _environment(case: Case, system: str, scratch: Path) -> dict[str, str]:
    """Return environment variables that set the same number of threads for every system, and disable TF32."""
    threads = str(num_threads())
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "KERAS_HOME": str(scratch / "keras"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # more would start processes that outlive their parent
    }
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS"):
        environment.pop(name, None)
    if case.warm_start:
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": str(scratch / f"programs_{system}"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    return environment | dict(SYSTEMS[system].environment)
