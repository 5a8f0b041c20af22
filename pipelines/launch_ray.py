"""The Ray launcher: tasks on a cluster of any size; where models run, one actor a GPU that holds them.

A task whose worker or node dies is started again elsewhere. What a task writes it names itself and publishes whole, so
a task that runs twice does no harm. The nodes share the file system of the build folder and of the cache.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from ..manifests.errors import RunError, UsageError
from .launch_local import one_thread

_RETRIES = 5  # of a task, for workers and nodes that die


@contextmanager
def session(launcher: str, workers: int, address: str = "") -> Iterator[None]:
    """Keep a Ray runtime for several runs, unless one is up; nothing for another launcher.

    Args:
        launcher: ``ray`` or another.
        workers: cores of the runtime that is started here.
        address: of a cluster to join instead: ``auto`` for the one of this machine, or ``HOST:PORT``.

    Raises:
        UsageError: Ray is not installed, or no cluster answers at the address.
    """
    if launcher != "ray":
        yield
        return
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    where = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(**where, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError) as error:
        raise UsageError(f"--address: expected a running Ray cluster at {address!r}: {error}; ray start it") from error
    try:
        yield
    finally:
        ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError("--launcher ray: Ray is not installed; install layerkit[ray]") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a build tells nobody that it runs
    return ray


def run_on_ray(function: Callable[[Any], Any], items: Iterable[Any], workers: int, gpu: bool) -> Iterator[Any]:
    """See :func:`.launch.run`."""
    with session("ray", workers):
        ray = _ray()
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if gpu else 0
        submit = _actors(ray, function, gpus) if gpus else _tasks(ray, function)
        limit = 2 * (gpus or int(resources.get("CPU", workers)))
        yield from _results(ray, submit, iter(items), limit, force=not gpus)


def _tasks(ray: Any, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    remote = ray.remote(num_cpus=1, max_retries=_RETRIES, scheduling_strategy="SPREAD")(_with_one_thread)
    return lambda item: remote.remote(function, item)


def _actors(ray: Any, function: Callable[[Any], Any], gpus: int) -> Callable[[Any], Any]:
    """Items in turn to one actor a GPU; each keeps its models from item to item, as a process does."""
    remote = ray.remote(num_gpus=1, max_restarts=_RETRIES, max_task_retries=_RETRIES)(_Actor)
    actors = [remote.remote(function) for _ in range(gpus)]
    turn = iter(range(1 << 62))
    return lambda item: actors[next(turn) % gpus].run.remote(item)


class _Actor:
    """Runs a function in a process that has a GPU to itself."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        one_thread()
        self._function = function

    def run(self, item: Any) -> Any:
        return self._function(item)


def _results(ray: Any, submit: Callable[[Any], Any], items: Iterator[Any], limit: int, *, force: bool) -> Iterator[Any]:
    pending: list[Any] = []
    try:
        pending = [submit(item) for item in islice(items, limit)]
        while pending:
            done, pending = ray.wait(pending, num_returns=1)
            pending += [submit(item) for item in islice(items, len(done))]
            yield from ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise RunError(f"Ray gave up: {error}; what was finished is kept: run the same command again") from error
    finally:
        for task in pending:  # after an error or an interrupt nobody waits for them
            ray.cancel(task, force=force)  # Ray forces tasks alone, not actors


def _with_one_thread(function: Callable[[Any], Any], item: Any) -> Any:
    one_thread()
    return function(item)
