"""The local launcher: a pool of processes, each one core's work, that end with their parent."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

from ..manifests.errors import RunError


def run_locally(function: Callable[[Any], Any], items: Iterable[Any], workers: int, gpu: bool) -> Iterator[Any]:
    """See :func:`.launch.run`; models run in every worker, whatever it finds to run them on."""
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
