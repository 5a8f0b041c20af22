"""Launchers: run one function over many items, in this process, in a pool of processes, or on Ray.

Each yields results as they come; the order of the results carries no meaning, for every item names its own output.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ..manifests.errors import UsageError
from .launch_local import run_locally
from .launch_ray import run_on_ray

Item = TypeVar("Item")
Result = TypeVar("Result")


def run(
    launcher: str, function: Callable[[Item], Result], items: Iterable[Item], workers: int, *, gpu: bool = False
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item.

    Args:
        launcher: ``local`` or ``ray``.
        function: picklable; runs in a worker, so it returns little.
        items: taken as workers fall idle, so that a long plan needs no memory.
        workers: processes; 1 runs in this one (``local``); on Ray the cores of the cluster count instead.
        gpu: the function runs models: on a Ray cluster with GPUs each item then goes to one of as many actors, which
            hold the models.

    Raises:
        UsageError: an unknown launcher, or Ray is not installed.
        RunError: a worker was killed.
    """
    if launcher not in LAUNCHERS:
        raise UsageError(f"--launcher: expected one of {', '.join(LAUNCHERS)}, got {launcher!r}")
    return LAUNCHERS[launcher](function, items, workers, gpu)


LAUNCHERS: dict[str, Callable[[Callable[[Any], Any], Iterable[Any], int, bool], Iterator[Any]]] = {
    "local": run_locally,
    "ray": run_on_ray,
}
