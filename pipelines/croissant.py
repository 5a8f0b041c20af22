"""The build described for other programs: ``croissant.json`` (MLCommons Croissant 1.1), ``index.json`` (wids)."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..manifests.licences import LICENCES, strictest
from .features import member_names
from .ledger import BuildFolder, Commit, write_atomically
from .recipe import Recipe
from .tables import samples_schema

_TYPES = {"string": "sc:Text", "int64": "sc:Integer", "double": "sc:Float"}
_SAMPLES = "samples.parquet"

_TERMS = (
    "arrayShape citeAs column conformsTo:dct containedIn equivalentProperty extract field fileProperty fileObject "
    "fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex "
    "repeated replace samplingRate separator source subField transform"
)


def write_index(folder: BuildFolder, recipe: Recipe, shards: Sequence[Commit]) -> None:
    """Write the shard index that ``wids`` reads for random access; addresses are relative to the file."""
    listed = [
        {"url": f"data/{shard.tar}", "nsamples": shard.kept, "filesize": shard.bytes} for shard in shards if shard.tar
    ]
    index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": recipe.name, "shardlist": listed}
    write_atomically(folder.root / "index.json", json.dumps(index, indent=1).encode())


def write_croissant(folder: BuildFolder, recipe: Recipe, shards: Sequence[Commit], licences: Iterable[str]) -> None:
    """Write the Croissant description.

    Its record set is ``manifests/samples.parquet``, a row a sample; the members in the tars are file sets of their own,
    for Croissant cannot join them with the rows. A row names its tar and key instead.

    Args:
        folder: with ``manifests/samples.parquet`` already written.
        recipe: that was built.
        shards: commits of all shards.
        licences: of all samples.
    """
    tars = [shard for shard in shards if shard.tar]
    files = [_samples_file(folder.manifests / _SAMPLES), *(_tar_file(shard) for shard in tars)]
    licence = strictest(licences)
    described = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": f"layerkit-{recipe.name}",
        "description": f"Image layer decomposition triplets, built by layerkit from the recipe {recipe.name}.",
        "identifier": recipe.fingerprint,
        "version": "1.0.0",
        "license": LICENCES[licence].url or licence,
        "keywords": ["image layer decomposition", "matting", "object removal", "shadow"],
        "distribution": [*files, *_member_sets(recipe, tars)],
        "recordSet": [_record_set()],
    }
    write_atomically(folder.root / "croissant.json", json.dumps(described, indent=1).encode())


def _context() -> dict[str, Any]:
    """The context that the specification prescribes, spelled out so that no reader needs the network."""
    terms = (term.partition(":") for term in _TERMS.split())
    return {
        "@language": "en",
        "@vocab": "https://schema.org/",
        **{name: f"{space or 'cr'}:{name}" for name, _, space in terms},
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "sc": "https://schema.org/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "description": {"@container": "@language"},
        "name": {"@container": "@language"},
    }


def _samples_file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return _file(_SAMPLES, f"manifests/{_SAMPLES}", path.stat().st_size, sha256, "application/x-parquet")


def _tar_file(shard: Commit) -> dict[str, Any]:
    return _file(shard.tar, f"data/{shard.tar}", shard.bytes, shard.sha256, "application/x-tar")


def _file(id_: str, url: str, size: int, sha256: str, kind: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": id_,
        "name": id_,
        "contentUrl": url,
        "contentSize": f"{size} B",
        "encodingFormat": kind,
        "sha256": sha256,
    }


def _member_sets(recipe: Recipe, tars: Sequence[Commit]) -> list[dict[str, Any]]:
    inside = [{"@id": shard.tar} for shard in tars]
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"{member.partition('.')[0]}-files",
            "name": f"{member.partition('.')[0]}-files",
            "containedIn": inside,
            "encodingFormat": _MIME[member.rpartition(".")[2]],
            "includes": f"*.{member}",
        }
        for member in (*member_names(recipe.members), "json")
    ]


_MIME = {"png": "image/png", "jpg": "image/jpeg", "json": "application/json"}


def _record_set() -> dict[str, Any]:
    fields = [_field(column.name, column.type) for column in samples_schema()]
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "key": {"@id": "samples/key"},
        "field": fields,
    }


def _field(name: str, kind: Any) -> dict[str, Any]:
    """A column; a struct becomes sub-fields that are taken out of it by JSON path."""
    import pyarrow as pa

    id_ = f"samples/{name}"
    listed = pa.types.is_list(kind)
    struct = kind.value_type if listed else kind
    if not pa.types.is_struct(struct):
        return _leaf(id_, str(kind), {"column": name})
    inner = [_leaf(f"{id_}/{part.name}", str(part.type), {"column": name}, {"jsonPath": part.name}) for part in struct]
    shape = {"isArray": True, "arrayShape": "-1"} if listed else {}
    return {"@type": "cr:Field", "@id": id_, "name": id_, **shape, "subField": inner}


def _leaf(id_: str, kind: str, extract: dict[str, str], transform: dict[str, str] | None = None) -> dict[str, Any]:
    source: dict[str, Any] = {"fileObject": {"@id": _SAMPLES}, "extract": extract}
    if transform:
        source["transform"] = transform
    return {"@type": "cr:Field", "@id": id_, "name": id_, "dataType": _TYPES[kind], "source": source}
