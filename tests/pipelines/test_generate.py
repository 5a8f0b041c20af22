"""``layerkit generate``: folders of layers, seeds that say what was drawn, and a run as a generator."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from layerkit.manifests.errors import RunError, UsageError
from layerkit.manifests.prompts import Prompt
from layerkit.manifests.recipes import load_table
from layerkit.manifests.sources.prompts import read_prompts
from layerkit.pipelines.compose import compose
from layerkit.pipelines.generate import PROMPTS, RECORD, generate, seeded
from layerkit.pipelines.options import Progress
from layerkit.pipelines.train import train
from layerkit.pipelines.training.config import load as load_config
from layerkit.pipelines.training.streams import Sources
from layerkit.toolkit.compose import over_u8
from layerkit.toolkit.edit import Edit, edited
from layerkit.toolkit.generation import Checked, Generation, checked_generator
from layerkit.toolkit.generators import load
from layerkit.toolkit.generators.options import Options
from layerkit.toolkit.images import read
from layerkit.toolkit.models.runs import revision_of_run
from layerkit.toolkit.models.tiny_sdxl import write_tiny_sdxl

FILES = {"foreground.png", "background.png", "blend.png", "recomposition.png", "mask.png", "strip.png", RECORD}


class Squares:
    """A square whose colour and place its seed draws, before a plain ground."""

    name, revision, licence = "squares", "1", "CC0-1.0"

    def __init__(self, *, has_background: bool = True, blends: bool = False) -> None:
        self.has_background, self.blends = has_background, blends
        self.asked: list[int] = []

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Generation]:
        self.asked.append(len(prompts))
        return [self.drawn(seed) for seed in seeds]

    def drawn(self, seed: int) -> Generation:
        rng = np.random.default_rng(seed)
        foreground = np.zeros((24, 32, 4), np.uint8)
        row, column = rng.integers(0, 12, 2)
        foreground[row : row + 8, column : column + 8] = (*rng.integers(1, 256, 3), 255)
        ground = np.full((24, 32, 3), rng.integers(256), np.uint8)
        return Generation(foreground, ground if self.has_background else None, 255 - ground if self.blends else None)


def squares(**traits: bool) -> Checked:
    return checked_generator(Squares(**traits))


def test_every_picture_is_a_folder_of_layers_that_compose(tmp_path: Path):
    rows = generate([Prompt("a red mug"), Prompt("An OWL, at night!")], squares(), tmp_path / "out", seed=3)
    assert [row.name for row in rows] == ["0000-a-red-mug", "0001-an-owl-at-night"]
    for row in rows:
        folder = tmp_path / "out" / row.name
        assert {path.name for path in folder.iterdir()} == FILES
        record = json.loads((folder / RECORD).read_bytes())
        assert record["seed"] == row.seed
        assert record["model"] == "squares"
        assert record["coverage"] == pytest.approx(64 / (24 * 32), abs=1e-6)
        foreground, background = read(folder / "foreground.png", alpha=True), read(folder / "background.png")
        assert np.array_equal(read(folder / "blend.png"), over_u8(foreground, background))
        assert np.array_equal(read(folder / "mask.png")[..., 0] > 0, foreground[..., 3] > 127)
        assert np.array_equal(foreground, Squares().drawn(row.seed).foreground)


def test_a_model_s_own_blend_is_kept_beside_the_recomposition_and_cutouts_have_neither(tmp_path: Path):
    (blended,) = generate([Prompt("a mug")], squares(blends=True), tmp_path / "out")
    folder = tmp_path / "out" / blended.name
    assert not np.array_equal(read(folder / "blend.png"), read(folder / "recomposition.png"))
    assert np.array_equal(read(folder / "blend.png"), 255 - read(folder / "background.png"))
    generate([Prompt("a mug")], squares(has_background=False), tmp_path / "out", overwrite=True)
    assert {path.name for path in folder.iterdir()} == {"foreground.png", "mask.png", "strip.png", RECORD}


def test_seeds_depend_on_the_text_alone_and_prompts_may_bring_their_own():
    mug, owl, own = Prompt("a mug"), Prompt("an owl"), Prompt("a fern", seed=7)
    first = seeded([mug, owl], 2, seed=0)
    assert len({seed for _, seed in first}) == 4
    assert seeded([owl, mug], 2, seed=0) == [*first[2:], *first[:2]]
    assert seeded([mug, mug], 1, seed=0) == first[:2]
    assert seeded([mug], 1, seed=1) != first[:1]
    assert next(seed for _, seed in seeded([own], 3, seed=0)) == 7
    assert len({seed for _, seed in seeded([own], 3, seed=0)}) == 3


def test_the_prompts_that_are_written_draw_the_same_again(tmp_path: Path):
    asked = [Prompt("ein Käuzchen", negative="blur", background="night"), Prompt("a mug", seed=11)]
    rows = generate(asked, squares(), tmp_path / "one", count=2, seed=5)
    again = generate(read_prompts(tmp_path / "one" / PROMPTS), squares(), tmp_path / "two", seed=99)
    assert [(row.prompt, row.seed, row.negative, row.background) for row in rows] == [
        (row.prompt, row.seed, row.negative, row.background) for row in again
    ]
    for row in rows:
        first, second = (tmp_path / run / row.name / "foreground.png" for run in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_batches_hold_as_many_as_asked_for(tmp_path: Path):
    inner = Squares()
    told: list[int] = []
    generate(
        [Prompt(name) for name in "abcde"],
        checked_generator(inner),
        tmp_path / "out",
        batch=2,
        report=lambda progress: told.append(progress.done),
    )
    assert inner.asked == [2, 2, 1]
    assert told == [2, 4, 5]


def test_what_was_drawn_before_an_interruption_is_not_drawn_again(tmp_path: Path):
    prompts, inner = [Prompt(name) for name in "abcd"], Squares()

    def stop(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(prompts, checked_generator(inner), tmp_path / "out", report=stop)
    (tmp_path / "out" / "0001-b" / RECORD).unlink()  # killed before its record
    rows = generate(prompts, checked_generator(inner), tmp_path / "out")
    assert inner.asked == [1, 1, 1, 1, 1]  # a and b, then b again, c and d
    assert [row.prompt for row in rows] == list("abcd")
    whole = generate(prompts, squares(), tmp_path / "whole")
    assert rows == whole
    for row in rows:
        for name in FILES:
            one, other = (tmp_path / folder / row.name / name for folder in ("out", "whole"))
            assert one.read_bytes() == other.read_bytes()


def test_nothing_is_written_over_unasked(tmp_path: Path):
    (first,) = generate([Prompt("a mug")], squares(), tmp_path / "out")
    for other, what in (({"seed": 1}, "other prompts or seeds"), ({"told": {"steps": 3}}, "another model or option")):
        with pytest.raises(UsageError, match=rf"--out: .* is there already, of {what}; .*--overwrite"):
            generate([Prompt("a mug")], squares(), tmp_path / "out", **other)
    (again,) = generate([Prompt("a mug")], squares(), tmp_path / "out", seed=1, overwrite=True)
    assert again.seed != first.seed
    (tmp_path / "out" / again.name / RECORD).write_text("{")
    with pytest.raises(UsageError, match=r"0000-a-mug is there already"):
        generate([Prompt("a mug")], squares(), tmp_path / "out", seed=1)
    with pytest.raises(UsageError, match="expected a prompt, and count and batch of 1 or more, got 0, 1, 1"):
        generate([], squares(), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_prompts_of_other_pictures_stay_unless_told_otherwise(tmp_path: Path):
    generate([Prompt("a mug")], squares(), tmp_path / "out")
    before = (tmp_path / "out" / PROMPTS).read_bytes()
    with pytest.raises(UsageError, match=r"--out: .*prompts\.jsonl is there already, of other"):
        generate([Prompt("an owl")], squares(), tmp_path / "out")
    assert (tmp_path / "out" / PROMPTS).read_bytes() == before
    assert not (tmp_path / "out" / "0000-an-owl").exists()
    generate([Prompt("an owl")], squares(), tmp_path / "out", overwrite=True)
    assert [one.prompt for one in read_prompts(tmp_path / "out" / PROMPTS)] == ["an owl"]


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match=r"--out: expected a folder, got the file .*out; name another one"):
        generate([Prompt("a mug")], squares(), tmp_path / "out", overwrite=True)


def test_a_generated_picture_is_edited_as_a_decomposed_one(tmp_path: Path):
    (row,) = generate([Prompt("a mug")], squares(), tmp_path / "out")
    folder, edit = tmp_path / "out" / row.name, Edit(move=(0.2, 0.1), scale=1.5)
    written = read(compose(folder, edit, tmp_path / "moved.png"))
    made = Squares().drawn(row.seed)
    assert np.array_equal(written, over_u8(edited(made.foreground, edit), made.background))
    assert not np.array_equal(written, made.image)


@pytest.mark.parametrize("name", ["prompts.csv", "absent.txt"])
def test_a_file_that_holds_no_prompts_is_named(tmp_path: Path, name: str):
    (tmp_path / "prompts.csv").write_text("a mug\n")
    with pytest.raises(UsageError, match=rf"expected a file of prompts, \.jsonl or \.txt, got .*{name}"):
        read_prompts(tmp_path / name)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(UsageError, match=r"empty\.txt: expected prompts, found no line with one"):
        read_prompts(tmp_path / "empty.txt")


def test_a_generator_takes_options_of_its_own_and_the_record_says_which(tmp_path: Path):
    weights = write_tiny_sdxl(tmp_path / "weights")
    options = {"weights": weights, "size": (64, 48), "steps": 2, "device": "cpu"}
    plain = Options(**options)
    told = Options(**options, settings={"sharing": "joint", "decision": math.inf})
    rows = {}
    for name, one in (("plain", plain), ("told", told)):
        (rows[name],) = generate([Prompt("a mug", seed=1)], load("layerfusion", one), tmp_path / name, told=one.told())
        assert rows[name].size == (48, 64)
    record = json.loads((tmp_path / "told" / rows["told"].name / RECORD).read_bytes())
    assert record["options"] == {"size": "48x64", "steps": 2, "sharing": "joint", "decision": "inf"}
    pictures = [read(tmp_path / name / row.name / "background.png") for name, row in rows.items()]
    assert not np.array_equal(*pictures)
    with pytest.raises(UsageError, match=r"--set: unknown key 'sharin'; did you mean 'sharing'"):
        load("layerfusion", Options(**options, settings={"sharin": "joint"}))
    with pytest.raises(UsageError, match="--set: expected with a generator that has options of its own, got layerdiff"):
        load("layerdiffuse-sdxl", Options(**options, settings={"sharing": "joint"}))


# ---- a run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text2Layer of two steps, on an autoencoder of one."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("text2layer")
    short = ["batch=2", "micro=2", "workers=0", "validate_on=1", "ema=0.0", "schedule='constant'"]
    rendered = Sources(rendered=True)
    train(load_config("text2layer-ae", ["debug"], short, steps=1), rendered, folder / "codec")
    own = [*short, f"model.codec='{folder / 'codec'}'"]
    train(load_config("text2layer", ["debug"], own, steps=2), rendered, folder / "run")
    return folder / "run"


def test_a_run_draws_layers_and_the_same_ones_whatever_the_batch(run: Path, tmp_path: Path):
    prompts = [Prompt("a red cone", seed=1), Prompt("a blue box", seed=2)]
    loaded = load(str(run), Options(device="cpu"))
    one, two = (generate(prompts, loaded, tmp_path / str(batch), batch=batch) for batch in (1, 2))
    assert [row.size for row in one] == [(32, 32)] * 2
    assert one[0].revision.startswith("sha256:")
    for row, other in zip(one, two, strict=True):
        for name in ("foreground.png", "background.png"):
            pictures = [
                read(tmp_path / b / r.name / name, alpha=True).astype(int) for b, r in (("1", row), ("2", other))
            ]
            assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_run_is_found_from_any_folder_and_its_revision_covers_its_codec(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(run.parent)
    short = ["batch=2", "micro=2", "workers=0", "validate_on=1", "ema=0.0", "schedule='constant'"]
    config = load_config("text2layer", ["debug"], [*short, "model.codec='codec'"], steps=1)
    train(config, Sources(rendered=True), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    table = load_table(tmp_path / "run" / "config.toml")
    assert table["model"]["codec"] == str(run.parent / "codec")
    copied = shutil.copytree(run.parent / "codec", tmp_path / "codec")
    own = {**table, "model": {**table["model"], "codec": str(copied)}}
    before = revision_of_run(tmp_path / "run", own, "")
    with (copied / "weights.safetensors").open("ab") as file:
        file.write(b"trained on")
    assert revision_of_run(tmp_path / "run", own, "") != before


def test_a_run_whose_numbers_are_none_is_named(run: Path, tmp_path: Path):
    loaded = load(str(run), Options(device="cpu"))
    torch.nn.init.constant_(loaded.inner.system.unet.conv_out.bias, float("nan"))
    with pytest.raises(RunError, match="expected finite pixels of the system, got NaN or infinity"):
        generate([Prompt("a cone")], loaded, tmp_path / "out")


def test_a_run_is_told_size_steps_and_guidance(run: Path, tmp_path: Path):
    wide = load(str(run), Options(device="cpu", size=(32, 64), steps=2, guidance=1.0))
    (row,) = generate([Prompt("a cone")], wide, tmp_path / "out")
    assert row.size == (64, 32)
    assert row.revision.endswith(" steps 2 guidance 1.0")
    with pytest.raises(UsageError, match="--size: expected a multiple of 4 px, got 30x32"):
        load(str(run), Options(size=(32, 30)))
    with pytest.raises(UsageError, match="--steps: expected 1 or more, got 0"):
        Options(steps=0)
    with pytest.raises(UsageError, match="--guidance: expected 1 or more, got nan"):
        Options(guidance=float("nan"))
    with pytest.raises(UsageError, match="expected a system that draws layers from text, got text2layer-ae"):
        load(str(run.parent / "codec"), Options())
