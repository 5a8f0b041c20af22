"""What the tests of the launchers run: a spawned worker imports it, so it cannot stand in a test module."""

import os
import signal
import time
from pathlib import Path

from layerkit.manifests.errors import UsageError


def square(item: int) -> int:
    return item * item


def identity_of(item: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def fail_at(bad: int, item: int) -> int:
    if item == bad:
        raise UsageError(f"item {item} is bad")
    return item


def die_at(bad: int, item: int) -> int:
    if item == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def fail_or_linger(folder: Path, item: int) -> int:
    """Item 0 fails once the other worker is at work; the others would work for a minute."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    if item == 0:
        raise UsageError("item 0 is bad")
    time.sleep(60)
    return item
