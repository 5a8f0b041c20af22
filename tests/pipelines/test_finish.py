import hashlib
import json
import math
import socket
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerkit.manifests import schema
from layerkit.manifests.record import NOT_MEASURED
from layerkit.pipelines.finish import finish
from layerkit.pipelines.funnel import funnel_of
from layerkit.pipelines.ledger import BuildFolder
from layerkit.pipelines.lock import pool_digest, to_toml
from layerkit.pipelines.recipe import Recipe, load
from layerkit.pipelines.summary import ATTRIBUTIONS, Histogram, Summary
from layerkit.pipelines.tables import table
from layerkit.toolkit.shards import decode_layers, read_samples

TINY = {"count": 12, "size": 64, "shard_size": 4}
WRITTEN = ("README.md", "croissant.json", "index.json", "card", "manifests")


def tars(build: Path) -> list[Path]:
    return sorted((build / "data").glob("*.tar"))


def samples(build: Path) -> Iterator[tuple[Path, str, dict[str, bytes]]]:
    for tar in tars(build):
        for key, sample in read_samples(tar):
            yield tar, key, sample


def manifest(build: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(build / "manifests" / name).to_pylist()


def files(build: Path) -> dict[str, bytes]:
    paths = [p for name in WRITTEN for p in ([build / name] if (build / name).is_file() else (build / name).iterdir())]
    return {str(path.relative_to(build)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def picky_build(build_demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build whose filters refuse many candidates, and leave places empty."""
    folder = tmp_path_factory.mktemp("picky")
    recipe = Path(__file__).parents[2] / "manifests" / "demo.toml"
    text = recipe.read_text() + "\n[filters]\nsaliency_contrast = [0.6, 1.0]\n"
    (folder / "picky.toml").write_text(text)
    build_demo(folder / "build", recipe=str(folder / "picky.toml"), attempts=2)
    return folder / "build"


def test_samples_parquet_holds_the_records_of_the_tars(tiny_build: Path):
    rows = {row["key"]: row for row in manifest(tiny_build, "samples.parquet")}
    found = 0
    for tar, key, sample in samples(tiny_build):
        record = json.loads(sample["json"])
        row = rows[key]
        assert row.pop("shard") == tar.name
        assert {**row, "models": json.loads(row["models"])} == record
        found += 1
    assert found == len(rows) == TINY["count"]


def test_the_manifests_have_a_row_group_a_shard(tiny_build: Path):
    shards = pq.ParquetFile(tiny_build / "manifests" / "shards.parquet").metadata
    assert shards.num_row_groups == shards.num_rows == len(tars(tiny_build))
    groups = pq.ParquetFile(tiny_build / "manifests" / "samples.parquet").metadata
    sizes = [groups.row_group(k).num_rows for k in range(groups.num_row_groups)]
    assert sizes == [len(list(read_samples(tar))) for tar in sorted(tars(tiny_build), key=lambda p: p.name[-10:])]


def test_shards_parquet_agrees_with_the_files(tiny_build: Path):
    rows = {row["tar"]: row for row in manifest(tiny_build, "shards.parquet")}
    assert sorted(rows) == [tar.name for tar in tars(tiny_build)]
    for tar in tars(tiny_build):
        row = rows[tar.name]
        assert row["bytes"] == tar.stat().st_size
        assert row["sha256"] == hashlib.sha256(tar.read_bytes()).hexdigest()
        assert row["kept"] == len(list(read_samples(tar)))


def test_rejects_hold_reason_value_and_limit(picky_build: Path):
    rejects = manifest(picky_build, "rejects.parquet")
    sample = [row for row in rejects if row["stage"] == "sample"]
    broken = [row for row in sample if row["reason"] == "saliency_contrast"]
    assert broken
    for row in broken:
        assert row["limit"] == 0.6
        assert row["value"] == row["scores"]["saliency_contrast"] < 0.6
        assert row["slot"] >= 0
        assert row["id"]
    source = [row for row in rejects if row["stage"] == "source"]
    assert {row["reason"] for row in source} >= {"border"}
    assert all(Path(row["path"]).is_file() and row["use"] and row["slot"] == -1 for row in source)


def test_rejects_agree_with_the_commits_and_the_statistics(picky_build: Path):
    rejects = manifest(picky_build, "rejects.parquet")
    shards = manifest(picky_build, "shards.parquet")
    committed = Counter[str]()
    for shard in shards:
        committed.update({row["reason"]: row["count"] for row in shard["dropped"]})
        assert shard["candidates"] == shard["kept"] + sum(row["count"] for row in shard["dropped"])
    statistics = json.loads((picky_build / "manifests" / "stats.json").read_bytes())
    for stage, dropped in (("sample", "dropped"), ("source", "sources_dropped")):
        counts = Counter(row["reason"] for row in rejects if row["stage"] == stage)
        assert counts == Counter(statistics["funnel"][dropped])
    assert committed == Counter(statistics["funnel"]["dropped"])
    assert sum(mix["kept"] for mix in statistics["mixes"].values()) == statistics["funnel"]["kept"] <= TINY["count"]
    assert committed


def test_histograms_count_every_measured_score_once(picky_build: Path):
    statistics = json.loads((picky_build / "manifests" / "stats.json").read_bytes())
    rejects = [row for row in manifest(picky_build, "rejects.parquet") if row["stage"] == "sample"]
    for kind, rows in (("kept", manifest(picky_build, "samples.parquet")), ("rejected", rejects)):
        for name, score in statistics["scores"].items():
            values = [row["scores"][name] for row in rows if row["scores"][name] != NOT_MEASURED]
            expected, _ = np.histogram(values, [-math.inf, *score["edges"], math.inf])
            assert score[kind] == expected.tolist(), (kind, name)


def test_statistics_count_licences_a_layer(tiny_build: Path):
    statistics = json.loads((tiny_build / "manifests" / "stats.json").read_bytes())
    layers = Counter((o["layer"], o["licence"]) for r in manifest(tiny_build, "samples.parquet") for o in r["layers"])
    told = {(layer, name): n for layer, found in statistics["licences"].items() for name, n in found.items()}
    assert {pair: n for pair, n in told.items() if pair[0] != "sample"} == dict(layers)
    assert sum(n for (layer, _), n in told.items() if layer == "sample") == TINY["count"]
    assert "seconds" not in statistics["funnel"]


def test_the_lock_gives_the_recipe_back(tiny_build: Path):
    lock = tomllib.loads((tiny_build / "manifests" / "recipe.lock.toml").read_text())
    recipe = load("demo", TINY)
    assert lock["fingerprint"] == recipe.fingerprint
    assert hashlib.sha256(json.dumps(lock["recipe"], sort_keys=True).encode()).hexdigest() == recipe.fingerprint
    assert lock["recipe"].pop("algorithm") == recipe.table()["algorithm"]
    again = schema.parse(Recipe, lock["recipe"], "lock")
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint
    assert lock["libraries"].keys() >= {"numpy", "pillow"}


def test_the_lock_digests_every_pool(tiny_build: Path):
    import pyarrow as pa

    lock = tomllib.loads((tiny_build / "manifests" / "recipe.lock.toml").read_text())
    pools = tiny_build / ".layerkit" / "pools"
    assert [f"{pool['mix']}-{pool['use']}" for pool in lock["pool"]] == [
        "paste-foreground",
        "paste-background",
        "cut-cut",
    ]
    for pool in lock["pool"]:
        rows = pa.ipc.open_file(pools / f"{pool['mix']}-{pool['use']}.arrow").read_all().to_pylist()
        lines = sorted((row["id"], row["sha256"], row["companions"]) for row in rows)
        assert pool["entries"] == len(lines) > 0
        text = "".join("\0".join(line) + "\n" for line in lines)
        assert pool["sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_sources_parquet_has_every_entry_of_every_pool(tiny_build: Path):
    lock = tomllib.loads((tiny_build / "manifests" / "recipe.lock.toml").read_text())
    counts = Counter((row["mix"], row["use"], row["source"]) for row in manifest(tiny_build, "sources.parquet"))
    assert counts == {(pool["mix"], pool["use"], pool["source"]): pool["entries"] for pool in lock["pool"]}


def test_a_pool_digest_does_not_depend_on_the_order(tmp_path: Path):
    import pyarrow as pa

    digests = []
    for name, ids in (("a", ["x", "y", "z"]), ("b", ["z", "x", "y"]), ("c", ["x", "y", "w"])):
        rows = pa.table({"id": ids, "sha256": [i * 4 for i in ids], "companions": [""] * 3})
        with pa.ipc.new_file(tmp_path / name, rows.schema) as writer:
            writer.write_table(rows)
        digests.append(pool_digest(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
TABLES = st.recursive(
    st.dictionaries(TEXT, st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=4),
    lambda inner: st.dictionaries(TEXT, st.one_of(SCALARS, inner, st.lists(inner, min_size=1, max_size=3)), max_size=4),
    max_leaves=8,
)


@settings(deadline=None)
@given(TABLES)
def test_toml_is_read_back(written: dict[str, Any]):
    assert tomllib.loads(to_toml(written)) == written


def test_finishing_twice_gives_the_same_bytes(build_demo, tmp_path: Path):
    build_demo(tmp_path / "build", seed=3)
    before = files(tmp_path / "build")
    folder, recipe = BuildFolder(tmp_path / "build"), load("demo", TINY | {"seed": 3})
    finish(folder, recipe, asdict(funnel_of(folder, recipe)))
    assert files(tmp_path / "build") == before
    assert len(before) == 6 + 2 + 3
    assert list((tmp_path / "build" / ".layerkit" / "tmp").iterdir()) == []


def test_two_builds_of_one_recipe_finish_alike(build_demo, tiny_build: Path, tmp_path: Path):
    build_demo(tmp_path / "build", workers=2)
    assert files(tmp_path / "build") == files(tiny_build)


def test_a_table_that_fails_leaves_nothing(tmp_path: Path):
    import pyarrow as pa

    folder = BuildFolder(tmp_path)
    folder.create()

    def fail() -> None:
        with table(folder, "x.parquet", pa.schema([("a", pa.int64())])) as rows:
            rows.write([{"a": 1}])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_histogram_counts_what_lies_beyond_its_edges():
    histogram = Histogram((0.0, 1.0, 2.0))
    for value in (-1.0, 0.0, 0.5, 1.0, 2.0, math.inf):
        histogram.add(value)
    assert histogram.counts == [1, 2, 1, 2]


def test_a_summary_names_a_bounded_number_of_authors():
    summary = Summary()
    origin = {"layer": "background", "dataset": "d", "licence": "cc-by-4.0", "url": ""}
    for k in range(ATTRIBUTIONS + 5):
        summary._credit({**origin, "author": f"a{k}"})
    assert len(summary.table()["attributions"]) == ATTRIBUTIONS
    assert summary.table()["layers_of_further_authors"] == 5


def test_croissant_validates_and_yields_the_records_offline(tiny_build: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(jsonld=tiny_build / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    rows = manifest(tiny_build, "samples.parquet")
    records = list(dataset.records("samples"))
    assert [record["samples/key"].decode() for record in records] == [row["key"] for row in rows]
    for record, row in zip(records, rows, strict=True):
        assert record["samples/width"] == 64
        scores = {name.rpartition("/")[2]: value for name, value in record["samples/scores"].items()}
        assert scores == row["scores"]
        licences = [layer["samples/layers/licence"].decode() for layer in record["samples/layers"]]
        assert licences == [layer["licence"] for layer in row["layers"]]


def test_croissant_lists_every_file_with_its_hash(tiny_build: Path):
    described = json.loads((tiny_build / "croissant.json").read_bytes())
    listed = [part for part in described["distribution"] if part["@type"] == "cr:FileObject"]
    assert {part["contentUrl"] for part in listed} == {"manifests/samples.parquet"} | {
        f"data/{tar.name}" for tar in tars(tiny_build)
    }
    for part in listed:
        data = (tiny_build / part["contentUrl"]).read_bytes()
        assert part["sha256"] == hashlib.sha256(data).hexdigest()
        assert part["contentSize"] == f"{len(data)} B"


def test_wids_reads_any_sample_with_its_alpha(tiny_build: Path, capfd: pytest.CaptureFixture[str]):
    wids = pytest.importorskip("wids")
    index = json.loads((tiny_build / "index.json").read_bytes())
    in_order = [
        (key, sample) for shard in index["shardlist"] for key, sample in read_samples(tiny_build / shard["url"])
    ]
    dataset = wids.ShardListDataset(str(tiny_build / "index.json"), localname=str, transformations=[])
    assert len(dataset) == len(in_order) == TINY["count"]
    for k in (11, 0, 5):
        key, sample = in_order[k]
        found = dataset[k]
        assert found["__key__"] == key
        assert {name[1:]: data.read() for name, data in found.items() if name.startswith(".")} == sample
    decoded = wids.ShardListDataset(
        str(tiny_build / "index.json"),
        localname=str,
        transformations=[partial(wids.wids.default_decoder, format="PIL")],
    )
    assert decoded[3][".foreground.png"].mode == "RGBA"
    expected = decode_layers(in_order[3][1]).foreground
    np.testing.assert_array_equal(np.asarray(decoded[3][".foreground.png"]), expected)
