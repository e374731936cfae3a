"""What the storage of a run does when its process is killed or the file system fails, in a process without threads.

python -m tests.faults.storage kill SCENARIO|fail SCENARIO|random COUNT|full FOLDER

`full` fills the file system of a folder, which should be small: mount -t tmpfs -o size=256k tmpfs FOLDER
"""

import errno
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lenet_jax.errors import InputError
from lenet_jax.runs.checkpoints import MAX_CHECKPOINTS, STATE, newest_first, read_checkpoint, save_checkpoint
from lenet_jax.runs.run_directory import METRICS, LogEnd, RunDirectory, read_record, remove_partial_writes
from tests.faults.tracing import kill_before

MAX_BYTES = 1 << 20


class Scenario(NamedTuple):
    """Something that is done to a run's directory, and how often it was done before and after."""

    prepare: Callable[[Path], None]
    act: Callable[[Path], None]
    state: Callable[[Path], object]  # what a reader finds; raises if it finds anything half-done


def tensors(iteration: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(iteration)
    return {"params/kernel": rng.random((16, 16), np.float32), "iteration": np.int32(iteration)}


def save(iteration: int) -> Callable[[Path], None]:
    return lambda path: save_checkpoint(path / "checkpoints", iteration, tensors(iteration), {"seconds": 1.5})


def newest(path: Path) -> int:
    """Return the iteration of the newest checkpoint; every one that is there must be whole."""
    found = newest_first(path / "checkpoints")
    for each in found:
        checkpoint = read_checkpoint(each, MAX_BYTES)
        expected = tensors(checkpoint.iteration)
        assert checkpoint.metadata == {"seconds": 1.5}
        assert checkpoint.tensors.keys() == expected.keys()
        for name, tensor in expected.items():
            np.testing.assert_array_equal(checkpoint.tensors[name], tensor)
    return int(found[0].name) if found else 0


def newest_good(path: Path) -> int:
    """Return the iteration of the newest checkpoint that is whole."""
    for each in newest_first(path / "checkpoints"):
        with suppress(InputError):
            return read_checkpoint(each, MAX_BYTES).iteration
    return 0


def damage(iteration: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path / "checkpoints" / f"{iteration:010d}" / STATE, 100)


def one_after_another(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        for step in steps:
            step(path)

    return run


def append(count: int) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        directory = RunDirectory(path, resume=True)
        for number in range(count):
            directory.append_metrics({"iteration": number, "train_loss": 0.5})
            directory.sync_metrics()

    return run


def append_one_more(path: Path) -> None:
    content = (path / METRICS).read_bytes()
    content = content[: content.rfind(b"\n") + 1]  # where a checkpoint says that it ended
    directory = RunDirectory(path, resume=True)
    directory.cut_metrics(LogEnd(len(content), hashlib.sha256(content).hexdigest()))
    directory.append_metrics({"iteration": 3, "train_loss": 0.5})
    directory.sync_metrics()


def lines(path: Path) -> int:
    """Return the number of lines that a reader finds."""
    found = read_record(path).metrics
    assert found == [{"iteration": number, "train_loss": 0.5} for number in range(len(found))]
    return len(found)


def write_result(name: str) -> Callable[[Path], None]:
    content = {"stopped_by": name, "epochs": 1, "iterations": 1, "long": 5000 * name}
    return lambda path: RunDirectory(path, resume=True).write_result(content)


def result(path: Path) -> str:
    record = read_record(path)
    return "" if record.result is None else record.result["stopped_by"]


def write_run(path: Path) -> None:
    RunDirectory(path).write_run({"config": {}})
    (path / "checkpoints").mkdir()


SCENARIOS = {
    "save": Scenario(save(1), save(2), newest),
    "rotate": Scenario(one_after_another(save(1), save(2)), save(3), newest),
    "replace": Scenario(one_after_another(save(1), save(2), damage(2)), save(2), newest_good),
    "append": Scenario(one_after_another(write_run, append(3)), append_one_more, lines),
    "result": Scenario(one_after_another(write_run, write_result("first")), write_result("second"), result),
}


@contextmanager
def prepared(scenario: Scenario, inside: str | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=inside) as folder:
        path = Path(folder) / "run"
        path.mkdir()
        scenario.prepare(path)
        yield path


def expected_states(scenario: Scenario) -> tuple[object, object]:
    with prepared(scenario) as path:
        old = scenario.state(path)
        scenario.act(path)
        return old, scenario.state(path)


def check(scenario: Scenario, path: Path, states: tuple[object, object]) -> object:
    """Check that a reader finds the old or the new state, and that the action can be done again; return the state."""
    found = scenario.state(path)
    assert found in states, found
    remove_partial_writes(path)
    if found == states[0]:
        scenario.act(path)
        assert scenario.state(path) == states[1]
    assert (
        len(newest_first(path / "checkpoints")) <= MAX_CHECKPOINTS + 1
    )  # the next one to be saved removes what is too many
    assert not list(path.rglob(".*.tmp"))
    return found


def kill_at_each_call(name: str) -> dict[str, int]:
    scenario, found = SCENARIOS[name], {"old": 0, "new": 0}
    states = expected_states(scenario)
    for number in range(100_000):
        with prepared(scenario) as path:
            killed = kill_before(lambda: scenario.act(path), number)
            if not killed:
                return {"calls": number, **found}
            found["old" if check(scenario, path, states) == states[0] else "new"] += 1
    raise AssertionError("it does not end")


def kill_at_random(count: int) -> dict[str, int]:
    found = {"old": 0, "new": 0}
    for number in range(count):
        scenario = SCENARIOS[random.Random(number).choice(sorted(SCENARIOS))]
        states = expected_states(scenario)
        with prepared(scenario) as path:
            child = os.fork()
            if child == 0:
                try:
                    scenario.act(path)
                finally:
                    os._exit(0)
            time.sleep(random.Random(number).uniform(0, 0.01))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found["old" if check(scenario, path, states) == states[0] else "new"] += 1
    return {"kills": count, **found}


CALLS = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "ftruncate", "close")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EACCES, "short")


@contextmanager
def failing(number: int, error: int | str, *, forever: bool) -> Iterator[list[int]]:
    """Let call `number` of those that change files fail, or all from there on; yields the count of the calls."""
    real = {name: getattr(os, name) for name in CALLS}
    calls = [0]

    def replace(name: str) -> Callable:
        def call(*args, **options):
            calls[0] += 1
            if calls[0] - 1 == number or (forever and calls[0] > number):
                if error == "short":
                    if name == "write":
                        return real["write"](args[0], args[1][: max(len(args[1]) // 2, 1)])
                elif name != "close":
                    raise OSError(error, os.strerror(error))  # pyright: ignore[reportArgumentType]
            return real[name](*args, **options)

        return call

    for name in CALLS:
        setattr(os, name, replace(name))
    try:
        yield calls
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def fail_at_each_call(name: str) -> dict[str, int]:
    scenario, found = SCENARIOS[name], {"old": 0, "new": 0, "raised": 0}
    states = expected_states(scenario)
    for error in ERRORS:
        for forever in (False, True):
            for number in range(100_000):
                with prepared(scenario) as path:
                    with failing(number, error, forever=forever) as calls:
                        try:
                            scenario.act(path)
                        except OSError:
                            found["raised"] += 1
                    if calls[0] <= number:
                        break
                    found["old" if check(scenario, path, states) == states[0] else "new"] += 1
    return found


def leave_room(path: Path, pages: int) -> None:
    """Write a file that takes all the room of its file system but some pages."""
    page = bytes(4096)
    descriptor, written = os.open(path, os.O_WRONLY | os.O_CREAT), 0
    try:
        with suppress(OSError):
            while True:
                written += os.write(descriptor, page)
                os.fsync(descriptor)
        os.ftruncate(descriptor, max(written - pages * len(page), 0))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fill_up(folder: str) -> dict[str, int]:
    """Do all there is to do with no room, with one page, with two, until there is enough."""
    found = {"old": 0, "new": 0, "raised": 0}
    for scenario in SCENARIOS.values():
        states = expected_states(scenario)
        for pages in range(100_000):
            raised = None
            with prepared(scenario, folder) as path:
                ballast = Path(folder, "ballast")
                leave_room(ballast, pages)
                try:
                    scenario.act(path)
                except OSError as error:
                    raised = error.errno
                ballast.unlink()
                assert raised in (None, errno.ENOSPC)
                found["raised"] += raised is not None
                found["old" if check(scenario, path, states) == states[0] else "new"] += 1
            if raised is None:
                break
    return found


def main(arguments: list[str]) -> int:
    match arguments:
        case ["kill", name]:
            print(json.dumps(kill_at_each_call(name)))
        case ["fail", name]:
            print(json.dumps(fail_at_each_call(name)))
        case ["full", folder]:
            print(json.dumps(fill_up(folder)))
        case ["random", count]:
            print(json.dumps(kill_at_random(int(count))))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
