"""Processes, rounds and checks.

Imports no framework: a process counts the memory of its parent as its first peak, so the parent stays small.
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
from lenet_jax.environment import tune_environment

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT = 15 * 60  # seconds a process
_STDERR_LINES = 12


class BenchmarkError(Exception):
    """A case that cannot be reported: ours failed, or the systems do not compute the same."""


class Measurement(NamedTuple):
    """What one process found; see worker.py."""

    device: str
    check: float | None
    value: float
    also: dict[str, float]
    disturbance: float = 0.0  # the share of the machine's cores that other programs took meanwhile, 0 to 1


class Failure(NamedTuple):
    """Why a process found nothing."""

    reason: str  # one line
    stderr: str  # its last lines


class PointResult(NamedTuple):
    """The rounds of each system at one point of a case, or why a peer has none."""

    measured: dict[str, list[Measurement]]
    unavailable: dict[str, str]


Run = Callable[[Case, int, str], Measurement | Failure]


def run_case(case: Case, num_rounds: int, run: Run, report: Callable[[str], None]) -> list[PointResult]:
    """Measure all points of a case.

    Args:
        case: the case.
        num_rounds: of each system, in turns.
        run: (case, number of the point, system) -> what a process of its own found.
        report: gets a line for each round, after the round is checked, and for each peer that cannot run.

    Raises:
        BenchmarkError: if ours fails, or a peer computes something else.
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
    """Compare a round with ours; return the peers that ran on another device, with the reason.

    Raises:
        BenchmarkError: if a number differs by more than the case's tolerance, or is not finite.
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
        scratch: a folder that the processes may leave files in.
        quick: measure a tiny task.
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
            _end(process)
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
    """Return the processor time that all programs of the machine took since it started; 0 where none tells."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, *others = fields
    return sum((user, nice, system, *others)) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Return the processor time of this process's ended children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _end(process: subprocess.Popen) -> None:
    """End the process and what it started, if anything of it still runs."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _without_folders(message: str) -> str:
    """Shorten paths of this machine to file names: the message is stored."""
    return re.sub(r"(?:/[^\s/:'\"]+)+/", "", message)[:200]


def _environment(case: Case, system: str, scratch: Path) -> dict[str, str]:
    """Return variables that give every system the same threads, and float32 products without TF32.

    Every system on JAX has the settings that the command line of lenet_jax makes.
    """
    threads = str(num_threads())
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "KERAS_HOME": str(scratch / "keras"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no processes that outlive their parent
    }
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS"):
        environment.pop(name, None)
    if case.measure in ("inference", "layer"):  # one device where functions are called, else a device a core
        environment["JAX_NUM_CPU_DEVICES"] = "1"
    if case.warm_start:
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": str(scratch / f"programs_{system}"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    if "jax" in SYSTEMS[system].packages:
        tune_environment(environment)
    return environment | dict(SYSTEMS[system].environment)
