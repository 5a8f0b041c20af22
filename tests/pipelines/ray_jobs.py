"""What the tests of Ray run: its workers import it, so it cannot stand in a test module."""

import os
import signal
import time
from pathlib import Path

from layerkit.manifests.errors import BadImage

_done_here: list[int] = []


def counted(item: int) -> tuple[int, int]:
    """This process, and how many items it has done by now."""
    time.sleep(0.1)
    _done_here.append(item)
    return os.getpid(), len(_done_here)


def refuse(item: int) -> int:
    """Item 3 is no picture."""
    if item == 3:
        raise BadImage("truncated", "item 3")
    return item


def die_once(folder: Path, item: int) -> int:
    """Item 1 ends the first process that does it."""
    if item == 1 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def die(item: int) -> int:
    """Item 1 ends every process that does it."""
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def last_of(folder: Path, number: int, item: int) -> int:
    """Item 0 takes as long as all others together."""
    while item == 0 and len(list(folder.iterdir())) < number - 1:
        time.sleep(0.01)
    (folder / str(item)).touch()
    return item


def linger_once(folder: Path, item: int) -> tuple[int, str]:
    """Item and node; whoever is first to do an item leaves a note of where, and on another node is at it for a minute.

    The note ``home`` names the node that does not linger.
    """
    import ray

    node = ray.get_runtime_context().get_node_id()
    try:
        (folder / str(item)).open("x").write(node)
    except FileExistsError:
        return item, node
    if node != (folder / "home").read_text():
        time.sleep(60)
    return item, node
