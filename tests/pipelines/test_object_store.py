"""A build in an object store has the bytes of one in a folder, whatever refuses, dies or works beside it."""

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from layerkit.cli import app
from layerkit.manifests.errors import MissingWeights, RunError, UsageError
from layerkit.pipelines.object_store import StoreFolder, folder_at, is_url, stage_of
from layerkit.pipelines.plan import Part, plan
from layerkit.pipelines.recipe import load
from layerkit.pipelines.verify import verify

BuildDemo = Callable[..., Any]
URL = "memory://bucket/tiny/build"
TINY = {"count": 12, "size": 64, "shard_size": 4}
TIMED = (".layerkit/commit", "manifests/shards.parquet")


class FrailStore(MemoryFileSystem):
    """A store in memory that refuses every write from the ``refuse_from``-th on, and counts what is asked of it."""

    protocol = "frail"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    refuse_from = 1 << 30
    writes = 0
    listings = 0

    def _write(self) -> None:
        FrailStore.writes += 1
        if FrailStore.writes >= FrailStore.refuse_from:
            raise OSError(errno.EIO, "out of order")

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        self._write()
        super().pipe_file(path, value, **kwargs)

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        self._write()
        super().pipe_file(rpath, Path(lpath).read_bytes())

    def ls(self, path: str, **kwargs: Any) -> Any:
        FrailStore.listings += 1
        return super().ls(path, **kwargs)


@pytest.fixture(autouse=True)
def stores() -> Iterator[None]:
    """Stores in memory, empty and sound."""
    fsspec.register_implementation("frail", FrailStore, clobber=True)
    for kind in (MemoryFileSystem, FrailStore):
        kind.store.clear()
        kind.pseudo_dirs[:] = [""]
    FrailStore.writes = FrailStore.listings = 0
    FrailStore.refuse_from = 1 << 30
    yield
    FrailStore.refuse_from = 1 << 30


def contents(url: str) -> dict[str, bytes]:
    """Name to bytes of everything below an address."""
    store, base = fsspec.core.url_to_fs(url)
    return {path.removeprefix(base).lstrip("/"): store.cat_file(path) for path in store.find(base)}


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def assert_equal_builds(url: str, local: Path) -> None:
    """The same files, byte for byte but for the seconds of work in the commits."""
    there, here = contents(url), files(local)
    here = {name: data for name, data in here.items() if not name.startswith((".layerkit/lock", ".layerkit/tmp"))}
    assert there.keys() == here.keys()
    differing = {name for name in here if there[name] != here[name] and not name.startswith(TIMED)}
    assert differing == set()
    for name in here:
        if name.startswith(".layerkit/commit"):
            commits = [json.loads(data) | {"seconds": 0} for data in (there[name], here[name])]
            assert commits[0] == commits[1]


# --- the bytes ---


@pytest.mark.parametrize("url", [URL, f"{URL}/", "frail://bucket/build"])
def test_the_files_in_a_store_are_those_of_a_folder(build_demo: BuildDemo, tiny_build: Path, tmp_path: Path, url: str):
    funnel = build_demo(tmp_path / "build", store=url)
    assert (funnel.kept, funnel.shards_missing) == (12, 0)
    assert_equal_builds(url, tiny_build)
    assert not list((tmp_path / "build/data").iterdir())
    assert not list((tmp_path / "build/.layerkit/tmp").iterdir())
    assert verify(StoreFolder(url, tmp_path / "build")) == []


@pytest.mark.slow
def test_two_workers_fill_a_store_alike(build_demo: BuildDemo, tiny_build: Path, tmp_path: Path):
    url = f"file://{tmp_path}/store/build"
    build_demo(tmp_path / "stage", store=url, workers=2)
    assert_equal_builds(url, tiny_build)


def test_a_finished_build_is_left_alone(build_demo: BuildDemo, tmp_path: Path):
    build_demo(tmp_path / "stage", store="frail://bucket/build")
    assert FrailStore.writes == WRITES
    FrailStore.listings = 0
    before, FrailStore.writes = contents("frail://bucket/build"), 0
    assert build_demo(tmp_path / "stage", store="frail://bucket/build").built == 0
    assert FrailStore.writes == 0
    assert FrailStore.listings < 20
    assert contents("frail://bucket/build") == before


# --- interruptions ---


WRITES = 33
"""What one build writes: the run, nine files of pools, four shards of three objects, eleven files at the end."""


@pytest.mark.parametrize(
    ("refused", "place"),
    [
        (1, "stage"),  # the run
        (4, "another"),  # what belongs to a pool
        (9, "another"),  # the second of three pools
        (11, "another"),  # a tar
        (12, "stage"),  # its rows
        (13, "stage"),  # its commit
        (13, "another"),
        (25, "another"),  # a manifest
        (WRITES, "stage"),  # the card
        (WRITES, "another"),
    ],
)
def test_a_build_goes_on_after_a_refusal(
    build_demo: BuildDemo, tiny_build: Path, tmp_path: Path, refused: int, place: str
):
    url = "frail://bucket/build"
    FrailStore.refuse_from = refused
    with pytest.raises(RunError, match=r"frail://bucket/build: the store refused \(.*out of order.*same command again"):
        build_demo(tmp_path / "stage", store=url)
    FrailStore.refuse_from = 1 << 30
    build_demo(tmp_path / place, store=url)
    assert_equal_builds(url, tiny_build)


def test_a_tar_without_a_commit_is_removed(build_demo: BuildDemo, tiny_build: Path, tmp_path: Path):
    store, base = fsspec.core.url_to_fs(URL)
    build_demo(tmp_path / "stage", store=URL)
    for name in (".layerkit/commit/000001.json", "README.md"):
        store.rm_file(f"{base}/{name}")
    folder = StoreFolder(URL, tmp_path / "another")
    folder.create()
    shards = {shard.index: shard.tar for shard in plan(load("demo", TINY))}
    assert folder.sweep(shards, load("demo", TINY).fingerprint) == {0, 2, 3}
    assert folder.tars().keys() == {shards[0], shards[2], shards[3]}
    assert build_demo(tmp_path / "another", store=URL).built == 4
    assert_equal_builds(URL, tiny_build)


# --- several machines ---


def test_another_machine_takes_up_what_is_done(build_demo: BuildDemo, tiny_build: Path, tmp_path: Path):
    url = "frail://bucket/build"
    assert build_demo(tmp_path / "one", store=url, part=Part(1, 2)).shards_missing == 2
    funnel = build_demo(tmp_path / "two", store=url)
    assert funnel.kept == 12
    assert 0 < funnel.built < 12
    assert_equal_builds(url, tiny_build)


def test_parts_from_two_machines_make_the_whole(build_demo: BuildDemo, tiny_build: Path, tmp_path: Path):
    for index in (1, 2):
        build_demo(tmp_path / str(index), store=URL, part=Part(index, 2))
    assert_equal_builds(URL, tiny_build)
    for index in (1, 2):
        assert verify(StoreFolder(URL, tmp_path / str(index))) == []


def test_what_another_machine_publishes_meanwhile_stays(build_demo: BuildDemo, tmp_path: Path):
    """A part that publishes from the same stage after the store was listed keeps its commit."""
    build_demo(tmp_path / "stage", store="frail://bucket/build")
    folder = StoreFolder("frail://bucket/build", tmp_path / "stage")
    listed = FrailStore.ls

    def publish_then_list(store: FrailStore, path: str, **kwargs: Any) -> Any:
        found = listed(store, path, **kwargs)
        (folder.state / "commit/000099.json").write_text("{}")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrailStore, "ls", publish_then_list)
        folder.refresh()
    assert (folder.state / "commit/000099.json").exists()


def test_another_recipe_is_refused(build_demo: BuildDemo, tmp_path: Path):
    build_demo(tmp_path / "stage", store=URL)
    before = contents(URL)
    for place in ("stage", "another"):
        with pytest.raises(UsageError, match=r"holds another build: recipe\.seed"):
            build_demo(tmp_path / place, store=URL, seed=5)
    assert contents(URL) == before


def test_a_recipe_that_lacks_weights_does_not_keep_the_place(
    build_demo: BuildDemo, tiny_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(MissingWeights, match="Depth-Anything"):
        build_demo(tmp_path / "stage", store=URL, settings=["cut.depth=depth-anything-v2-small"])
    build_demo(tmp_path / "stage", store=URL)
    assert_equal_builds(URL, tiny_build)


@pytest.mark.parametrize("emptied", [False, True])
def test_a_stage_of_an_earlier_build_is_forgotten(build_demo: BuildDemo, tmp_path: Path, emptied: bool):
    build_demo(tmp_path / "stage", store=URL)
    if emptied:
        store, base = fsspec.core.url_to_fs(URL)
        store.rm(base, recursive=True)
    build_demo(tmp_path / "another", store=URL, seed=5, overwrite=not emptied)
    expected = contents(URL)
    assert build_demo(tmp_path / "stage", store=URL, seed=5).built == 0
    assert verify(StoreFolder(URL, tmp_path / "stage")) == []
    assert contents(URL) == expected


# --- the place ---


def test_overwriting_clears_the_build_and_nothing_else(build_demo: BuildDemo, tmp_path: Path):
    store, base = fsspec.core.url_to_fs(URL)
    build_demo(tmp_path / "stage", store=URL, seed=5)
    store.pipe_file(f"{base}/notes.txt", b"mine")
    store.pipe_file("/bucket/tiny/building", b"a neighbour's")
    build_demo(tmp_path / "stage", store=URL, overwrite=True)
    build_demo(tmp_path / "fresh", store="memory://fresh/build")
    assert contents(URL).pop("notes.txt") == b"mine"
    assert contents(URL).keys() - {"notes.txt"} == contents("memory://fresh/build").keys()
    assert store.cat_file("/bucket/tiny/building") == b"a neighbour's"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_place_with_other_files_is_refused(build_demo: BuildDemo, tmp_path: Path, overwrite: bool):
    store, base = fsspec.core.url_to_fs(URL)
    store.pipe_file(f"{base}/thesis.tex", b"years of work")
    with pytest.raises(UsageError, match=rf"got {URL}, which holds other files"):
        build_demo(tmp_path / "stage", store=URL, overwrite=overwrite)
    assert contents(URL) == {"thesis.tex": b"years of work"}


def test_an_unknown_store_is_refused(build_demo: BuildDemo, tmp_path: Path):
    with pytest.raises(UsageError, match=r"--out: expected a folder or a store that fsspec knows, got 'ftpz://a/b'"):
        build_demo(tmp_path / "stage", store="ftpz://a/b")


def test_a_url_is_told_from_a_folder():
    assert [is_url(out) for out in ("s3://a/b", "file:///a", "/a/b", "a", "C:/a")] == [True, True, False, False, False]
    assert stage_of("s3://a/b/", Path("c")) == stage_of("s3://a/b", Path("c")) != stage_of("s3://a/c", Path("c"))
    assert str(folder_at(Path("stage"), "s3://a/b/")) == "s3://a/b"
    assert not isinstance(folder_at(Path("out"), ""), StoreFolder)


# --- a real protocol ---


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket of a server that speaks S3."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    fsspec.filesystem("s3").makedirs("triplets", exist_ok=True)
    yield "s3://triplets"
    server.stop()


@pytest.mark.slow
def test_s3_holds_the_same_build(build_demo: BuildDemo, tiny_build: Path, tmp_path: Path, bucket: str):
    url = f"{bucket}/below/build"
    build_demo(tmp_path / "one", store=url, part=Part(1, 2))
    build_demo(tmp_path / "two", store=url)
    assert_equal_builds(url, tiny_build)
    assert verify(StoreFolder(url, tmp_path / "three")) == []
    build_demo(tmp_path / "one", store=url, overwrite=True)
    assert_equal_builds(url, tiny_build)


@pytest.mark.slow
def test_a_bucket_that_is_missing_or_closed_is_named(build_demo: BuildDemo, tmp_path: Path, bucket: str):
    with pytest.raises(RunError, match="s3://nobodys/build: the store refused"):
        build_demo(tmp_path / "stage", store="s3://nobodys/build")


# --- verify ---


@pytest.mark.parametrize("damage", [b"longer", b""])
def test_verify_names_a_damaged_tar(build_demo: BuildDemo, tmp_path: Path, damage: bytes):
    url = f"file://{tmp_path}/store/build"
    build_demo(tmp_path / "stage", store=url)
    runner = CliRunner()
    sound = runner.invoke(app, ["verify", url, "--workers", "1"])
    assert (sound.exit_code, sound.output.strip().endswith(f"{url}: sound")) == (0, True)
    tar = min((tmp_path / "store/build/data").iterdir())
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(data + damage)
    found = runner.invoke(app, ["verify", url, "--workers", "1"])
    assert found.exit_code == 1
    assert f"data/{tar.name}" in found.output


def test_verify_sees_what_the_store_lost(build_demo: BuildDemo, tmp_path: Path):
    build_demo(tmp_path / "stage", store=URL)
    store, base = fsspec.core.url_to_fs(URL)
    tar = min(StoreFolder(URL, tmp_path / "stage").tars())
    store.rm_file(f"{base}/data/{tar}")
    store.rm_file(f"{base}/.layerkit/rows/000001.jsonl")
    found = [str(fault) for fault in verify(StoreFolder(URL, tmp_path / "stage"))]
    assert any(tar in fault and "is missing" in fault for fault in found)
    assert any("000001" in fault and "has no commit" in fault for fault in found)
    build_demo(tmp_path / "stage", store=URL)
    assert verify(StoreFolder(URL, tmp_path / "stage")) == []
