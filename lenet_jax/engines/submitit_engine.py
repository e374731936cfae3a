"""Tasks as jobs of SLURM, or as processes of this machine, by submitit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from submitit import AutoExecutor, Job
from submitit.core.utils import UncompletedJobError

from lenet_jax.engines import Future
from lenet_jax.environment import available_cores

_COMMON = (  # to all clusters; the names of the other options begin with that of their cluster
    *("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"),
    "stderr_to_stdout",
)


class SubmititEngine:
    """Submits the tasks that it takes at once as one array of jobs."""

    lost = (UncompletedJobError,)

    def __init__(self, cluster: str, options: Mapping[str, Any]) -> None:
        """Create the engine.

        Args:
            cluster: "slurm" or "local".
            options: of Hydra's launcher `submitit_slurm` or `submitit_local`.
        """
        options = {name: value for name, value in options.items() if name != "_target_"}
        timeouts = {f"{cluster}_max_num_timeout": options.pop(n) for n in ("max_num_timeout",) if n in options}
        self._executor = AutoExecutor(folder=options.pop("submitit_folder"), cluster=cluster, **timeouts)
        named = {name if name in _COMMON else f"{cluster}_{name}": value for name, value in options.items()}
        self._executor.update_parameters(**named)
        cores = available_cores() // (options.get("cpus_per_task") or 1)
        self.num_workers: int | None = max(cores, 1) if cluster == "local" else None

    def start(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Sequence[Future]:
        """See `Engine.start`."""
        return [_Submitted(job, self._executor.cluster) for job in self._executor.map_array(function, tasks)]

    def close(self) -> None:
        """See `Engine.close`."""


class _Submitted:
    """A job of submitit as a future."""

    def __init__(self, job: Job[Any], cluster: str) -> None:
        self._job, self._is_local = job, cluster == "local"

    def done(self) -> bool:
        return self._job.done()

    def result(self) -> Any:
        if self._is_local and not self._job.paths.result_pickle.exists():  # submitit waits for slow file systems
            raise UncompletedJobError(f"job {self._job.job_id} has ended without a result")
        return self._job.results()[0]

    def cancel(self) -> None:
        self._job.cancel(check=False)
