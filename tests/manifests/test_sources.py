"""Sources: entries in a fixed order, hidden files left out, and errors that name the root."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from layerkit.manifests import recipes
from layerkit.manifests.entry import Seed, slug
from layerkit.manifests.errors import UsageError
from layerkit.manifests.licences import LICENCES
from layerkit.manifests.sources import SOURCES, embedded, entries, find

FILES = ["b.jpg", "a/z.PNG", "a/B.webp", "a b.tif", "c.jpeg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in [*FILES, ".hidden.jpg", ".git/x.png", "a/.cache/y.png", "notes.txt", "a/list.csv", "noend"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    return tmp_path


# embedded


def test_every_embedded_photograph_is_there_and_its_objects_lie_in_it() -> None:
    found = list(embedded.index(Path()))
    assert len({entry.id for entry in found}) == len(found) > 8
    for entry in found:
        assert entry.licence in LICENCES
        assert entry.caption
        assert entry.url.startswith("https://")
        assert 0 <= entry.ground <= 1
        with Image.open(entry.path) as picture:
            for seed in entry.seeds:
                check_seed(seed, *picture.size)


def check_seed(seed: Seed, width: int, height: int) -> None:
    left, top, wide, high = seed.box
    assert 0 <= left < left + wide <= width
    assert 0 <= top < top + high <= height
    for outline in (*seed.outlines, *seed.holes):
        x, y = outline[::2], outline[1::2]
        assert len(x) == len(y) >= 3
        assert left - 4 <= min(x) <= max(x) <= left + wide + 4
        assert top - 4 <= min(y) <= max(y) <= top + high + 4


def test_embedded_names_a_package_or_file_that_is_missing() -> None:
    with pytest.raises(UsageError, match="expected the package no_such_package, which is not installed"):
        embedded._locate("no_such_package", "x.png")
    with pytest.raises(UsageError, match="this version of skimage does not ship"):
        embedded._locate("skimage", "data/no-such.png")


def test_the_embedded_entries_are_found_without_importing_their_packages() -> None:
    code = (
        "import sys; from pathlib import Path; from layerkit.manifests.sources import entries\n"
        "assert list(entries('embedded', {}))\n"
        "assert not {'skimage', 'sklearn', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# folders


def test_photos_come_in_the_order_of_their_paths_without_hidden_ones(folder: Path) -> None:
    found = list(entries("photos", {"photos": folder}))
    assert [entry.id for entry in found] == ["a/B.webp", "a/z.PNG", "a b.tif", "b.jpg", "c.jpeg"]
    assert {entry.kind for entry in found} == {"photo"}
    assert all(entry.path == folder / entry.id for entry in found)
    assert {entry.licence for entry in found} == {"unknown"}


def test_the_order_is_that_of_paths_and_links_to_folders_are_not_followed(folder: Path) -> None:
    (folder / "a" / "link.jpg").symlink_to(folder / "b.jpg")
    (folder / "a" / "broken.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "a" / "circle").symlink_to(folder)
    (folder / "linked").symlink_to(folder / "a")
    found = [entry.path for entry in entries("photos", {"photos": folder})]
    assert found == sorted(found)
    assert [path.name for path in found] == ["B.webp", "link.jpg", "z.PNG", "a b.tif", "b.jpg", "c.jpeg"]


def test_a_folder_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: str, scandir=os.scandir):
        if path.endswith("a"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UsageError, match="a: expected a folder that can be read: Permission denied"):
        list(entries("photos", {"photos": folder}))


def test_a_root_below_a_hidden_folder_is_not_hidden(tmp_path: Path) -> None:
    root = tmp_path / ".data" / "photos"
    root.mkdir(parents=True)
    (root / "a.jpg").touch()
    assert [entry.id for entry in entries("photos", {"photos": root})] == ["a.jpg"]


def test_cut_outs_leave_the_checkerboards_aside(tmp_path: Path) -> None:
    for name in ("dog.png", "dog_visualization.png", "cat.webp"):
        (tmp_path / name).touch()
    found = list(entries("rgba", {"rgba": tmp_path}))
    assert [(entry.id, entry.kind, entry.uses) for entry in found] == [
        ("cat.webp", "rgba", ("foreground",)),
        ("dog.png", "rgba", ("foreground",)),
    ]


@pytest.mark.parametrize("name", ["photos", "rgba", "layerdiffuse"])
def test_a_folder_says_nothing_of_its_licence(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "LICENSE").write_text("MIT", encoding="utf-8")
    assert [entry.licence for entry in entries(name, {name: tmp_path})] == ["unknown"]


def test_a_real_folder_of_cut_outs(shared_data: Path) -> None:
    found = list(entries("rgba", {"rgba": shared_data / "layerdiffuse_rootonchair"}))
    assert len(found) == 7
    assert found[0].id.startswith("assets/")


# errors


@pytest.mark.parametrize("name", ["photos", "rgba"])
def test_a_folder_source_asks_for_its_root(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"add --root {name}=DIR"):
        entries(name, {})
    with pytest.raises(UsageError, match=f"--root {name}: expected a folder, got .*nowhere, which does not exist"):
        entries(name, {name: tmp_path / "nowhere"})
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"--root {name}: expected a folder, got .*file$"):
        entries(name, {name: tmp_path / "file"})
    with pytest.raises(UsageError, match=r"expected pictures .* found none"):
        list(entries(name, {name: tmp_path}))


def test_a_folder_of_checkerboards_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dog_visualization.png").touch()
    with pytest.raises(UsageError, match="found only"):
        list(entries("rgba", {"rgba": tmp_path}))


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"expected one of embedded, .*got 'mulann'"):
        find("mulann")
    assert all(find(name).about for name in SOURCES)


# recipes


def test_shipped_recipes_are_tables_with_a_mix() -> None:
    for name, path in recipes.shipped().items():
        assert recipes.find(name) == path
        assert recipes.load_table(path)["mix"]
    assert "embedded" not in recipes.shipped()


def test_a_recipe_is_a_name_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("count = 3\n", encoding="utf-8")
    assert recipes.find(str(path)) == path
    assert recipes.load_table(path) == {"count": 3}
    with pytest.raises(UsageError, match=r"recipe: expected one of .*got 'nothing'"):
        recipes.find("nothing")


@pytest.mark.parametrize("data", [b"count = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_what_is_no_toml_is_refused_with_its_path(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"mine\.toml: expected a TOML file: "):
        recipes.load_table(path)
    with pytest.raises(UsageError, match="expected a TOML file"):
        recipes.load_table(tmp_path / "missing.toml")


# keys


@given(st.text(), st.integers(1, 40))
def test_a_slug_is_always_part_of_a_key(text: str, length: int) -> None:
    made = slug(text, length)
    assert 1 <= len(made) <= max(1, length)
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert slug(made, length) == made
    assert not made.startswith("-")
    assert not made.endswith("-")
