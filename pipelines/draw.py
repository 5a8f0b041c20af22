"""Every random choice: a generator seeded by what the choice is for, never by who makes it or when."""

import hashlib

import numpy as np


def generator(fingerprint: str, *names: str | int) -> np.random.Generator:
    """A generator seeded by sha256 of the recipe's fingerprint and the names: sample, attempt, stage."""
    return np.random.default_rng(seed_of(fingerprint, *names))


def seed_of(fingerprint: str, *names: str | int) -> int:
    """The 128-bit seed of :func:`generator`."""
    text = "\0".join([fingerprint, *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
