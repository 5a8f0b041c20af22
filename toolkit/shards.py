"""The only place that knows the members: ``Record + Layers`` to a WebDataset sample and back, and the tars they lie in.

A sample is ``KEY.image.png|jpg``, ``KEY.foreground.png``, ``KEY.background.png|jpg``, ``KEY.mask.png``,
``KEY.shadow.png``, ``KEY.occluder.png`` and ``KEY.json``: the same members in every sample, adjacent, in this order.
Tars are plain ustar with zeroed times and owners, so equal samples give equal bytes.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import BadImage, ShardError, UsageError
from ..manifests.record import Record
from .images import decode_member, encode_jpeg, encode_png
from .layers import CHANNELS, Layers

_BLOCK = 512
_RECORD = 10_240  # tar files end on a multiple of twenty blocks
_BUFFER = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """File formats of the members.

    Attributes:
        image: ``png`` keeps the recomposition bit-exact; ``jpg`` is a third of the size.
        background: ``jpg`` is encoded first and composed from its decoded pixels, so it costs no exactness.
        quality: of JPEG members, 1..100, always 4:4:4.
    """

    image: Literal["png", "jpg"] = "png"
    background: Literal["png", "jpg"] = "jpg"
    quality: int = 95

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise UsageError(f"members.quality must lie in 1..100, got {self.quality}; 95 is a good value")

    @property
    def recomposition_bound(self) -> int:
        """Levels by which the recomposed members may differ from the image member at most.

        JPEG errors have no useful closed bound; 64 is far above what quality 95 does and catches a wrong layer.
        """
        return 0 if self.image == "png" else 64

    def encode_background(self, background: NDArray[np.uint8]) -> tuple[bytes, NDArray[np.uint8]]:
        """The background's bytes and the pixels that a reader will decode from them: compose on these."""
        if self.background == "png":
            return encode_png(background), background
        data = encode_jpeg(background, self.quality)
        return data, decode_member(data, "jpg")

    def encode_image(self, image: NDArray[np.uint8]) -> bytes:
        """The image's bytes."""
        return encode_png(image) if self.image == "png" else encode_jpeg(image, self.quality)


def encode_sample(
    record: Record, layers: Layers, image: bytes, members: Members, background: bytes
) -> dict[str, bytes]:
    """Member name to bytes, in the order of the tar; ``image`` and ``background`` come encoded by :class:`Members`."""
    return {
        f"image.{members.image}": image,
        "foreground.png": encode_png(layers.foreground),
        f"background.{members.background}": background,
        "mask.png": encode_png(layers.mask),
        "shadow.png": encode_png(layers.shadow),
        "occluder.png": encode_png(layers.occluder),
        "json": record.to_json(),
    }


def decode_layers(sample: Mapping[str, Any], where: str = "sample") -> Layers:
    """The layers of a sample of encoded members, alpha kept.

    Takes what :func:`read_samples` yields and what ``webdataset`` yields before its own decoding, so
    ``wds.WebDataset(url).map(decode_layers)`` works.

    Raises:
        ShardError: a member is missing, unknown, broken, or of another size than the rest.
    """
    names = [name for name in sample if not name.startswith("__") and name != "json"]
    found = {name.partition(".")[0]: name for name in names}
    if found.keys() != CHANNELS.keys() or len(names) != len(found):
        raise ShardError(f"{where}: expected each of the members {list(CHANNELS)} once, got {names}")
    try:
        layers = {layer: decode_member(sample[name], name.rpartition(".")[2]) for layer, name in found.items()}
        return Layers(**layers)
    except (BadImage, ValueError) as error:
        raise ShardError(f"{where}: {error}") from error


def decode_record(sample: Mapping[str, Any], where: str = "sample") -> Record:
    """The record of a sample of encoded members.

    Raises:
        ShardError: the ``json`` member is missing or breaks the schema.
    """
    if "json" not in sample:
        raise ShardError(f"{where}: expected a json member, got {sorted(sample)}")
    return Record.from_json(sample["json"], where)


class TarWriter:
    """Writes samples into a plain ustar file and digests what it writes.

    Attributes:
        size: bytes written so far.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=_BUFFER)
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, key: str, sample: Mapping[str, bytes]) -> None:
        """Append one sample's members."""
        for name, data in sample.items():
            self.write_member(f"{key}.{name}", data)

    def write_member(self, name: str, data: bytes) -> None:
        """Append one member."""
        self._put(_header(name, len(data)))
        self._put(data)
        self._put(bytes(-len(data) % _BLOCK))

    def close(self) -> str:
        """End the archive, bring it to the disk, and return the sha256 of its bytes."""
        self._put(bytes(2 * _BLOCK))
        self._put(bytes(-self.size % _RECORD))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.hexdigest()

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._file.closed:
            self._file.close()


def _header(name: str, size: int) -> bytes:
    encoded = name.encode("ascii")
    if len(encoded) > 100:
        raise ValueError(f"a member name may have 100 bytes, got {len(encoded)}: {name}")
    fields = b"".join(
        [
            encoded.ljust(100, b"\0"),
            b"0000644\0" + b"0000000\0" * 2,
            b"%011o\0" % size,
            b"%011o\0" % 0,
            b" " * 8,
            b"0" + bytes(100),
            b"ustar\x0000",
            bytes(64),
            b"0000000\0" * 2,
            bytes(167),
        ]
    )
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def read_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every member of a shard, in order; strict where ``tarfile`` and ``webdataset`` are silent.

    Raises:
        ShardError: a truncated file, a bad header, or an archive without its end mark.
    """
    length = path.stat().st_size
    if length < 2 * _BLOCK:
        raise ShardError(f"{path}: expected a tar, got {length} bytes; the shard is truncated")
    with path.open("rb", buffering=1 << 20) as file:  # not mapped: the pages of a tar would count as our memory
        yield from _walk(file, length, path)


def _walk(file: BinaryIO, length: int, path: Path) -> Iterator[tuple[str, bytes]]:
    position = 0
    while position + _BLOCK <= length:
        header = file.read(_BLOCK)
        if not any(header):
            if length - position < 2 * _BLOCK or any(file.read()):
                raise ShardError(f"{path}: expected zeros to the end from byte {position} on; the shard is damaged")
            return
        name, size = parse_header(header, path, position)
        padding = -size % _BLOCK
        position += _BLOCK + size + padding
        if position > length:
            break
        yield name, file.read(size)
        file.seek(padding, os.SEEK_CUR)
    raise ShardError(f"{path}: the archive breaks off at byte {length} without its end mark; the shard is truncated")


def parse_header(header: bytes, path: Path, position: int) -> tuple[str, int]:
    """Name and size of the member that a block of 512 bytes at ``position`` announces.

    Raises:
        ShardError: its checksum or size is wrong.
    """
    expected = sum(header[:148]) + 8 * 32 + sum(header[156:])
    try:
        if header[148:156] != b"%06o\0 " % expected:
            raise ValueError("checksum")
        if not header[124:135].isdigit():
            raise ValueError("size")
        return header[:100].rstrip(b"\0").decode("ascii"), int(header[124:135], 8)
    except ValueError as error:
        raise ShardError(f"{path}: bad tar header at byte {position} ({error}); the shard is damaged") from error


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members (``image.png`` … ``json``) of every sample of a shard.

    Raises:
        ShardError: see :func:`read_members`; or a member twice in one sample.
    """
    return _group(read_members(path), path)


def _group(members: Iterable[tuple[str, bytes]], path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    key, sample = "", dict[str, bytes]()
    for name, data in members:
        stem, _, member = name.partition(".")
        if stem != key and sample:
            yield key, sample
            sample = {}
        if member in sample:
            raise ShardError(f"{path}: member {name} stands twice")
        key = stem
        sample[member] = data
    if sample:
        yield key, sample
