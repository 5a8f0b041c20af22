"""What lies where in a plain tar, so that members are read in place: nothing is unpacked, no name leads anywhere."""

import tarfile
from pathlib import Path

from ..pairs import File
from .tars import Header


def members(path: Path) -> tuple[list[tuple[str, File]], str]:
    """Name and span of the complete files of a tar, and what is wrong with the tar, empty where nothing is.

    ``tarfile`` takes a damaged header, and a file that breaks off between two members, for the end.
    """
    found: list[tuple[str, File]] = []
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:", tarinfo=Header) as tar:
            for member in tar:
                if member.offset_data + member.size > size:
                    return found, f"unreadable_tar: {path} ends after {size} bytes, within {member.name}"
                if member.isreg() and not member.issparse():
                    found.append((member.name, File(path=path, span=(member.offset_data, member.size))))
            end = tar.offset
        with path.open("rb") as file:
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                return found, f"unreadable_tar: {path} has no end mark at byte {end}"
    except (tarfile.TarError, OSError) as error:
        return found, f"unreadable_tar: {path} cannot be read further: {error}"
    return found, ""
