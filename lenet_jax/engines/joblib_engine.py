"""Tasks in processes of this machine, by the executor of joblib, loky."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from joblib import effective_n_jobs
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

from lenet_jax.engines import Future


class JoblibEngine:
    """Has an executor for each process: when a process is killed, loky ends all tasks of its executor."""

    lost = (BrokenProcessPool,)

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Create the engine; processes begin with the first tasks.

        Args:
            options: of Hydra's launcher `joblib`; `n_jobs`: number of processes, -1: one for each core.
        """
        self.num_workers: int | None = effective_n_jobs(options.get("n_jobs", -1))
        self._idle: list[ProcessPoolExecutor] = []
        self._busy: list[tuple[ProcessPoolExecutor, Any]] = []

    def start(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Sequence[Future]:
        """See `Engine.start`."""
        return [self._start(function, task) for task in tasks]

    def close(self) -> None:
        """See `Engine.close`."""
        for executor in [*self._idle, *(executor for executor, _ in self._busy)]:
            executor.shutdown(wait=False, kill_workers=True)

    def _start(self, function: Callable[[Any], Any], task: Any) -> Future:
        done = [each for each in self._busy if each[1].done()]
        self._busy = [each for each in self._busy if each not in done]
        self._idle += [executor for executor, future in done if not _is_broken(future)]
        executor = self._idle.pop() if self._idle else ProcessPoolExecutor(1)
        future = executor.submit(function, task)
        self._busy.append((executor, future))
        return future


def _is_broken(future: Any) -> bool:
    return not future.cancelled() and isinstance(future.exception(), BrokenProcessPool)
