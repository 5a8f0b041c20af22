"""One file from a web server: resumed where an earlier run left off, checked, and in place whole or not at all.

The bytes gather in ``NAME.part``, are checked against the length and the hash that the server or the caller names, and
are then renamed. Public buckets name an MD5: Google's in ``x-goog-hash``, Amazon's as the ETag of a file that was not
uploaded in parts.
"""

import base64
import binascii
import hashlib
import os
import re
import ssl
import threading
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ..manifests.errors import RunError, UsageError

_BLOCK = 1 << 18
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "layerkit"}
_GONE = {404, 410}
_REFUSED = {401, 403}
_WORTH_A_RETRY = {408, 416, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a transfer is tried.

    Attributes:
        stall: seconds without a byte after which the connection is given up.
        tries: how often a file is asked for in all.
        pause: seconds before the second try, doubled before each further one, at most a minute.
    """

    stall: float = 30.0
    tries: int = 5
    pause: float = 1.0


class TransferError(RunError):
    """A file that did not come. ``reason`` is ``not_found``, ``refused`` or ``failed``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Again(Exception):
    """This try failed in a way that another may not."""


def download(
    address: str, path: Path, patience: Patience, digest: str = "", stop: threading.Event | None = None
) -> int:
    """Bring ``address`` to ``path``; return its length in bytes, 0 where the file was there already.

    Args:
        address: http or https.
        path: of the file; a file there is final, unless its digest is known and another.
        patience: how long it is tried.
        digest: ``md5:HEX`` or ``sha256:HEX`` where the caller knows it.
        stop: set by another thread to end the waiting between tries.

    Raises:
        TransferError: the file did not come; what came so far stays for the next run.
        UsageError: another kind of address.
        OSError: the file cannot be written.
    """
    if urlsplit(address).scheme not in ("http", "https"):
        raise UsageError(f"expected an http or https address, got {address!r}")
    if path.exists() and (not digest or _hash(path, digest) == digest):
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    stop, why = stop or threading.Event(), ""
    for attempt in range(patience.tries):
        if attempt and stop.wait(min(60.0, patience.pause * 2 ** (attempt - 1))):
            break
        try:
            named = _receive(address, part, patience.stall)
            _check(part, digest or named)
        except _Again as error:
            why = str(error)
        else:
            os.replace(part, path)
            return path.stat().st_size
    raise TransferError("failed", f"{address}: {why}; tried {attempt + 1} times, run it again to go on")


def length(address: str, patience: Patience) -> int:
    """Bytes of the file at an http or https address, 0 where the server does not say; asked once."""
    request = Request(address, headers=_HEADERS, method="HEAD")
    try:
        with urlopen(request, timeout=patience.stall) as response:
            said = response.headers.get("Content-Length", "")
    except (OSError, HTTPException):
        return 0
    return int(said) if said.isdigit() else 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(address: str, part: Path, stall: float) -> str:
    """Add to ``part`` what it lacks; return the digest that the server names, empty where it names none."""
    offset = _size(part)
    headers = _HEADERS | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        with urlopen(Request(address, headers=headers), timeout=stall) as response:
            _append(response, part, *_agreed_offset(response, part, offset))
            return _named_digest(response.headers)
    except HTTPError as error:
        with error:
            raise _meaning(address, error.code, part) from error
    except (URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        raise _Again(str(error) or type(error).__name__) from error


def _meaning(address: str, status: int, part: Path) -> _Again | TransferError:
    if status == 416:  # the part is as long as the file or longer: whose bytes these are cannot be told
        part.unlink(missing_ok=True)
    if status in _WORTH_A_RETRY:
        return _Again(f"HTTP status {status}")
    reason = "not_found" if status in _GONE else "refused" if status in _REFUSED else "failed"
    return TransferError(reason, f"{address}: HTTP status {status}")


def _agreed_offset(response: HTTPResponse, part: Path, offset: int) -> tuple[int, int | None]:
    """Where in the file the answer begins, 0 where the server ignores ranges; and the whole file's length, if known."""
    length = response.headers.get("Content-Length", "")
    if response.status != 206:
        return 0, int(length) if length.isdigit() else None
    span = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", response.headers.get("Content-Range", ""))
    if span is None or int(span[1]) != offset or _changed_since(part, response.headers):
        part.unlink(missing_ok=True)
        raise _Again("the server's file is not the one begun")
    return offset, int(span[2]) if span[2] != "*" else None


def _changed_since(part: Path, headers: Message) -> bool:
    try:
        changed = parsedate_to_datetime(headers.get("Last-Modified", "")).timestamp()
    except ValueError:
        return False
    return changed > part.stat().st_mtime


def _append(response: HTTPResponse, part: Path, offset: int, length: int | None) -> None:
    with part.open("r+b" if offset else "wb") as file:
        file.seek(offset)
        while block := response.read1(_BLOCK):
            file.write(block)
        size = file.tell()
    if length is not None and size != length:
        raise _Again(f"cut short: {size} of {length} bytes")


def _named_digest(headers: Message) -> str:
    """The MD5 that a bucket names, as ``md5:HEX``; empty for a server that names none."""
    google = re.search(r"\bmd5=([A-Za-z0-9+/=]+)", headers.get("x-goog-hash", ""))
    if google:
        try:
            return f"md5:{base64.b64decode(google[1], validate=True).hex()}"
        except binascii.Error:
            return ""
    etag = re.fullmatch(r'"([0-9a-f]{32})"', headers.get("ETag", ""))
    return f"md5:{etag[1]}" if etag and headers.get("Server") == "AmazonS3" else ""


def _hash(path: Path, digest: str) -> str:
    kind = digest.partition(":")[0]
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def _check(part: Path, digest: str) -> None:
    if digest and (found := _hash(part, digest)) != digest:
        part.unlink()
        raise _Again(f"the bytes are not those promised: expected {digest}, got {found}")
