"""A sound build has no fault; a planted one is found, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.exclusions import EXCLUDE
from layerkit.pipelines.verify import Fault, verify
from layerkit.toolkit.images import decode_member, encode_png
from layerkit.toolkit.shards import TarWriter, read_samples

Samples = list[tuple[str, dict[str, bytes]]]
FIRST = "data/train-paste-000000.tar"


@pytest.fixture
def copied(tiny_build: Path, tmp_path: Path) -> Path:
    """The tiny build, to be damaged."""
    return shutil.copytree(tiny_build, tmp_path / "copied")


@pytest.fixture
def bare(copied: Path) -> Path:
    """The same without its manifests, which would disagree with a shard that is changed along with its commit."""
    shutil.rmtree(copied / "manifests")
    return copied


def tar_of(build: Path, shard: int) -> Path:
    return next((build / "data").glob(f"*-{shard:06d}.tar"))


def reseal(build: Path, shard: int, change: Callable[[Samples], object]) -> Samples:
    """Change the samples of a shard and make its commit agree, so that only the samples can be at fault."""
    tar, commit = tar_of(build, shard), build / f".layerkit/commit/{shard:06d}.json"
    samples = list(read_samples(tar))
    change(samples)
    with TarWriter(tar) as writer:
        for key, sample in samples:
            writer.write(key, sample)
        sha256 = writer.close()
    commit.write_text(json.dumps(json.loads(commit.read_bytes()) | {"bytes": writer.size, "sha256": sha256}))
    return samples


def edit_rows(build: Path, shard: int, change: Callable[[list[dict]], object]) -> None:
    path = build / f".layerkit/rows/{shard:06d}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def edit_record(sample: dict[str, bytes], **changes: object) -> None:
    sample["json"] = json.dumps(json.loads(sample["json"]) | changes).encode()


def edit_pixels(sample: dict[str, bytes], member: str, change: Callable[[np.ndarray], object]) -> None:
    pixels = decode_member(sample[member], "png").copy()
    change(pixels)
    sample[member] = encode_png(pixels)


def only(faults: list[Fault]) -> Fault:
    assert len(faults) == 1, [str(fault) for fault in faults]
    return faults[0]


def position_where(build: Path, shard: int, wanted: Callable[[dict[str, np.ndarray]], bool]) -> int:
    """The first sample of a shard whose decoded PNG members are as ``wanted``."""
    for position, (_, sample) in enumerate(read_samples(tar_of(build, shard))):
        if wanted({name.partition(".")[0]: decode_member(d, "png") for name, d in sample.items() if ".png" in name}):
            return position
    raise AssertionError("no such sample in the tiny build; choose other seeds")


# --- sound ---


def test_a_sound_build_has_no_fault(tiny_build: Path):
    seen: list[tuple[int, int]] = []
    assert verify(tiny_build, report=lambda done, total: seen.append((done, total))) == []
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_verify_changes_nothing(tiny_build: Path):
    before = {path: path.stat().st_mtime_ns for path in tiny_build.rglob("*")}
    verify(tiny_build)
    assert {path: path.stat().st_mtime_ns for path in tiny_build.rglob("*")} == before


def test_what_a_build_excludes_has_no_fault_and_strangers_are_named(bare: Path):
    keys = [key for key, _ in read_samples(tar_of(bare, 1))]
    reseal(bare, 1, lambda samples: edit_pixels(samples[0][1], "mask.png", lambda mask: mask.fill(7)))
    assert {fault.key for fault in verify(bare)} == {keys[0]}
    (bare / EXCLUDE).parent.mkdir(exist_ok=True)
    (bare / EXCLUDE).write_text(f"{keys[0]}\n")
    assert verify(bare) == []
    (bare / EXCLUDE).write_text(f"{keys[0]}\nanother\n")
    fault = only(verify(bare))
    assert (fault.file, fault.key) == (EXCLUDE, "another")
    assert verify(bare, sample=3) == [], "who looks at some samples cannot know all keys"


def test_processes_find_the_same(bare: Path):
    tar_of(bare, 1).unlink()
    reseal(bare, 2, lambda samples: edit_pixels(samples[0][1], "mask.png", lambda mask: mask.fill(7)))
    assert verify(bare, workers=2) == verify(bare, workers=1) != []


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"fingerprint": "x"}'])
def test_a_folder_that_holds_no_build_is_refused(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / ".layerkit").mkdir()
        (tmp_path / ".layerkit/run.json").write_text(content)
    with pytest.raises(UsageError, match=r"run\.json"):
        verify(tmp_path)


def test_a_recipe_that_this_version_cannot_read_is_refused(copied: Path):
    path = copied / ".layerkit/run.json"
    run = json.loads(path.read_bytes())
    run["recipe"]["colour"] = "blue"
    path.write_text(json.dumps(run))
    with pytest.raises(UsageError, match=r"unknown key 'colour'.*read it with that version"):
        verify(copied)


# --- files ---


def test_another_fingerprint(copied: Path):
    path = copied / ".layerkit/run.json"
    run = json.loads(path.read_bytes())
    run["recipe"]["seed"] = 5
    path.write_text(json.dumps(run))
    assert only(verify(copied)).file == ".layerkit/run.json"


def test_a_flipped_byte_is_named(copied: Path):
    tar = copied / FIRST
    data = bytearray(tar.read_bytes())
    data[-1] ^= 1  # the padding after the end mark
    tar.write_bytes(data)
    faults = verify(copied)
    assert {fault.file for fault in faults} == {FIRST}
    assert "sha256" in faults[0].what


def test_a_flipped_byte_in_a_member_names_the_sample_too(copied: Path):
    tar = copied / FIRST
    keys = [key for key, _ in read_samples(tar)]
    data = bytearray(tar.read_bytes())
    caption = data.index(b'"caption":"') + len(b'"caption":"')
    data[caption] ^= 1
    tar.write_bytes(data)
    first, second = verify(copied)
    assert "sha256" in first.what
    assert (second.key, second.what) == (keys[0], "record: differs from its row in .layerkit/rows in caption")


def test_a_damaged_header_hides_no_other_shard(copied: Path):
    for shard in (0, 2):
        data = bytearray(tar_of(copied, shard).read_bytes())
        data[100] ^= 1  # the mode of the first member
        tar_of(copied, shard).write_bytes(data)
    whats = [(fault.file, fault.what.split(";")[0]) for fault in verify(copied)]
    assert [file for file, _ in whats] == [FIRST] * 2 + [f"data/{tar_of(copied, 2).name}"] * 2
    assert "bad tar header at byte 0" in whats[1][1]


def test_a_truncated_tar(copied: Path):
    tar = copied / FIRST
    size = tar.stat().st_size
    tar.write_bytes(tar.read_bytes()[: size // 2])
    fault = only(verify(copied))
    assert fault.file == FIRST
    assert f"expected {size} bytes, got {size // 2}" in fault.what


def test_a_truncated_tar_whose_commit_agrees(bare: Path):
    tar, commit = bare / FIRST, bare / ".layerkit/commit/000000.json"
    tar.write_bytes(tar.read_bytes()[:2048])
    table = json.loads(commit.read_bytes()) | {"bytes": 2048}
    commit.write_text(json.dumps(table))
    whats = [fault.what for fault in verify(bare)]
    assert len(whats) == 2
    assert "sha256" in whats[0]
    assert "truncated" in whats[1]


def test_a_deleted_commit(copied: Path):
    (copied / ".layerkit/commit/000000.json").unlink()
    fault = only(verify(copied))
    assert fault.file == FIRST
    assert "has no commit" in fault.what


def test_a_deleted_tar(copied: Path):
    (copied / FIRST).unlink()
    fault = only(verify(copied))
    assert fault.file == FIRST
    assert "is missing" in fault.what


def test_a_shard_that_was_never_built(copied: Path):
    (copied / FIRST).unlink()
    (copied / ".layerkit/commit/000000.json").unlink()
    fault = only(verify(copied))
    assert fault.file == ".layerkit/commit/000000.json"
    assert "was not built" in fault.what


@pytest.mark.parametrize("file", ["data/train-extra-000009.tar", "data/notes.txt", ".layerkit/commit/000099.json"])
def test_a_file_too_many(copied: Path, file: str):
    shutil.copy(copied / FIRST, copied / file)
    fault = only(verify(copied))
    assert (fault.file, fault.what.split(";")[0]) == (file, "belongs to no shard of the plan")


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "0" * 64},
        {"shard": 3},
        {"tar": "../../etc/passwd"},
        {"mix": "cut"},
        {"kept": "four"},
        {"more": 1},
    ],
)
def test_a_commit_that_is_not_this_shards(bare: Path, change: dict[str, object]):
    path = bare / ".layerkit/commit/000000.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    assert only(verify(bare)).file == ".layerkit/commit/000000.json"


def test_an_empty_commit(copied: Path):
    (copied / ".layerkit/commit/000000.json").write_bytes(b"")
    assert only(verify(copied)).file == ".layerkit/commit/000000.json"


def test_fewer_samples_than_the_commit_says(bare: Path):
    samples = reseal(bare, 0, lambda samples: samples.pop())
    fault = only(verify(bare))
    assert fault.file == FIRST
    assert f"expected the 4 samples of its rows, got {len(samples)}" in fault.what


def test_samples_in_another_order(bare: Path):
    reseal(bare, 0, lambda samples: samples.reverse())
    assert "sample 0" in only(verify(bare)).what


# --- keys ---


def test_a_key_that_stands_twice(bare: Path):
    twice = next(key for key, _ in read_samples(tar_of(bare, 0)))

    def rename(samples: Samples) -> None:
        edit_record(samples[2][1], key=twice)
        samples[2] = (twice, samples[2][1])

    reseal(bare, 1, rename)
    edit_rows(bare, 1, lambda rows: [row for row in rows if row["kept"]][2].update(key=twice))
    fault = only(verify(bare))
    assert fault == Fault(f"data/{tar_of(bare, 1).name}", twice, f"the key stands in {FIRST} too")


def test_a_key_of_other_characters(bare: Path):
    def rename(samples: Samples) -> None:
        edit_record(samples[0][1], key="Key+1")
        samples[0] = ("Key+1", samples[0][1])

    reseal(bare, 0, rename)
    edit_rows(bare, 0, lambda rows: next(row for row in rows if row["kept"]).update(key="Key+1"))
    assert only(verify(bare)) == Fault(FIRST, "Key+1", "expected a key of [a-z0-9_-]+")


# --- members and records ---


def test_a_missing_member(bare: Path):
    samples = reseal(bare, 0, lambda samples: samples[1][1].pop("shadow.png"))
    fault = only(verify(bare))
    assert fault.key == samples[1][0]
    assert "expected the members image.png, foreground.png" in fault.what


def test_a_member_of_another_format(bare: Path):
    def rename(samples: Samples) -> None:
        samples[0][1].update({"mask.webp": samples[0][1].pop("mask.png")})

    reseal(bare, 0, rename)
    assert "mask.webp" in only(verify(bare)).what


def test_swapped_members(bare: Path):
    def swap(samples: Samples) -> None:
        sample = samples[0][1]
        plate = encode_png(decode_member(sample["background.jpg"], "jpg"))
        sample["image.png"] = plate

    reseal(bare, 0, swap)
    assert "recompose with an error of" in only(verify(bare)).what


def test_layers_of_another_sample(bare: Path):
    reseal(bare, 0, lambda samples: samples[0][1].update({"background.jpg": samples[1][1]["background.jpg"]}))
    assert "recompose with an error of" in only(verify(bare)).what


def test_a_member_that_is_no_picture(bare: Path):
    reseal(bare, 0, lambda samples: samples[0][1].update({"image.png": b"\x89PNG\r\n\x1a\n"}))
    assert "expected a PNG member" in only(verify(bare)).what


def test_layers_of_two_sizes(bare: Path):
    reseal(bare, 0, lambda samples: samples[0][1].update({"shadow.png": encode_png(np.zeros((8, 8), np.uint8))}))
    assert "all layers of a triplet share the size" in only(verify(bare)).what


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"split": "test"}, "expected key, split and mix"),
        ({"key": "another"}, "expected key, split and mix"),
        ({"licence": "mit"}, "the strictest of its layers"),
        ({"width": 65}, "expected the layers' size, 64 x 64, got 65 x 64"),
        ({"recomposition_error": 1}, "expected the recomposition_error of the layers, 0, got 1"),
        ({"caption": 7}, "caption must be"),
        ({"schema": 99}, "upgrade layerkit"),
        ({"surplus": 7}, "unknown ['surplus']"),
    ],
)
def test_a_wrong_record(bare: Path, changes: dict[str, object], what: str):
    reseal(bare, 0, lambda samples: edit_record(samples[0][1], **changes))

    def follow(rows: list[dict]) -> None:
        if "key" not in changes:  # a row is found by its sample's key
            next(row for row in rows if row["kept"]).update(changes)

    edit_rows(bare, 0, follow)
    faults = [fault for fault in verify(bare) if "differs from its row" not in fault.what or "key" not in changes]
    assert what in only(faults).what


def test_a_record_that_is_no_json(bare: Path):
    reseal(bare, 0, lambda samples: samples[0][1].update({"json": b"{"}))
    assert "expected a JSON record" in only(verify(bare)).what


# --- rows and manifests ---


def test_a_changed_row(bare: Path):
    edit_rows(bare, 0, lambda rows: next(row for row in rows if row["kept"]).update(caption="another"))
    fault = only(verify(bare))
    assert fault.what == "record: differs from its row in .layerkit/rows in caption"


def test_a_changed_row_also_differs_from_the_manifest(copied: Path):
    edit_rows(copied, 0, lambda rows: next(row for row in rows if row["kept"]).update(caption="another"))
    assert [fault.file for fault in verify(copied)] == [FIRST, "manifests/samples.parquet"]


@pytest.mark.parametrize("damage", ["drop a row", "not json", "no file", "a list", "another reason"])
def test_rows_that_do_not_agree_with_the_commit(copied: Path, damage: str):
    path = copied / ".layerkit/rows/000000.jsonl"
    lines = path.read_text().splitlines()
    texts = {
        "drop a row": lines[:-1],
        "not json": ["{", *lines[1:]],
        "a list": ["[]", *lines[1:]],
        "another reason": [*lines, json.dumps({"kept": False, "drop": {"reason": "mood"}})],
    }
    path.unlink()
    if damage != "no file":
        path.write_text("\n".join(texts[damage]) + "\n")
    assert ".layerkit/rows/000000.jsonl" in [fault.file for fault in verify(copied)]


def test_a_changed_manifest(copied: Path):
    path = copied / "manifests/samples.parquet"
    _rewrite(path, lambda row: row | {"caption": "another"} if row["shard"] == Path(FIRST).name else row)
    faults = verify(copied)
    assert [fault.file for fault in faults] == ["manifests/samples.parquet"] * 4
    assert faults[0].what == f"expected what shard {Path(FIRST).name} says of caption, got other"


def test_a_changed_table_of_shards(copied: Path):
    _rewrite(copied / "manifests/shards.parquet", lambda row: row | {"kept": 5} if row["shard"] == 2 else row)
    assert only(verify(copied)).what == "expected what shard 2 says of kept, got other"


def test_a_manifest_that_lacks_a_shard(copied: Path):
    path = copied / "manifests/samples.parquet"
    with pq.ParquetFile(path) as table:
        rows = table.read()
    with pq.ParquetWriter(path, rows.schema) as writer:
        writer.write_table(rows.slice(4))
    assert only(verify(copied)).what == f"expected rows of shard {Path(FIRST).name}, got none"


def test_a_broken_manifest(copied: Path):
    (copied / "manifests/samples.parquet").write_bytes(b"PAR1")
    assert only(verify(copied)).file == "manifests/samples.parquet"


def _rewrite(path: Path, change: Callable[[dict], dict]) -> None:
    """Change the rows of a parquet file, its row groups kept."""
    with pq.ParquetFile(path) as table:
        groups = [table.read_row_group(k) for k in range(table.num_row_groups)]
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for group in groups:
            rows = [change(row) for row in group.to_pylist()]
            writer.write_table(group.from_pylist(rows, schema=group.schema))


# --- what a triplet promises ---


def test_a_wrong_mask(bare: Path):
    reseal(
        bare, 0, lambda samples: edit_pixels(samples[0][1], "mask.png", lambda mask: np.subtract(255, mask, out=mask))
    )
    assert sorted(fault.what.split(",")[0] for fault in verify(bare)) == [
        "mask: expected the object alone",
        "mask: expected the whole visible object",
    ]


def test_a_mask_that_covers_the_shadow(bare: Path):
    shaded = position_where(bare, 0, lambda parts: parts["shadow"].any() and not parts["occluder"].any())

    def widen(samples: Samples) -> None:
        alpha = decode_member(samples[shaded][1]["foreground.png"], "png")[..., 3]
        samples[shaded][1]["mask.png"] = encode_png(np.where(alpha > 0, np.uint8(255), np.uint8(0)))

    reseal(bare, 0, widen)
    assert "expected the object alone" in only(verify(bare)).what


def test_a_soft_mask(bare: Path):
    reseal(
        bare, 0, lambda samples: edit_pixels(samples[0][1], "mask.png", lambda mask: np.minimum(mask, 254, out=mask))
    )
    assert "expected 0 or 255" in only(verify(bare)).what


@pytest.mark.parametrize("member", ["foreground.png", "occluder.png"])
def test_colour_under_clear_alpha(bare: Path, member: str):
    def colour(rgba: np.ndarray) -> None:
        y, x = np.argwhere(rgba[..., 3] == 0)[0]
        rgba[y, x, 1] = 1

    samples = reseal(bare, 0, lambda samples: edit_pixels(samples[0][1], member, colour))
    fault = only(verify(bare))
    assert fault.key == samples[0][0]
    assert fault.what == f"{member[:-4]}: expected colour 0 where alpha is 0, got another in 1 pixels"


def test_a_shadow_that_the_foreground_does_not_hold(bare: Path):
    def darken(shadow: np.ndarray) -> None:
        shadow[0, 0] = 200

    clear = position_where(bare, 0, lambda parts: parts["foreground"][0, 0, 3] == 0)
    reseal(bare, 0, lambda samples: edit_pixels(samples[clear][1], "shadow.png", darken))
    assert "at most the foreground's alpha, got more in 1 pixels" in only(verify(bare)).what


def test_a_shadow_on_the_opaque_object(bare: Path):
    def darken(samples: Samples) -> None:
        alpha = decode_member(samples[0][1]["foreground.png"], "png")[..., 3]
        mask = decode_member(samples[0][1]["mask.png"], "png")
        y, x = np.argwhere((alpha == 255) & (mask == 255))[0]
        edit_pixels(samples[0][1], "shadow.png", lambda shadow: shadow.__setitem__((y, x), 60))

    reseal(bare, 0, darken)
    assert "none on the opaque object, got some in 1 pixels" in only(verify(bare)).what


def test_a_shadow_too_dark_to_be_undone(bare: Path):
    def darken(samples: Samples) -> None:
        alpha = decode_member(samples[0][1]["foreground.png"], "png")[..., 3]
        y, x = np.argwhere(alpha == 255)[0]
        edit_pixels(samples[0][1], "shadow.png", lambda shadow: shadow.__setitem__((y, x), 218))

    reseal(bare, 0, darken)
    assert "shadow: expected at most 217, got 218" in [fault.what for fault in verify(bare)]


# --- many faults, and samples of them ---


def test_no_fault_hides_another(bare: Path):
    reseal(bare, 0, lambda samples: [edit_pixels(s, "mask.png", lambda mask: mask.fill(7)) for _, s in samples])
    (tar_of(bare, 1)).unlink()
    (bare / ".layerkit/commit/000002.json").write_text("{")
    (bare / "data/stray").touch()
    faults = verify(bare)
    assert len({fault.key for fault in faults if fault.file == FIRST}) == 4
    assert {fault.file for fault in faults} == {
        "data/stray",
        FIRST,
        "data/train-paste-000001.tar",
        ".layerkit/commit/000002.json",
    }


def test_a_sample_finds_sizes_everywhere_and_decodes_a_few(bare: Path):
    for shard in range(4):
        reseal(bare, shard, lambda samples: [edit_pixels(s, "mask.png", lambda mask: mask.fill(7)) for _, s in samples])
    found = verify(bare, sample=3)
    assert len({fault.key for fault in found}) == 3
    assert found == verify(bare, sample=3, workers=1)
    assert len({fault.key for fault in verify(bare, sample=1000)}) == 12
    tar_of(bare, 3).write_bytes(b"")
    assert [fault.file for fault in verify(bare, sample=0)] == [f"data/{tar_of(bare, 3).name}"]


def test_a_fault_is_one_line():
    assert str(Fault("data/a.tar", "k", "what")) == "data/a.tar: k: what"
    assert str(Fault("data/a.tar", "", "what")) == "data/a.tar: what"
