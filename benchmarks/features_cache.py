"""Feature vectors of pictures, kept by the picture's bytes, the recipe and the weights: a truth is looked at once."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..toolkit.files import write_atomically

U8 = NDArray[np.uint8]
Vectors = NDArray[np.float32]


class FeatureCache:
    """Vectors in a folder, a file a picture.

    Args:
        folder: of the cache.
        key: recipe and revision of the weights.
        extract: gives the function that maps pictures to vectors; not called where all are known.
    """

    def __init__(self, folder: Path, key: str, extract: Callable[[], Callable[[Sequence[U8]], Vectors]]) -> None:
        self._folder = folder / "features" / hashlib.sha256(key.encode()).hexdigest()[:16]
        self._extract = extract

    def put(self, pictures: Sequence[U8]) -> list[str]:
        """Make sure that the vectors of the pictures are known; return the names that :meth:`get` takes."""
        names = [_digest(picture) for picture in pictures]
        missing = {name: one for name, one in zip(names, pictures, strict=True) if not self.has(name)}
        if missing:
            for name, vector in zip(missing, self._extract()(list(missing.values())), strict=True):
                self._keep(self._path(name), vector)
        return names

    def _keep(self, path: Path, vector: Vectors) -> None:
        buffer = io.BytesIO()
        np.save(buffer, vector)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())

    def has(self, name: str) -> bool:
        """Whether a vector is known."""
        return self._path(name).is_file()

    def get(self, name: str) -> Vectors | None:
        """A vector, or None where the cache was emptied."""
        try:
            vector: Vectors = np.load(self._path(name), allow_pickle=False)
        except (OSError, ValueError):
            return None
        return vector

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.npy"


def _digest(picture: U8) -> str:
    digest = hashlib.sha256(str(picture.shape).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()
