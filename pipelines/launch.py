"""Launchers: run one function over many items, in this process, in a pool of processes, or on Ray.

Each yields results as they come; the order of the results carries no meaning, for every item names its own output.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from ..manifests.errors import RunError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")


def run(launcher: str, function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield ``function(item)`` for every item.

    Args:
        launcher: ``local`` or ``ray``.
        function: picklable; runs in a worker, so it returns little.
        items: taken as workers fall idle, so that a long plan needs no memory.
        workers: processes; 1 runs in this one (``local``).

    Raises:
        UsageError: an unknown launcher, or Ray is not installed.
        RunError: a worker was killed.
    """
    if launcher not in LAUNCHERS:
        raise UsageError(f"--launcher: expected one of {', '.join(LAUNCHERS)}, got {launcher!r}")
    return LAUNCHERS[launcher](function, items, workers)


@contextmanager
def session(launcher: str, workers: int) -> Iterator[None]:
    """Keep what a launcher starts (a Ray runtime, unless one is up) for several :func:`run`; nothing for ``local``.

    Raises:
        UsageError: Ray is not installed.
    """
    if launcher != "ray":
        yield
        return
    try:
        import ray
    except ImportError as error:
        raise UsageError("--launcher ray: Ray is not installed; install layerkit[ray]") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a build tells nobody that it runs
    if ray.is_initialized():
        yield
        return
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield
    finally:
        ray.shutdown()


def _local(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
    if workers == 1:
        one_thread()
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")  # forking a process that runs threads can deadlock
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        yield from _in_flight(pool, function, iter(items), 2 * workers)
        pool.shutdown()
    except BrokenProcessPool as error:
        raise RunError(
            "a worker died (killed, or out of memory?); what was finished is kept: run the same command again, "
            "with fewer --workers if memory is short"
        ) from error
    finally:
        _end(pool)


def _end(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: after an error or an interrupt nobody waits for their items."""
    processes = list((getattr(pool, "_processes", None) or {}).values())  # the pool forgets them in its shutdown
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def _in_flight(
    pool: ProcessPoolExecutor, function: Callable[[Any], Any], items: Iterator[Any], limit: int
) -> Iterator[Any]:
    pending: set[Future[Any]] = {pool.submit(function, item) for item in islice(items, limit)}
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        pending |= {pool.submit(function, item) for item in islice(items, len(done))}
        for future in done:
            yield future.result()


def _start_worker(parent: int) -> None:
    one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers itself
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def one_thread() -> None:
    """One process is one core's work: OpenCV's own threads would only fight the other workers."""
    import cv2

    cv2.setNumThreads(1)


def _ray(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
    with session("ray", workers):
        yield from _ray_tasks(function, items, workers)


def _ray_tasks(function: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
    import ray

    remote = ray.remote(num_cpus=1, max_retries=3)(_with_one_thread)
    pending: list[Any] = []
    try:
        source = iter(items)
        pending = [remote.remote(function, item) for item in islice(source, 2 * workers)]
        while pending:
            done, pending = ray.wait(pending, num_returns=1)
            pending += [remote.remote(function, item) for item in islice(source, len(done))]
            yield from ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise RunError(f"Ray gave up: {error}; what was finished is kept: run the same command again") from error
    finally:
        for task in pending:  # after an error or an interrupt nobody waits for them
            ray.cancel(task, force=True)


def _with_one_thread(function: Callable[[Any], Any], item: Any) -> Any:
    one_thread()
    return function(item)


LAUNCHERS: dict[str, Callable[[Callable[[Any], Any], Iterable[Any], int], Iterator[Any]]] = {
    "local": _local,
    "ray": _ray,
}
