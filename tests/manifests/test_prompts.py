"""Prompts for LayerDiffuse: every line of text is an entry, and its bytes can be read again."""

import json
from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.prompts import Prompt, parse_prompt
from layerkit.manifests.sources.prompts import index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "prompts"
    for name, content in {
        "b.txt": "a glass bottle\r\n\r\n  a dög, red hair \n",
        "a/rows.jsonl": '{"prompt": " a cat ", "seed": 7}\n\n{"prompt": "an owl", "negative": "blur", "note": [1]}',
        "a/bom.txt": '\ufeffa fern\n{"prompt": "moss"}',
        "c.txt": "\ufeff\n \n",
        "picture.png": "no prompt",
        ".hidden/d.txt": "hidden",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode())
    return root


def test_every_line_is_an_entry_in_order(folder: Path) -> None:
    found = list(index(folder))
    assert [(entry.id, entry.caption) for entry in found] == [
        ("a/bom.txt:1", "a fern"),
        ("a/bom.txt:2", "moss"),
        ("a/rows.jsonl:1", "a cat"),
        ("a/rows.jsonl:3", "an owl"),
        ("b.txt:1", "a glass bottle"),
        ("b.txt:3", "a dög, red hair"),
    ]
    for entry in found:
        assert (entry.source, entry.kind, entry.uses) == ("layerdiffuse:generate", "prompt", ("foreground",))
        assert (entry.path, entry.licence, entry.drop) == (folder / entry.id.partition(":")[0], "unknown", "")


def test_the_span_holds_the_line_and_reads_the_same_again(folder: Path) -> None:
    prompts = []
    for entry in index(folder):
        offset, length = entry.span
        line = entry.path.read_bytes()[offset : offset + length]
        assert not line.endswith((b"\r", b"\n"))
        prompts.append(parse_prompt(line))
        assert prompts[-1].prompt == entry.caption
    assert Prompt("a cat", seed=7) in prompts
    assert Prompt("an owl", negative="blur") in prompts


@pytest.mark.parametrize(
    "row",
    [
        "a cat",
        "[1]",
        "{",
        "{}",
        '{"prompt": ""}',
        '{"prompt": 3}',
        '{"prompt": "a", "seed": -1}',
        '{"prompt": "a", "seed": 1.5}',
        '{"prompt": "a", "seed": true}',
        '{"prompt": "a", "seed": 9223372036854775808}',
        '{"prompt": "a", "negative": null}',
        r'{"prompt": "half a pair \ud83d"}',
        '{"prompt": "a", "x": ' + "[" * 100_000,
    ],
    ids=lambda row: row[:30],
)
def test_a_row_that_is_no_prompt_is_named_with_file_and_line(tmp_path: Path, row: str) -> None:
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps({'prompt': 'fine'})}\n{row}\n")
    with pytest.raises(UsageError, match=r'rows\.jsonl, line 2: expected \{"prompt".*; mend or remove') as caught:
        list(index(tmp_path))
    assert len(str(caught.value)) < 600


def test_text_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\na caf\xe9\n")
    with pytest.raises(UsageError, match=r"a\.txt, line 2: .*plain UTF-8"):
        list(index(tmp_path))


def test_a_null_seed_is_an_open_one() -> None:
    assert parse_prompt(b'{"prompt": "a", "seed": null}') == parse_prompt(b" a \r\n") == Prompt("a")


def test_a_folder_without_prompts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UsageError, match=r"expected prompts, found no line in a \*\.txt or \*\.jsonl"):
        list(index(tmp_path))
