"""The Ray launcher: tasks on a cluster of any size; where models run, one actor a GPU that holds them.

A task whose worker or node dies is started again elsewhere. What a task writes it names itself and publishes whole, so
a task that runs twice does no harm. The nodes share the file system of the build folder and of the cache.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from ..manifests.errors import RunError, UsageError
from .launch_local import one_thread

_RETRIES = 5  # of an item, for workers and nodes that die
_ANSWER = 10  # seconds in which a cluster answers
_OBJECTS = 128 << 20  # bytes that a runtime started here keeps: results are commits and rows, never pixels


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
    alone = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": _OBJECTS}
    options = {"address": address} if address else {"address": "local", **alone}
    try:
        _knock(address)
        ray.init(**options, log_to_driver=False, configure_logging=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--address: expected auto or the HOST:PORT of a running Ray cluster, got {address!r}: {error}; "
            "start one with ray start --head, or leave --address away"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a build tells nobody that it runs
    try:
        import ray
    except ImportError as error:
        raise UsageError("--launcher ray: Ray is not installed; install layerkit[ray]") from error
    return ray


def _knock(address: str) -> None:
    """See whether anybody listens there: Ray itself tries for minutes, and then ends the program."""
    host, colon, port = address.rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()


def run_on_ray(function: Callable[[Any], Any], items: Iterable[Any], workers: int, gpu: bool) -> Iterator[Any]:
    """See :func:`.launch.run`."""
    with session("ray", workers):
        ray = _ray()
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if gpu else 0
        try:
            if gpus:
                yield from _Crew(ray, function, iter(items)).results(gpus)
            else:
                yield from _by_tasks(ray, function, iter(items), 2 * max(1, int(resources.get("CPU", workers))))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise RunError(f"Ray gave up: {error}; what was finished is kept: run the same command again") from error


def _by_tasks(ray: Any, function: Callable[[Any], Any], items: Iterator[Any], limit: int) -> Iterator[Any]:
    remote = ray.remote(num_cpus=1, max_retries=_RETRIES, scheduling_strategy="SPREAD")(_with_one_thread).remote
    pending = [remote(function, item) for item in islice(items, limit)]
    try:
        while pending:
            done, pending = ray.wait(pending)
            pending += [remote(function, item) for item in islice(items, len(done))]
            yield from ray.get(done)
    finally:
        for task in pending:  # after an error or an interrupt nobody waits for them
            ray.cancel(task, force=True)


def _with_one_thread(function: Callable[[Any], Any], item: Any) -> Any:
    one_thread()
    return function(item)


class _Actor:
    """Runs a function in a process that has a GPU to itself and keeps its models from item to item."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        one_thread()
        self._function = function

    def ready(self) -> None:
        """Return once there is a GPU."""

    def run(self, item: Any) -> Any:
        return self._function(item)


@dataclass(slots=True, eq=False)
class _Order:
    """What an actor was asked for, and how many died of it."""

    item: Any
    deaths: int = 0


class _Crew:
    """Actors, one a GPU: an idle one gets the next item; one that dies is replaced, and its item given to another."""

    def __init__(self, ray: Any, function: Callable[[Any], Any], items: Iterator[Any]) -> None:
        self._ray = ray
        self._new_actor = partial(ray.remote(num_gpus=1, num_cpus=0)(_Actor).remote, function)
        self._first = [_Order(item) for item in islice(items, 1)]  # also those whose actor died
        self._others = map(_Order, items)
        self._start = _Order(None)
        self._actors: list[Any] = []
        self._idle: list[Any] = []
        self._calls: dict[Any, tuple[Any, _Order]] = {}

    def results(self, size: int) -> Iterator[Any]:
        """The results of all items, by ``size`` actors, as they come."""
        try:
            for _ in range(size if self._first else 0):
                self._hire()
            while self._is_at_work():
                (call,), _ = self._ray.wait(list(self._calls))
                results = self._answer(call)
                self._assign()
                yield from results
        finally:
            for actor in self._actors:  # after an error or an interrupt nobody waits for their items
                self._ray.kill(actor)

    def _hire(self) -> None:
        self._actors.append(self._new_actor())
        self._calls[self._actors[-1].ready.remote()] = self._actors[-1], self._start

    def _is_at_work(self) -> bool:
        """Whether results are to come: an actor that idles has found no item, and one that starts needs not."""
        return bool(self._calls) and (not self._idle or any(one is not self._start for _, one in self._calls.values()))

    def _answer(self, call: Any) -> list[Any]:
        """The result that came with a call; none where it tells that an actor has started or died."""
        actor, order = self._calls.pop(call)
        try:
            result = self._ray.get(call)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError:
            order.deaths += 1
            if order.deaths > _RETRIES:
                raise
            self._first += [order] if order is not self._start else []
            self._ray.kill(actor)
            self._hire()
            return []
        order.deaths = 0
        self._idle.append(actor)
        return [result] if order is not self._start else []

    def _assign(self) -> None:
        while self._idle and (order := self._first.pop() if self._first else next(self._others, None)):
            actor = self._idle.pop()
            self._calls[actor.run.remote(order.item)] = actor, order
