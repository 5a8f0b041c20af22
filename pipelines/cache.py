"""A content-addressed cache of bundles (named byte strings) for what is costly: cut-outs, mattes, model calls.

A bundle lies in one small tar named by the hash of everything it depends on. A broken one is read as absent and made
anew.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..manifests.errors import ShardError
from ..toolkit.shards import TarWriter, read_members

_DIGEST = "sha256"  # the last member of a bundle


def bundle_key(input_sha256: str, step: str, parameters: Mapping[str, Any]) -> str:
    """The name of what ``step`` makes of the input bytes with these parameters, models' revisions among them."""
    text = json.dumps([input_sha256, step, parameters], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(bundle: Mapping[str, bytes]) -> bytes:
    return hashlib.sha256(b"".join(bundle.values())).hexdigest().encode()


class Cache:
    """Bundles in a folder; safe for many processes at once, for a bundle is renamed into place whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where a bundle lies or would lie."""
        return self.folder / "bundles" / key[:2] / f"{key}.tar"

    def get(self, key: str) -> dict[str, bytes] | None:
        """The bundle, or None where it is absent or broken."""
        try:
            bundle = dict(read_members(self.path(key)))
        except (FileNotFoundError, ShardError):
            return None
        return bundle if bundle.pop(_DIGEST, b"") == _digest(bundle) else None

    def put(self, key: str, bundle: Mapping[str, bytes]) -> None:
        """Store a bundle.

        Raises:
            OSError: the folder cannot be written.
        """
        final = self.path(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{uuid.uuid4().hex}")
        try:
            with TarWriter(partial) as tar:
                for name, data in {**bundle, _DIGEST: _digest(bundle)}.items():
                    tar.write_member(name, data)
                tar.close()
            partial.replace(final)
        finally:
            partial.unlink(missing_ok=True)
