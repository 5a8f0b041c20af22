"""Source ``embedded``: photographs inside PyPI packages that layerkit depends on; ``embedded.toml`` lists them."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..entry import Entry, Seed, Use
from ..errors import UsageError
from ..recipes import load_table
from ..schema import parse

_TABLE = Path(__file__).parent.parent / "embedded.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Photo:
    id: str
    package: str
    file: str
    uses: tuple[Use, ...]
    licence: str
    author: str
    url: str
    caption: str
    ground: float = 0.5
    objects: tuple[Seed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    photo: tuple[_Photo, ...]


def index(root: Path) -> Iterator[Entry]:
    """Yield the entries of ``embedded.toml``; ``root`` is not used, the packages lie where Python finds them.

    Raises:
        UsageError: a package or its file is missing.
    """
    for photo in parse(_Table, load_table(_TABLE), _TABLE.name).photo:
        yield Entry(
            source="embedded",
            id=photo.id,
            path=_locate(photo.package, photo.file),
            uses=photo.uses,
            licence=photo.licence,
            author=photo.author,
            url=photo.url,
            caption=photo.caption,
            ground=photo.ground,
            seeds=photo.objects,
        )


def _locate(package: str, file: str) -> Path:
    spec = find_spec(package)  # finds a top-level package without importing it
    if spec is None or spec.origin is None:
        raise UsageError(
            f"source 'embedded': expected the package {package}, which is not installed; install layerkit anew"
        )
    path = Path(spec.origin).parent / file
    if not path.is_file():
        raise UsageError(f"source 'embedded': expected {path}, which this version of {package} does not ship")
    return path
