"""Tasks of a Ray cluster, or of one that Ray starts on this machine."""

import logging
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
from ray import exceptions  # pyright: ignore[reportMissingImports]

from lenet_jax.engines import Future


class RayEngine:
    """Hands all tasks to Ray, which has a queue of its own; each task has a GPU if the cluster has any."""

    lost = (
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.LocalRayletDiedError,
        exceptions.ObjectLostError,
        exceptions.OutOfMemoryError,
        exceptions.TaskCancelledError,
    )
    num_workers = None

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Connect to the cluster, or start one.

        Args:
            options: of the launcher `ray`: `init`, the arguments of `ray.init`, and `remote`, those of `ray.remote`.
        """
        self._owns = not ray.is_initialized()
        if self._owns:
            before = signal.getsignal(signal.SIGTERM)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="os.fork")  # Ray forks to start programs, which is safe
                ray.init(**{"log_to_driver": False, "logging_level": logging.WARNING, **_given(options.get("init"))})
            signal.signal(signal.SIGTERM, before)  # for which Ray has a handler that ends the process
        gpus = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {}
        self._options = {"max_retries": 0, **gpus, **_given(options.get("remote"))}

    def start(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Sequence[Future]:
        """See `Engine.start`."""
        shared = ray.put(function)
        return [_Remote(_call.options(**self._options).remote(shared, task)) for task in tasks]

    def close(self) -> None:
        """See `Engine.close`."""
        if self._owns:
            ray.shutdown()


def _given(arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments that are not left to Ray."""
    return {name: value for name, value in (arguments or {}).items() if value is not None}


@ray.remote
def _call(function: Callable[[Any], Any], task: Any) -> Any:
    return function(task)


class _Remote:
    """A task of Ray as a future."""

    def __init__(self, reference: Any) -> None:
        self._reference, self._future = reference, reference.future()

    def done(self) -> bool:
        return self._future.done()

    def result(self) -> Any:
        return self._future.result()

    def cancel(self) -> None:
        ray.cancel(self._reference)
