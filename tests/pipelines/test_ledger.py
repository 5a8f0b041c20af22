"""The ledger: files appear whole, the first claim wins, and only what is proven counts as done."""

import json
import multiprocessing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from layerkit.manifests.errors import RunError, UsageError
from layerkit.pipelines import ledger
from layerkit.pipelines.ledger import BuildFolder, Commit, write_atomically

COMMIT = Commit(
    shard=0,
    fingerprint="f",
    mix="m",
    split="train",
    tar="train-m-000000.tar",
    bytes=4,
    sha256="0" * 64,
    licence="mit",
    kept=1,
    candidates=2,
    dropped={"haze": 1},
    seconds=0.5,
)


@pytest.fixture
def folder(tmp_path: Path) -> BuildFolder:
    folder = BuildFolder(tmp_path / "out")
    folder.create()
    return folder


def publish(folder: BuildFolder, commit: Commit = COMMIT) -> None:
    tar = folder.state / "tmp/000000.tar"
    tar.write_bytes(b"data")
    folder.publish(commit, tar, b'{"kept": true}\n')


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# --- files ---


def test_a_file_is_written_or_replaced(tmp_path: Path):
    for data in (b"one", b"", b"three"):
        write_atomically(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str):
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    write_atomically(tmp_path / "file", b"old")
    monkeypatch.setattr(ledger.os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert files(tmp_path) == ["file"]


def test_a_folder_below_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UsageError, match=r"--out: expected a folder, got .*file"):
            BuildFolder(root).create()


# --- commits ---


def test_a_published_shard_is_done(folder: BuildFolder):
    publish(folder)
    assert folder.read_commit(0, "f", folder.tars()) == COMMIT
    assert files(folder.root) == [".layerkit/commit/000000.json", ".layerkit/rows/000000.jsonl", f"data/{COMMIT.tar}"]


def test_a_shard_without_samples_is_done_and_has_no_tar(folder: BuildFolder):
    empty = replace(COMMIT, tar="", bytes=0, sha256="", kept=0)
    publish(folder, empty)
    assert folder.read_commit(0, "f", folder.tars()) == empty
    assert files(folder.root) == [".layerkit/commit/000000.json", ".layerkit/rows/000000.jsonl"]
    assert folder.sweep({0: COMMIT.tar}, "f") == {0}


def test_the_commit_comes_last(folder: BuildFolder, monkeypatch: pytest.MonkeyPatch):
    seen: list[list[str]] = []
    replace_file = ledger.os.replace

    def spy(source: Path, target: Path) -> None:
        seen.append([Path(target).name, *(Path(name).name for name in files(folder.root) if "/." not in name)])
        replace_file(source, target)

    monkeypatch.setattr(ledger.os, "replace", spy)
    publish(folder)
    assert [step[0] for step in seen] == [COMMIT.tar, "000000.jsonl", "000000.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        json.dumps(asdict(COMMIT) | {"fingerprint": "g"}),
        json.dumps(asdict(COMMIT) | {"shard": 1}),
        json.dumps(asdict(COMMIT) | {"bytes": 5}),
        json.dumps(asdict(COMMIT) | {"tar": 7}),
        json.dumps(asdict(COMMIT) | {"tar": "train-m-000001.tar"}),
        json.dumps(asdict(COMMIT) | {"dropped": None}),
        json.dumps(asdict(COMMIT) | {"later": 1}),
        json.dumps({key: value for key, value in asdict(COMMIT).items() if key != "sha256"}),
    ],
)
def test_a_commit_that_proves_nothing_is_swept_with_all_of_its_shard(folder: BuildFolder, text: str):
    publish(folder)
    folder.commit_path(0).write_text(text)
    assert folder.read_commit(0, "f", folder.tars()) is None
    assert folder.sweep({0: COMMIT.tar}, "f") == set()
    assert files(folder.root) == []


def test_a_commit_without_its_tar_or_rows_proves_nothing(folder: BuildFolder):
    publish(folder)
    folder.rows_path(0).rename(folder.root / "rows")
    assert folder.read_commit(0, "f", folder.tars()) is None
    (folder.root / "rows").rename(folder.rows_path(0))
    assert folder.read_commit(0, "f", folder.tars()) == COMMIT
    (folder.data / COMMIT.tar).unlink()
    assert folder.read_commit(0, "f", folder.tars()) is None


def test_a_sweep_keeps_to_its_shards(folder: BuildFolder):
    publish(folder)
    mine = ["tmp/000001.tar", "tmp/000001.0123.tar", "rows/.000001.jsonl.0123", "commit/.000001.json.0123"]
    others = ["tmp/000002.tar", "rows/000002.jsonl", "commit/.000002.json.0123", "tmp/000010.tar"]
    for name in mine + others:
        (folder.state / name).touch()
    (folder.data / "b.tar").touch()
    assert folder.sweep({0: COMMIT.tar, 1: "b.tar"}, "f") == {0}
    assert [name for name in mine if (folder.state / name).exists()] == []
    assert [name for name in others if not (folder.state / name).exists()] == []
    assert files(folder.data) == [COMMIT.tar]
    assert folder.read_commit(0, "f", folder.tars()) == COMMIT


# --- the claim ---


def claim(root: Path, number: int) -> object:
    return BuildFolder(root).claim({"number": number})["number"]


def test_the_first_claim_wins_whoever_asks(folder: BuildFolder):
    with multiprocessing.get_context("fork").Pool(8) as pool:
        answers = pool.starmap(claim, [(folder.root, number) for number in range(64)])
    assert len(set(answers)) == 1
    assert folder.claim({"number": -1}) == {"number": answers[0]}
    assert files(folder.root) == [".layerkit/run.json"]


def test_a_broken_claim_is_an_error(folder: BuildFolder):
    (folder.state / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run\.json: expected the JSON of a build.*--overwrite"):
        folder.claim({})


# --- the lock ---


def test_a_whole_build_has_the_folder_to_itself(folder: BuildFolder):
    with folder.lock("1-of-1", whole=True):
        for part, whole in (("1-of-1", True), ("1-of-2", False)):
            with pytest.raises(RunError, match="another build works in"), folder.lock(part, whole=whole):
                pass
    with folder.lock("1-of-1", whole=True):
        pass


def test_parts_share_the_folder_but_not_a_part(folder: BuildFolder):
    with folder.lock("1-of-2", whole=False), folder.lock("2-of-2", whole=False):
        for part, whole in (("1-of-2", False), ("1-of-1", True)):
            with pytest.raises(RunError, match=r"--part I/N"), folder.lock(part, whole=whole):
                pass
