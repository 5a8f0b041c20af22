"""Tags become files and files become tags; who is not shown keeps what was said of him."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerkit.manifests.errors import UsageError
from layerkit.manifests.exclusions import EXCLUDE, excluded_from
from layerkit.pipelines.browsing.tags import EXCLUDED, LABELS, Exported, export, said_in, unsaid
from layerkit.pipelines.labels import Label, read_labels, write_labels


@pytest.fixture
def build(tmp_path: Path) -> Path:
    (tmp_path / "manifests").mkdir()
    return tmp_path


def test_the_tags_are_those_that_the_readme_names():
    assert EXCLUDED == "exclude"
    assert LABELS == {
        "mask-good": ("mask-quality", "good"),
        "mask-bad": ("mask-quality", "bad"),
        "inpaint-good": ("inpaint-quality", "good"),
        "inpaint-bad": ("inpaint-quality", "bad"),
    }


def test_tags_become_an_exclude_list_and_labels(build: Path):
    tags = {"a": {"exclude", "mine"}, "b": {"mask-bad", "inpaint-good"}, "c": set(), "d": {"mask-bad", "mask-good"}}
    done = export(build, tags)
    assert excluded_from(build) == {"a"}
    assert read_labels(build / "manifests/labels.jsonl") == [
        Label(key="b", role="inpaint-quality", label="good"),
        Label(key="b", role="mask-quality", label="bad"),
    ]
    assert (done.shown, done.excluded, done.labels, done.contradictory) == (4, 1, 2, ("d",))
    assert "d" in done.describe()
    assert said_in(build) == {"a": ["exclude"], "b": ["inpaint-good", "mask-bad"]}


def test_what_is_shown_decides_and_what_is_not_stays(build: Path):
    (build / EXCLUDE).write_text("a\nhidden\n")
    hidden = Label(key="hidden", role="mask-quality", label="bad", note="half")
    seen = Label(key="a", role="mask-quality", label="good", note="sharp")
    write_labels(build / "manifests/labels.jsonl", [hidden, seen])
    export(build, {"a": {"mask-good"}, "b": {"exclude"}})
    assert excluded_from(build) == {"hidden", "b"}
    assert read_labels(build / "manifests/labels.jsonl") == [hidden, seen], "its note too"
    export(build, {"a": set(), "b": set(), "hidden": set()})
    assert excluded_from(build) == frozenset()
    assert said_in(build) == {}


def test_nothing_said_writes_nothing(build: Path):
    done = export(build, {"a": {"mine"}, "b": set()})
    assert list((build / "manifests").iterdir()) == []
    assert (done.exclude_file, done.labels_file) == ("", "")
    assert "no tag of exclude" in done.describe()


def test_the_files_of_a_report_lie_in_its_folder(tmp_path: Path):
    done = export(tmp_path, {"case 1": {"exclude"}})
    assert Path(done.exclude_file) == tmp_path / "exclude.txt"
    assert said_in(tmp_path) == {"case 1": ["exclude"]}


def test_files_that_cannot_be_read_or_written_are_named(build: Path):
    (build / "manifests/labels.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match=r"labels\.jsonl:1"):
        said_in(build)
    (build / "manifests/labels.jsonl").unlink()
    (build / EXCLUDE).mkdir()
    with pytest.raises(UsageError, match=r"cannot write the exclude list .*exclude\.txt"):
        export(build, {"a": {"exclude"}})


KEYS = st.sampled_from("abcde")
TAGS = st.dictionaries(KEYS, st.frozensets(st.sampled_from([EXCLUDED, *LABELS, "mine"])))


@given(first=TAGS, second=TAGS)
def test_what_was_written_is_what_is_said(tmp_path_factory: pytest.TempPathFactory, first: dict, second: dict):
    folder = tmp_path_factory.mktemp("said")
    spoken = {EXCLUDED, *LABELS}
    clear = [{"mask-good", "mask-bad"}, {"inpaint-good", "inpaint-bad"}]
    done: Exported | None = None
    for tags in (first, second):
        done = export(folder, tags)
    said = {key: set(tags) for key, tags in said_in(folder).items()}
    for key, tags in {**first, **second}.items():
        expected = set(tags & spoken)
        for pair in clear:
            expected -= pair if pair <= expected else set()
        assert said.get(key, set()) == expected
    assert done is not None
    assert unsaid(folder, second) == len(done.contradictory)
