"""What lies where in a plain tar, so that members are read in place: nothing is unpacked, no name leads anywhere."""

import tarfile
from pathlib import Path

_FILE = tarfile.REGTYPE
_MAGIC = b"ustar"


Span = tuple[int, int]
"""Offset and length of a member's bytes."""


def members(path: Path) -> tuple[list[tuple[str, Span]], str]:
    """Name and span of the complete files of a tar, and what is wrong with the tar, empty where nothing is.

    ``tarfile`` takes a damaged header, and a file that breaks off between two members, for the end.
    """
    found: list[tuple[str, Span]] = []
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:", tarinfo=Header) as tar:
            for member in tar:
                if member.offset_data + member.size > size:
                    return found, f"ends after {size} bytes, within {member.name}"
                if member.isreg() and not member.issparse():
                    found.append((member.name, (member.offset_data, member.size)))
            end = tar.offset
        with path.open("rb") as file:
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                return found, f"has no end mark at byte {end}"
    except (tarfile.TarError, OSError) as error:
        return found, f"cannot be read further: {error}"
    return found, ""


class Header(tarfile.TarInfo):
    """A header, read several times faster than by :mod:`tarfile`.

    Only name, size and checksum are looked at where it is that of a plain file; else all of it.

    For ``tarfile.open(tarinfo=Header)``.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
        """See :meth:`tarfile.TarInfo.frombuf`."""
        if not _is_plain(buf):
            return super().frombuf(buf, encoding, errors)
        try:
            size, said = (int(field.strip(b"\0 "), 8) for field in (buf[124:136], buf[148:156]))
        except ValueError:  # a size beyond 8 GB has no digits
            return super().frombuf(buf, encoding, errors)
        if said != sum(buf) - sum(buf[148:156]) + 8 * ord(" "):
            return super().frombuf(buf, encoding, errors)
        header = cls(buf[:100].partition(b"\0")[0].decode(encoding, errors))
        header.size = size
        return header


def _is_plain(buf: bytes | bytearray) -> bool:
    """Whether a block is the header of a file whose name has no second part."""
    return len(buf) == tarfile.BLOCKSIZE and buf[156:157] == _FILE and buf[257:262] == _MAGIC and not buf[345]
