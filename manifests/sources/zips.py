"""Zips read in place: what is in one, and the bytes of a member. Nothing is unpacked, so no name leads anywhere."""

import os
import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

from ..errors import BadImage, UsageError

MAX_MEMBER = 1 << 26
"""Bytes of a member, unpacked; a mask of Open Images has a few thousand."""

_LOCAL = struct.Struct("<4s4xH16x2H")  # signature, method, lengths of the name and of the extra field
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises for a damaged list of members.
_BROKEN = (zipfile.BadZipFile, NotImplementedError, OverflowError, ValueError, struct.error)


def members(path: Path, ending: str) -> dict[str, str]:
    """The members with an ending by the last part of their names; hidden ones are left out.

    Raises:
        UsageError: no zip, a name that stands twice, or a member that is encrypted or packed by another method than
            deflate.
    """
    found: dict[str, str] = {}
    for info in _listed(path):
        name = info.filename.rpartition("/")[2]
        if not name.endswith(ending) or name.startswith("."):
            continue
        if name in found:
            raise UsageError(f"{path}: expected every name once, got {name!r} twice; unpack it and keep the right one")
        if info.flag_bits & 1 or info.compress_type not in _METHODS:
            how = "encrypted" if info.flag_bits & 1 else f"packed by method {info.compress_type}"
            raise UsageError(f"{path}: expected plain or deflated members, got {name!r} {how}; unpack it")
        found[name] = info.filename
    return found


def _listed(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except _BROKEN as error:
        raise UsageError(f"{path}: expected a zip: {error}; download it again") from error


def read_member(path: Path, member: str, limit: int = MAX_MEMBER) -> bytes:
    """The bytes of a member, never more than ``limit`` of them.

    Opening a zip reads its whole list of members, 0.6 s for the 170,000 of an archive of Open Images: the list is read
    once a process.

    Raises:
        BadImage: ``unreadable`` where the zip or the member is missing, cut short or damaged, ``too_large``.
    """
    try:
        unpacked = _read(path, _spans(path), member, limit)
    except (OSError, UsageError, *_BROKEN, zlib.error) as error:
        raise BadImage("unreadable", f"{path}: expected {member!r} in this zip: {error}") from error
    if len(unpacked) > limit:
        raise BadImage("too_large", f"{path}: expected at most {limit} bytes in {member!r}, got more")
    return unpacked


def _read(path: Path, spans: dict[str, tuple[int, int]], member: str, limit: int) -> bytes:
    if member not in spans:
        raise ValueError("it has no such member")
    offset, size = spans[member]
    size = min(size, limit + 1)
    with path.open("rb") as file:
        file.seek(offset)
        signature, method, *lengths = _LOCAL.unpack(file.read(_LOCAL.size))
        file.seek(sum(lengths), os.SEEK_CUR)
        packed = file.read(size)
    if signature != b"PK\3\4" or method not in _METHODS or len(packed) < size:
        raise ValueError("no whole member is where the list of members says")
    return packed if method == zipfile.ZIP_STORED else _inflated(packed, limit)


def _inflated(packed: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    unpacked = stream.decompress(packed, limit + 1)
    if not stream.eof and len(unpacked) <= limit:
        raise ValueError("its bytes break off")
    return unpacked


@lru_cache(maxsize=16)
def _spans(path: Path) -> dict[str, tuple[int, int]]:
    """Member to the offset of its local header and its packed length."""
    return {info.filename: (info.header_offset, info.compress_size) for info in _listed(path)}
