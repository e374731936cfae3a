"""`lenet-jax` many times without importing jax each time: a process that has imported it, and forks for each command.

Nothing has asked jax for a device before the fork, so its threads do not exist yet. An empty value takes a variable out
of a command's environment, and YEARS_BACK sets its clock back.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parents[2]


class Ended(NamedTuple):
    """A command that has ended."""

    code: int  # negative: the signal that has ended it
    output: str
    seconds: float


class Zygote:
    """Starts commands; `environment` is added to that of this process."""

    def __init__(self, **environment: str) -> None:
        options = {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **environment}
        command = [sys.executable, "-m", "tests.faults.zygote"]
        self._process = subprocess.Popen(
            command, env={**os.environ, **options}, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self, arguments: list[str], folder: Path, **environment: str) -> int:
        """Start a command in a folder and return its process; what it prints goes to `output.txt` there."""
        return self._ask({"arguments": arguments, "folder": str(folder), "environment": environment})

    def wait(self, child: int, folder: Path) -> Ended:
        """Wait for a command that was started in a folder."""
        code, seconds = self._ask({"wait": child})
        output = folder / "output.txt"  # one that is killed at once may not have made it
        return Ended(code, output.read_text(errors="replace") if output.exists() else "", seconds)

    def run(self, arguments: list[str], folder: Path, *, kill_after: float | None = None, **environment: str) -> Ended:
        """Run a command, and kill it after so many seconds if it has not ended by then."""
        child = self.start(arguments, folder, **environment)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)  # until it is waited for, its number is no other's
        return self.wait(child, folder)

    def _ask(self, request: object):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _serve() -> None:
    import jax  # noqa: F401
    import pytest

    from tests.linear import put_in_place_of_lenet

    put_in_place_of_lenet(pytest.MonkeyPatch())
    answers, begun = os.fdopen(os.dup(1), "w"), {}
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = os.waitstatus_to_exitcode(status), time.perf_counter() - begun.pop(request["wait"])
        else:
            answer = os.fork()
            if answer == 0:
                _run(**request)
            begun[answer] = time.perf_counter()
        print(json.dumps(answer), file=answers, flush=True)


def _run(arguments: list[str], folder: str, environment: dict[str, str]) -> NoReturn:
    from lenet_jax.cli import main
    from tests.default_signals import set_default_signals

    code = 1
    set_default_signals()
    try:
        os.chdir(folder)
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for name, value in environment.items():
            os.environ[name] = value
            if not value:
                del os.environ[name]
        if "YEARS_BACK" in environment:
            now, seconds = time.time, float(environment["YEARS_BACK"]) * 365 * 86_400
            time.time = lambda: now() - seconds
        code = main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
