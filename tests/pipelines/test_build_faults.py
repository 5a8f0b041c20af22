"""What goes wrong while a build runs, and that the next run mends it: the same bytes as if nothing had happened."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from layerkit.manifests.errors import MissingWeights, RunError, UsageError
from layerkit.pipelines.cache import Cache
from layerkit.pipelines.ledger import BuildFolder
from layerkit.pipelines.plan import Part
from layerkit.pipelines.pools import Pool
from layerkit.pipelines.recipe import load
from layerkit.pipelines.verify import verify

BuildDemo = Callable[..., object]

# Runs in a process of its own, so that it can be killed; -c keeps its workers from importing a main module.
DRIVER = """
import json, sys
from pathlib import Path
from layerkit.pipelines.build import build
from layerkit.pipelines.options import BuildOptions
from layerkit.pipelines.recipe import load
recipe, options = json.loads(sys.argv[1])
paths = {name: Path(options[name]) for name in ("out", "cache")}
build(load("demo", recipe), BuildOptions(**options | paths), lambda progress: None)
"""
LONG = {"count": 400, "size": 64, "shard_size": 4}


def hashes(build: Path) -> dict[str, str]:
    """Name to sha256 of every tar."""
    return {tar.name: hashlib.sha256(tar.read_bytes()).hexdigest() for tar in sorted((build / "data").iterdir())}


def commits(build: Path) -> set[str]:
    return {path.stem for path in (build / ".layerkit/commit").glob("[0-9]*.json")}


def identities(build: Path, shards: set[str]) -> dict[str, tuple[int, int]]:
    """Tar of each shard to what changes when it is written anew."""
    tars = [tar for tar in (build / "data").iterdir() if tar.stem[-6:] in shards]
    return {tar.name: (tar.stat().st_ino, tar.stat().st_mtime_ns) for tar in tars}


def unfinished(build: Path) -> set[str]:
    """Shards that were begun: something of them lies there, but no commit."""
    begun = {
        path.name.lstrip(".")[:6] for path in (build / ".layerkit/tmp").iterdir() if path.name.lstrip(".")[0] in "01"
    }
    begun |= {path.stem[-6:] for path in (build / "data").iterdir()}
    return begun - commits(build)


def start(out: Path, cache: Path, **options: object) -> subprocess.Popen[bytes]:
    arguments = json.dumps([LONG, {"out": str(out), "cache": str(cache), **options}])
    return subprocess.Popen([sys.executable, "-c", DRIVER, arguments])


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    """Kill -9 a build as soon as it has come so far; nothing of it may live on."""
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline, "the build does not get on"
        time.sleep(0.001)
    below = psutil.Process(process.pid).children(recursive=True)
    # Ray's own agents write nothing of ours, and look for the dead cluster for another minute or two.
    workers = [one for one in below if not one.name().endswith("Agent")]
    process.kill()
    process.wait()
    assert psutil.wait_procs(workers, timeout=20)[1] == []


@pytest.fixture(scope="module")
def long_build(build_demo: BuildDemo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build that is killed below, uninterrupted."""
    out = tmp_path_factory.mktemp("long") / "build"
    build_demo(out, **LONG)
    return out


@pytest.fixture
def copied(tiny_build: Path, tmp_path: Path) -> Path:
    """The tiny build, to be damaged."""
    return shutil.copytree(tiny_build, tmp_path / "copied")


# --- killed ---


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "workers", "kills"), [("local", 1, 3), ("local", 2, 3), ("ray", 2, 3)], ids=str)
def test_a_killed_build_goes_on_where_it_was(
    long_build: Path, cache_dir: Path, tmp_path: Path, launcher: str, workers: int, kills: int
):
    if launcher == "ray":
        pytest.importorskip("ray")
    rng = random.Random(workers)
    out = tmp_path / "out"
    shutil.copytree(long_build / ".layerkit/pools", out / ".layerkit/pools")  # so that only the shards are at stake
    kept: dict[str, tuple[int, int]] = {}
    for _ in range(kills):
        target = len(kept) + rng.randint(1, 30)
        process = start(out, cache_dir, launcher=launcher, workers=workers)
        kill_when(process, lambda target=target: (out / ".layerkit/commit").is_dir() and len(commits(out)) >= target)
        done = commits(out)
        assert len(unfinished(out)) <= workers
        assert identities(out, done).items() >= kept.items()
        kept = identities(out, done)
    assert start(out, cache_dir, launcher=launcher, workers=workers).wait() == 0
    assert identities(out, commits(out)).items() >= kept.items()
    assert hashes(out) == hashes(long_build)
    assert verify(out) == []


@pytest.mark.slow
def test_a_build_killed_while_it_prepares_goes_on(build_demo: BuildDemo, tiny_build: Path, tmp_path: Path):
    out, cache = tmp_path / "out", tmp_path / "cache"
    bundles = lambda: set(cache.rglob("*.tar"))  # noqa: E731
    for enough in (2, 6, 11):
        kill_when(start(out, cache, workers=1), lambda enough=enough: len(bundles()) >= enough)
        assert commits(out) == set()
    before = {path: path.stat().st_mtime_ns for path in bundles()}
    build_demo(out, cache=cache, **LONG)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    shutil.rmtree(out)
    build_demo(out, cache=cache)
    assert hashes(out) == hashes(tiny_build)


# --- in parts ---


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_parts_in_any_order_make_the_whole(
    build_demo: BuildDemo, tiny_build: Path, tmp_path: Path, order: tuple[int, ...]
):
    out = tmp_path / "out"
    missing = [build_demo(out, part=Part(number, 3)).shards_missing for number in order[:-1]]
    assert missing[-1] > 0
    assert not (out / "README.md").exists()
    assert build_demo(out, part=Part(order[-1], 3)).shards_missing == 0
    assert (out / "README.md").exists()
    assert hashes(out) == hashes(tiny_build)
    assert verify(out) == []


def test_a_part_leaves_the_others_alone(build_demo: BuildDemo, tmp_path: Path):
    build_demo(tmp_path / "out", part=Part(1, 3))
    before = identities(tmp_path / "out", commits(tmp_path / "out"))
    assert sorted(tar[-10:] for tar in before) == ["000000.tar", "000003.tar"]
    build_demo(tmp_path / "out", part=Part(2, 3))
    assert identities(tmp_path / "out", {"000000", "000003"}) == before


def test_parts_work_at_once_and_a_whole_build_waits(build_demo: BuildDemo, tmp_path: Path):
    out = tmp_path / "out"
    build_demo(out, part=Part(1, 3))
    with BuildFolder(out).lock(str(Part(1, 3)), whole=False):
        assert build_demo(out, part=Part(2, 3)).shards_missing == 1
        for part in (Part(1, 3), Part(1, 1)):
            with pytest.raises(RunError, match="another build works in"):
                build_demo(out, part=part)


# --- damaged, then run again ---


@pytest.mark.parametrize("damage", ["truncated tar", "no tar", "no commit", "torn commit", "empty commit", "no rows"])
def test_a_damaged_shard_is_built_again(build_demo: BuildDemo, tiny_build: Path, copied: Path, damage: str):
    tar, commit = copied / "data/train-paste-000001.tar", copied / ".layerkit/commit/000001.json"
    rows = copied / ".layerkit/rows/000001.jsonl"
    harm = {
        "truncated tar": lambda: tar.write_bytes(tar.read_bytes()[:-512]),
        "no tar": tar.unlink,
        "no commit": commit.unlink,
        "torn commit": lambda: commit.write_bytes(commit.read_bytes()[:50]),
        "empty commit": lambda: commit.write_bytes(b""),
        "no rows": rows.unlink,
    }
    sound = identities(copied, {"000000", "000002", "000003"})
    rows_before = rows.read_bytes()
    harm[damage]()
    assert build_demo(copied).built == 4
    assert identities(copied, {"000000", "000002", "000003"}) == sound
    assert hashes(copied) == hashes(tiny_build)
    assert rows.read_bytes() == rows_before
    assert verify(copied) == []


def test_a_flipped_byte_is_found_by_verify_and_mended_by_deleting_the_tar(
    build_demo: BuildDemo, tiny_build: Path, copied: Path
):
    tar = copied / "data/train-paste-000001.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 0x20
    tar.write_bytes(data)
    faults = verify(copied)
    assert {fault.file for fault in faults} == {"data/train-paste-000001.tar"}
    assert "delete it and run the same build command again" in faults[0].what
    tar.unlink()
    build_demo(copied)
    assert hashes(copied) == hashes(tiny_build)
    assert verify(copied) == []


def test_a_finished_build_is_left_as_it_is(build_demo: BuildDemo, copied: Path):
    before = identities(copied, commits(copied))
    assert build_demo(copied).built == 0
    assert identities(copied, commits(copied)) == before


def test_leftovers_of_a_killed_run_are_swept(build_demo: BuildDemo, copied: Path):
    (copied / ".layerkit/commit/000001.json").unlink()
    leftovers = [
        ".layerkit/tmp/000001.tar",
        ".layerkit/commit/.000001.json.0123",
        ".layerkit/rows/.000001.jsonl.0123",
    ]
    for name in leftovers:
        (copied / name).write_bytes(b"half")
    build_demo(copied)
    assert [name for name in leftovers if (copied / name).exists()] == []
    assert verify(copied) == []


def test_a_broken_bundle_of_the_cache_is_made_anew(
    build_demo: BuildDemo, tiny_build: Path, cache_dir: Path, tmp_path: Path
):
    cache = shutil.copytree(cache_dir, tmp_path / "cache")
    bundles = sorted((cache / "bundles").rglob("*.tar"))
    whole = {path: path.read_bytes() for path in bundles}
    for path, size in zip(bundles, [0, 100, 600, 1100] * len(bundles), strict=False):
        path.write_bytes(whole[path][:size])
    out = tmp_path / "out"
    build_demo(out, cache=cache)
    assert hashes(out) == hashes(tiny_build)
    pools = [Pool(path) for path in (out / ".layerkit/pools").glob("*.arrow")]
    used = {Cache(cache).path(pool[k].bundle) for pool in pools for k in range(len(pool)) if pool[k].bundle}
    assert len(used) > 4
    assert {path: path.read_bytes() for path in used} == {path: whole[path] for path in used}


def test_an_emptied_cache_says_what_to_do(build_demo: BuildDemo, tiny_build: Path, copied: Path, tmp_path: Path):
    (copied / ".layerkit/commit/000000.json").unlink()
    with pytest.raises(RunError, match=r"the cache lost what was prepared of .* delete the build's .layerkit/pools"):
        build_demo(copied, cache=tmp_path / "empty")
    shutil.rmtree(copied / ".layerkit/pools")
    build_demo(copied, cache=tmp_path / "empty")
    assert hashes(copied) == hashes(tiny_build)


# --- a full disk ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("needs mount")
    if done.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # this process still maps its pools


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_keeps_what_was_finished(build_demo: BuildDemo, small_disk: Path, tmp_path: Path, workers: int):
    out = small_disk / "out"
    with pytest.raises(RunError, match=f"cannot write .*{out}.*No space left on device.*make room"):
        build_demo(out, count=40, workers=workers)
    done = commits(out)
    assert done
    assert len(done) < 10
    before = identities(out, done)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    build_demo(out, count=40, workers=workers)
    build_demo(tmp_path / "whole", count=40)
    assert identities(out, done) == before
    assert hashes(out) == hashes(tmp_path / "whole")
    assert verify(out) == []


# --- bad inputs ---


def photo(seed: int) -> np.ndarray:
    """A picture with structure at every scale, so that no filter minds it and no two look alike."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.random((side, side, 3)), (160, 120), interpolation=cv2.INTER_CUBIC) for side in (3, 9, 60)]
    return np.clip(255 * np.mean(layers, axis=0), 0, 255).astype(np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four good photographs and every kind of bad one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(4):
        cv2.imwrite(str(folder / f"good-{seed}.jpg"), photo(seed))
    data = (folder / "good-0.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is no picture\n" * 100)
    cv2.imwrite(str(folder / "huge.png"), np.zeros((9000, 9000), np.uint8))
    cv2.imwrite(str(folder / "tiny.png"), photo(9)[:20, :20])
    cv2.imwrite(str(folder / "twin.jpg"), photo(1), [cv2.IMWRITE_JPEG_QUALITY, 60])
    (folder / "notes.txt").write_text("not named like a picture")
    return folder


@pytest.fixture
def own_recipe(tmp_path: Path) -> str:
    """Embedded objects on photographs of one's own."""
    path = tmp_path / "own.toml"
    path.write_text(
        '[[mix]]\nname = "own"\nshare = 1\nroute = "paste"\nforegrounds = "embedded"\nbackgrounds = "photos"\n'
        '[sources.photos]\nlicence = "cc0-1.0"\nauthor = "me"\n'
    )
    return str(path)


def test_bad_pictures_are_rejected_with_a_reason(build_demo: BuildDemo, own_recipe: str, photos: Path, tmp_path: Path):
    out = tmp_path / "out"
    funnel = build_demo(out, recipe=own_recipe, roots={"photos": photos})
    assert funnel.kept == 12
    lines = (out / ".layerkit/pools/own-background.rejects.jsonl").read_text().splitlines()
    drops = {row["id"]: row["drop"] for row in map(json.loads, lines)}
    assert {name: drop["reason"] for name, drop in drops.items()} == {
        "truncated.jpg": "unreadable",
        "empty.jpg": "empty_file",
        "text.jpg": "unreadable",
        "huge.png": "too_large",
        "tiny.png": "side",
        "twin.jpg": "near_duplicate",
    }
    assert (drops["tiny.png"]["value"], drops["tiny.png"]["limit"]) == (20, 32)
    assert drops["twin.jpg"]["detail"] == "looks like good-1.jpg"
    assert all(drops[name]["detail"] for name in ("truncated.jpg", "empty.jpg", "text.jpg", "huge.png"))
    assert verify(out) == []


@pytest.mark.parametrize("changed", [True, False], ids=["changed", "gone"])
def test_a_picture_that_changes_after_preparation_is_named(
    build_demo: BuildDemo, own_recipe: str, photos: Path, tmp_path: Path, changed: bool
):
    out = tmp_path / "out"
    build_demo(out, recipe=own_recipe, roots={"photos": photos}, part=Part(1, 2))
    moved = out.rename(tmp_path / "moved")  # a process remembers the pixels it decoded for a folder
    for path in photos.glob("good-*.jpg"):
        path.write_bytes(b"another") if changed else path.unlink()
    with pytest.raises(RunError, match=r"good-\d\.jpg.*start anew with --overwrite"):
        build_demo(moved, recipe=own_recipe, roots={"photos": photos}, part=Part(2, 2))


def test_nothing_usable_is_an_error_that_counts_the_reasons(
    build_demo: BuildDemo, own_recipe: str, photos: Path, tmp_path: Path
):
    for path in photos.glob("good-*"):
        path.unlink()
    (photos / "twin.jpg").unlink()
    with pytest.raises(
        UsageError, match=r"mix 'own': background from 'photos': nothing is usable of 5 .*'unreadable': 2"
    ):
        build_demo(tmp_path / "out", recipe=own_recipe, roots={"photos": photos})


def test_a_folder_without_pictures(build_demo: BuildDemo, own_recipe: str, tmp_path: Path):
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"none: expected pictures .*, found none"):
        build_demo(tmp_path / "out", recipe=own_recipe, roots={"photos": tmp_path / "none"})


@pytest.mark.parametrize(("roots", "what"), [({}, "add --root photos=DIR"), ({"photos": "gone"}, "does not exist")])
def test_a_source_that_is_not_there(build_demo: BuildDemo, own_recipe: str, tmp_path: Path, roots: dict, what: str):
    with pytest.raises(UsageError, match=what):
        build_demo(tmp_path / "out", recipe=own_recipe, roots={name: tmp_path / path for name, path in roots.items()})


# --- wrong use ---


MIX = '[[mix]]\nname = "a"\nroute = "cut"\nphotos = "embedded"\nshare = '


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("count = 4\nsizes = 64\n" + MIX + "1", r"unknown key 'sizes'; did you mean 'size'\?"),
        ("count = 4\n" + MIX + "1\nshadows = {}", r"mix\[0\].*unknown key 'shadows'; did you mean 'shadow'\?"),
        ("count = 4\n[filters]\nhase = [0, 1]\n" + MIX + "1", r"filters: unknown key 'hase'; did you mean 'haze'\?"),
        ("count = 4\n" + MIX + "0", "the shares of the mixes must sum to more than 0"),
        ("count = 4\n" + MIX + "-1", "share must not be negative"),
        ("count = 0\n" + MIX + "1", "count must lie in 1"),
        ("count = 4\n", r"expected at least one \[\[mix\]\] table"),
        ("count = = 4", "expected a TOML file.*line 1"),
        ("count = 4\n" + MIX + "1\n" + MIX + "1", "mix names must differ"),
        ('count = 4\nallow_licence = ["cc0"]\n' + MIX + "1", "--allow-licence: expected a class"),
    ],
)
def test_a_wrong_recipe_names_the_file_and_the_key(tmp_path: Path, text: str, what: str):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"(?s){path}.*{what}"):
        load(str(path), {})


def test_a_recipe_that_is_not_there():
    with pytest.raises(UsageError, match=r"expected one of .*demo.* or a TOML file, got 'dmeo'"):
        load("dmeo", {})


def test_out_that_is_a_file(build_demo: BuildDemo, tmp_path: Path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UsageError, match=r"--out: expected a folder, got .*file"):
            build_demo(out)


def test_out_with_other_files(build_demo: BuildDemo, tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="holds other files"):
            build_demo(tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_another_recipe_is_refused_and_what_differs_named(build_demo: BuildDemo, copied: Path, tiny_build: Path):
    with pytest.raises(
        UsageError, match=r"recipe\.count: 12 there, 16 now; recipe\.seed: 0 there, 1 now; .*--overwrite"
    ):
        build_demo(copied, seed=1, count=16)
    assert hashes(copied) == hashes(tiny_build)


def test_a_recipe_that_lacks_weights_does_not_keep_the_folder(
    build_demo: BuildDemo, tiny_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(MissingWeights, match="Depth-Anything"):
        build_demo(tmp_path / "build", settings=["cut.depth=depth-anything-v2-small"])
    build_demo(tmp_path / "build")
    assert hashes(tmp_path / "build") == hashes(tiny_build)


def test_a_part_that_lacks_weights_leaves_the_claim_to_the_others(
    build_demo: BuildDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(MissingWeights, match="Depth-Anything"):
        build_demo(tmp_path / "build", settings=["cut.depth=depth-anything-v2-small"], part=Part(1, 2))
    with pytest.raises(UsageError, match="holds another build"):
        build_demo(tmp_path / "build", part=Part(2, 2))


def test_other_versions_of_the_codecs_are_refused(build_demo: BuildDemo, copied: Path):
    path = copied / ".layerkit/run.json"
    run = json.loads(path.read_bytes())
    run["libraries"]["simplejpeg"] = "0.1"
    path.write_text(json.dumps(run))
    with pytest.raises(UsageError, match=r"libraries\.simplejpeg: '0\.1' there"):
        build_demo(copied)


def test_overwrite_replaces_a_build_and_spares_other_files(build_demo: BuildDemo, copied: Path, tiny_build: Path):
    (copied / "notes.txt").write_text("mine")
    build_demo(copied, seed=1, overwrite=True)
    assert hashes(copied).keys() == hashes(tiny_build).keys()
    assert not set(hashes(copied).values()) & set(hashes(tiny_build).values())
    assert (copied / "notes.txt").read_text() == "mine"
    assert verify(copied) == []


HOLD = """
import sys
from pathlib import Path
from layerkit.pipelines.ledger import BuildFolder
with BuildFolder(Path(sys.argv[1])).lock("1-of-1", whole=True):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_builds_at_once_in_one_folder(build_demo: BuildDemo, copied: Path, tiny_build: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, copied], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        for options in ({}, {"part": Part(1, 2)}, {"overwrite": True}):
            with pytest.raises(RunError, match="another build works in"):
                build_demo(copied, **options)
        holder.communicate()
    assert build_demo(copied).built == 0
    assert hashes(copied) == hashes(tiny_build)


def test_a_cache_is_shared_by_builds(build_demo: BuildDemo, tiny_build: Path, cache_dir: Path, tmp_path: Path):
    before = {path: path.stat().st_mtime_ns for path in cache_dir.rglob("*.tar")}
    build_demo(tmp_path / "out", seed=3)
    assert {path: path.stat().st_mtime_ns for path in cache_dir.rglob("*.tar")} == before
    assert all(Cache(cache_dir).get(path.stem) for path in before)
