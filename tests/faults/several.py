"""One run of several processes on this host, that are started, killed and waited for.

python -m tests.faults.several COUNT [FIRST]: kills one process of COUNT runs, each at an instant of its own, and
resumes them.
"""

import contextlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.training import remains
from tests.faults.zygote import Ended, Zygote

SMALL = [
    "model._target_=tests.linear.linear",
    "data.train_size=200",
    "trainer.max_epochs=30",
    "optimizer=momentum",
    "sharding=data",
]


def free_port() -> int:
    with contextlib.closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Several:
    """Starts the same command in several processes, each in a folder of its own, that work on one run."""

    def __init__(self, zygote: Zygote, folder: Path, count: int) -> None:
        self._zygote, self._count, self.run = zygote, count, folder / "r"
        self._folders = [folder / str(number) for number in range(count)]
        for each in self._folders:
            each.mkdir(parents=True, exist_ok=True)
        self.children: list[int] = []

    def start(self, *options: str, late: float = 0.0, port: int | None = None) -> None:
        """Start the run, or resume what there is of it; the last process is `late` by so many seconds."""
        port = port or free_port()
        self.children = []
        resumes = (self.run / "run.json").exists()
        for number, folder in enumerate(self._folders):
            own = [f"coordinator=127.0.0.1:{port}", f"num_processes={self._count}", f"process_id={number}"]
            if self._count == 1:
                own = []
            if resumes:
                command = ["resume", str(self.run), *(f"--distributed.{each}" for each in own)]
            else:
                command = [
                    "train",
                    *SMALL,
                    *options,
                    f"hydra.run.dir={self.run}",
                    *(f"distributed.{each}" for each in own),
                ]
            if number == self._count - 1:
                time.sleep(late)
            self.children.append(self._zygote.start(command, folder))

    def wait(self) -> list[Ended]:
        return [self._zygote.wait(child, folder) for child, folder in zip(self.children, self._folders, strict=True)]

    def whole(self, *options: str) -> list[Ended]:
        self.start(*options)
        return self.wait()


def one_device_each(folder: Path) -> Zygote:
    return Zygote(XDG_CACHE_HOME=str(folder / "cache"), JAX_NUM_CPU_DEVICES="1", LENET_JAX_ALLOW="tests")


def reference(zygote: Zygote, folder: Path, count: int) -> tuple[dict[str, object], float]:
    """Run twice; what it leaves, and how long it takes with compiled programs at hand."""
    for name in ("first", "whole"):
        ended = Several(zygote, folder / name, count).whole()
        assert [each.code for each in ended] == [0] * count, ended
    return remains(folder / "whole" / "r"), max(each.seconds for each in ended)


def kill_and_resume(
    zygote: Zygote, folder: Path, count: int, whole: tuple[dict[str, object], float], number: int
) -> str:
    """Kill one process at an instant that depends on the number; all end; resume, and compare."""
    expected, seconds = whole
    chance = random.Random(number)
    run = Several(zygote, folder, count)
    run.start()
    time.sleep(chance.uniform(0, 1.05 * seconds))
    victim = chance.randrange(count)
    with contextlib.suppress(ProcessLookupError):
        os.kill(run.children[victim], signal.SIGKILL)
    killed = run.wait()
    for index, each in enumerate(killed):
        allowed = {0, 75} if index != victim else {0, 75, -signal.SIGKILL}
        assert each.code in allowed, (number, index, each)
    came = len(list(run.run.rglob("state.safetensors"))), (run.run / "result.json").exists()
    ended = run.whole()
    assert [each.code for each in ended] == [0] * count, (number, ended)
    assert remains(run.run) == expected, number
    return f"process {victim} of {count}: {[each.code for each in killed]}, {came[0]} checkpoints, ended: {came[1]}"


def main(arguments: list[str]) -> int:
    rounds, first = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
    with tempfile.TemporaryDirectory() as name, one_device_each(Path(name)) as zygote:
        wholes = {count: reference(zygote, Path(name) / f"whole-{count}", count) for count in (2, 4)}
        for number in range(first, first + rounds):
            count = (2, 4)[number % 2]
            came = kill_and_resume(zygote, Path(name) / str(number), count, wholes[count], number)
            print(f"{number}: {came}; resumed, equal", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
