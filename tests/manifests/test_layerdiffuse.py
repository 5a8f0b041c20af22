"""LayerDiffuse's folders: prompts find their pictures, wherever the file stands that holds them."""

import json
from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.sources import entries, layerdiffuse


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "outputs"
    for name in ("cat.png", "dog.png", "dog_visualization.png", "more/owl.webp", "more/elk.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write_rows(path: Path, *rows: dict) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_cut_outs_come_in_order_without_checkerboards(folder: Path) -> None:
    found = list(entries("layerdiffuse", {"layerdiffuse": folder}))
    assert [entry.id for entry in found] == ["cat.png", "dog.png", "more/elk.png", "more/owl.webp"]
    for entry in found:
        assert (entry.source, entry.kind, entry.uses) == ("layerdiffuse", "rgba", ("foreground",))
        assert (entry.licence, entry.caption, entry.drop) == ("unknown", "", "")
        assert entry.path == folder / entry.id


def test_prompts_are_found_from_where_they_stand(folder: Path, monkeypatch) -> None:
    (folder / "cat.txt").write_text(" a cat, glass \n", encoding="utf-8")
    (folder / "dog.txt").write_text("less than the jsonl", encoding="utf-8")
    write_rows(
        folder / "prompts.jsonl", {"file": "dog.png", "prompt": "first"}, {"file": "./dog.png", "prompt": "a dög"}
    )
    write_rows(folder / "more" / "p.jsonl", {"file": "owl.webp", "prompt": "an owl", "seed": 3})
    wanted = {"cat.png": "a cat, glass", "dog.png": "a dög", "more/elk.png": "", "more/owl.webp": "an owl"}
    assert {entry.id: entry.caption for entry in layerdiffuse.index(folder)} == wanted
    monkeypatch.chdir(folder)
    assert {entry.id: entry.caption for entry in layerdiffuse.index(Path())} == wanted


@pytest.mark.parametrize("relative", [False, True])
def test_a_row_without_its_picture_is_told(folder: Path, relative: bool, monkeypatch) -> None:
    (folder.parent / "secret.png").touch()
    names = ["gone.png", "../secret.png", "/etc/passwd", "more/../../secret.png", "nul\0.png", "more/../cat.png"]
    write_rows(folder / "prompts.jsonl", *({"file": name, "prompt": "p"} for name in names))
    monkeypatch.chdir(folder)
    found = {entry.id: entry.drop for entry in layerdiffuse.index(Path() if relative else folder)}
    told = {id_: drop.partition(": ")[0] for id_, drop in found.items() if drop}
    assert told == {
        "prompts.jsonl:1": "missing_file",
        "prompts.jsonl:2": "path_outside_root",
        "prompts.jsonl:3": "path_outside_root",
        "prompts.jsonl:4": "path_outside_root",
        "prompts.jsonl:5": "missing_file",
    }
    assert found["prompts.jsonl:1"] == "missing_file: prompts.jsonl:1 names gone.png"
    assert len(found) == 4 + len(told)


@pytest.mark.parametrize(
    "line", ["{", "[]", "7", '{"file": "cat.png"}', '{"file": "", "prompt": "x"}', '{"file": 1, "prompt": "x"}', "\xff"]
)
def test_a_broken_row_is_named_with_file_and_line(folder: Path, line: str) -> None:
    text = '{"file": "cat.png", "prompt": "a cat"}\n\n' + line
    (folder / "prompts.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r'prompts\.jsonl, line 3: expected \{"file": .*mend or remove the line'):
        list(layerdiffuse.index(folder))


def test_checkerboards_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dog_visualization.png").touch()
    with pytest.raises(UsageError, match="found only"):
        list(layerdiffuse.index(tmp_path))


def test_real_outputs(shared_data: Path) -> None:
    found = list(layerdiffuse.index(shared_data / "layerdiffuse_cli"))
    assert found
    assert not any("_visualization" in entry.id for entry in found)
