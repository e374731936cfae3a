"""The function of the tasks that engines carry: a group of jobs, or a part of one, run in another process.

Engines pickle it by its name, and a process chooses its GPU before it imports jax, so this module must not import jax.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.environment import command, set_command
from lenet_jax.hydra_app.worker import set_up_process
from lenet_jax.runs.signals import interruptible

SECONDS_BETWEEN_LOOKS = 0.5  # at whether the sweep is to stop
_SETTINGS = ("JAX_", "XLA_", "LENET_JAX_", "TF_CPP_", "XDG_CACHE_HOME")  # beginnings of the names of variables


class GroupTask(NamedTuple):
    """A group of jobs that share a compiled program, or a part of one, which one process compiles and runs."""

    jobs: tuple[int, ...]  # numbers of all its jobs, those that have ended too: they decide the number of lanes

    @property
    def journal(self) -> str:
        """Return the name of its journal, a file in the folder of the launch."""
        return f"{self.jobs[0]}.jsonl"

    def __str__(self) -> str:
        first, last = self.jobs[0], self.jobs[-1]
        return f"job {first}" if first == last else f"jobs {first} to {last}"


class Launch(NamedTuple):
    """What all tasks of a sweep have in common; where its mark is gone, its tasks stop and can be resumed."""

    directory: str  # of the sweep, absolute
    folder: str  # of the launch, with its mark and the journals
    options: Mapping[str, Any]  # of `SweepConfig`
    hydra: Mapping[str, Any]  # Hydra's part of the composed configuration, unresolved
    callbacks: Any  # of Hydra
    allowed: tuple[str, ...]  # packages that recorded configurations may name; "*": all

    @property
    def mark(self) -> Path:
        """Return the file that is there as long as the tasks are to run."""
        return Path(self.folder, "running")


class GroupWorker(NamedTuple):
    """Runs a task in another process; can be pickled."""

    launch: Launch
    starter: tuple[str, int]  # the machine and the process id of the command line
    working_directory: str
    environment: Mapping[str, str]  # settings of JAX and of this package
    command: tuple[str, ...]

    @classmethod
    def of_this_process(cls, launch: Launch) -> "GroupWorker":
        """Return the function for a sweep that this process runs."""
        settings = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}
        return cls(launch, (_this_machine(), os.getpid()), str(Path.cwd()), settings, tuple(command()))

    def __call__(self, task: GroupTask) -> bool:
        """Run the pending jobs of a task.

        Args:
            task: the task.

        Returns:
            Whether they have ended; otherwise their states are saved, and the task can go on elsewhere.
        """
        requeue: Callable[[], None] | None = None
        try:
            with interruptible() as interrupt, _preempted(interrupt) as requeue, self._watched(interrupt):
                self._set_up()
                from lenet_jax.hydra_app.run_group import run_group

                run_group(task, self.launch)
        except KeyboardInterrupt:
            if requeue is not None:
                requeue()
            return False
        return True

    def checkpoint(self, task: GroupTask) -> Any:
        """Return what submitit queues again when SLURM takes the machine back: the same task."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, task)

    def _set_up(self) -> None:
        os.environ.update(self.environment)
        if Path(self.working_directory).is_dir():
            os.chdir(self.working_directory)
        set_up_process()
        set_command(self.command)

    @contextlib.contextmanager
    def _watched(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Interrupt the block when the sweep is to stop, or its process on this machine is gone."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(SECONDS_BETWEEN_LOOKS):
                if not self._is_running():
                    interrupt()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _is_running(self) -> bool:
        machine, process = self.starter
        return self.launch.mark.exists() and (machine != _this_machine() or _exists(process))


def _this_machine() -> str:
    """Return what identifies the machine, or the container, in which numbers of processes count."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {namespace.readlink() if namespace.exists() else ''}"


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextlib.contextmanager
def _preempted(interrupt: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Have the states saved before submitit's own handler puts a preempted task into the queue again.

    Args:
        interrupt: interrupts the block.

    Yields:
        A function that calls that handler if its signal was received. It ends the process, unless the task has timed
        out too often for `max_num_timeout`; then the function returns, and the sweep submits the task anew.
    """
    number = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}")
    handler = signal.getsignal(number)
    if "SUBMITIT_EXECUTOR" not in os.environ or not callable(handler):
        yield lambda: None
        return
    from submitit.core.utils import UncompletedJobError

    received: list[int] = []

    def requeue() -> None:
        if received:
            with contextlib.suppress(UncompletedJobError):
                handler(number, None)

    def save(number: int, frame: Any) -> None:
        if not received:
            interrupt()
        received.append(number)

    signal.signal(number, save)
    try:
        yield requeue
    finally:
        signal.signal(number, handler)
