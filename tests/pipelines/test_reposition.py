"""``layerkit reposition`` from files to files: which steps run, what they leave, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.reposition import reposition
from layerkit.pipelines.reposition_asked import Masks, Options, Tools, load_tools, sun
from layerkit.toolkit import images
from layerkit.toolkit.compose import over_u8
from layerkit.toolkit.decomposers import load
from layerkit.toolkit.decomposition import Decomposition, Traits, checked

SIZE = (96, 128)


class Painter(Traits):
    """Paints what is masked in one colour; gives the subject as well, if asked to."""

    def __call__(self, image, mask, generator):
        colour = (10, 200, 30)
        return Decomposition(np.where(mask[..., None], np.uint8(colour), image))


class Cutter(Traits):
    """Gives the masked pixels with a grey veil below them as the subject."""

    def __call__(self, image, mask, generator):
        rgba = np.dstack([image, np.where(mask, 255, 0).astype(np.uint8)])
        rgba[mask.any(1).nonzero()[0].max() + 1, mask.any(0)] = (0, 0, 0, 90)
        return Decomposition(np.full_like(image, 90), np.where(rgba[..., 3:] > 0, rgba, 0))


class Ramp:
    """A depth model: nearer the lower a pixel is."""

    name, revision = "ramp", "1"

    def __call__(self, image):
        return np.repeat(np.linspace(0, 1, len(image), dtype=np.float32)[:, None], image.shape[1], 1)


PAINTER = checked(Painter(name="painter", revision="1", licence="none needed"))
CUTTER = checked(Cutter(name="cutter", revision="1", licence="none needed"))
TELEA = Tools(remove=load("telea"))
STILL = Options(to="0,0", shadow="none")


def write(path: Path, picture: np.ndarray) -> Path:
    path.write_bytes(images.encode_png(picture))
    return path


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Path]:
    """A red box on a smooth ground, and its mask."""
    ground = cv2.resize(np.ascontiguousarray(data.astronaut()[300:, :200]), SIZE[::-1], interpolation=cv2.INTER_AREA)
    image, mask = cv2.GaussianBlur(ground, (0, 0), 6), np.zeros(SIZE, np.uint8)
    mask[30:60, 20:44] = 255
    image[mask > 0] = (220, 30, 30)
    return write(tmp_path / "image.png", image), write(tmp_path / "mask.png", mask)


def read(path: Path, **settings: bool) -> np.ndarray:
    return images.read(path, **settings)


def test_a_subject_that_stays_leaves_the_picture_nearly_as_it_was(scene, tmp_path: Path):
    image, mask = scene
    reposition(image, Masks(subject=mask), TELEA, STILL, tmp_path / "out")
    before, after = read(image).astype(int), read(tmp_path / "out" / "result.png").astype(int)
    inner, near = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    inner[34:56, 24:40], near[26:64, 16:48] = True, True
    assert np.array_equal(before[inner], after[inner])
    assert np.array_equal(before[~near], after[~near])


@pytest.mark.parametrize("to", ["50,-10", "0.390625,-0.1041667"])
def test_pixels_and_shares_move_alike(scene, tmp_path: Path, to: str):
    image, mask = scene
    made = reposition(image, Masks(subject=mask), TELEA, replace(STILL, to=to), tmp_path / "out")
    assert (made.move, made.scale, made.scale_by) == ((50, -10), 1.0, "given")
    alpha = read(tmp_path / "out" / "placed.png", alpha=True)[..., 3]
    rows, columns = (np.flatnonzero((alpha > 127).any(axis)) for axis in (1, 0))
    assert np.abs(np.array([rows[0], rows[-1], columns[0], columns[-1]]) - (20, 49, 70, 93)).max() <= 1
    result = read(tmp_path / "out" / "result.png")
    assert (np.abs(result[25:45, 75:90].astype(int) - (220, 30, 30)) <= 1).all()
    assert (result[35:55, 25:40, 1] > 60).all()  # no longer red


def test_every_step_leaves_its_picture_and_the_record_names_them(scene, tmp_path: Path):
    image, mask = scene
    out, whole = tmp_path / "out", read(mask)[..., 0].copy()
    whole[60:70, 20:44] = 255
    amodal = write(tmp_path / "amodal.png", whole)
    tools = Tools(remove=load("telea"), complete=PAINTER)
    options = Options(to="40,0", scale=0.8, colours=0.5, light=sun(30, 40, 0.6), seed=3)
    made = reposition(image, Masks(subject=mask, amodal=amodal), tools, options, out)
    stages = ["removed", "completed", "subject", "placed", "harmonised", "shadow", "background", "foreground", "result"]
    assert [Path(name).stem for name in made.files] == stages
    assert {path.name for path in out.iterdir()} == {*made.files, "strip.png", "reposition.json"}
    record = json.loads((out / "reposition.json").read_text())
    assert record["move"] == [40, 0]
    assert record["models"] == {"remove": f"telea@{tools.remove.revision}", "complete": "painter@1"}
    assert record["light"]["strength"] == 0.6
    assert (read(out / "completed.png")[64:68, 24:40] == (10, 200, 30)).all()
    assert (read(out / "subject.png", alpha=True)[64:68, 26:38, 3] == 255).all()
    composed = over_u8(read(out / "foreground.png", alpha=True), read(out / "background.png"))
    assert np.array_equal(composed, read(out / "result.png"))
    assert (read(out / "shadow.png") > 0).any()


def test_the_same_seed_makes_the_same_bytes(scene, tmp_path: Path):
    image, mask = scene
    tools = Tools(remove=load("patchmatch"))
    for name in ("a", "b"):
        reposition(image, Masks(subject=mask), tools, Options(to="40,5", seed=4), tmp_path / name)
    for path in (tmp_path / "a").glob("*.png"):
        if path.name != "strip.png":  # which shows the folder's name
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_harmoniser_is_shown_the_subject_set_down(scene, tmp_path: Path):
    image, mask = scene
    tools = replace(TELEA, harmonise=PAINTER)
    reposition(image, Masks(subject=mask), tools, replace(STILL, to="50,0"), tmp_path / "out")
    result = read(tmp_path / "out" / "result.png")
    assert (np.abs(result[33:57, 73:91].astype(int) - (10, 200, 30)) <= 1).all()
    background = read(tmp_path / "out" / "background.png")
    away = read(tmp_path / "out" / "placed.png", alpha=True)[..., 3] == 0
    assert np.array_equal(result[away], background[away])


def test_a_painted_shadow_lies_where_the_light_would_cast_it(scene, tmp_path: Path):
    image, mask = scene
    tools, light = replace(TELEA, complete=PAINTER), sun(20, 35, 0.7)
    made = reposition(
        image, Masks(subject=mask), tools, Options(to="10,0", shadow="paint", light=light), tmp_path / "out"
    )
    cast, result = read(tmp_path / "out" / "shadow.png")[..., 0], read(tmp_path / "out" / "result.png")
    alpha = read(tmp_path / "out" / "placed.png", alpha=True)[..., 3]
    assert (result[(cast > 13) & (alpha == 0)] == (10, 200, 30)).all()
    assert np.array_equal(read(tmp_path / "out" / "foreground.png", alpha=True)[..., 3], alpha)
    assert made.models["complete"] == "painter@1"
    with pytest.raises(UsageError, match="--shadow paint: expected --complete"):
        reposition(image, Masks(subject=mask), TELEA, Options(to="10,0", shadow="paint"), tmp_path / "other")


def test_the_old_shadow_goes_and_tells_the_light(scene, tmp_path: Path):
    image, mask = scene
    shaded, where = read(image).copy(), np.zeros(SIZE, np.uint8)
    where[60:66, 20:44] = 255
    shaded[where > 0] //= 2
    shadow = write(tmp_path / "shadow.png", where)
    source = write(tmp_path / "shaded.png", shaded)
    made = reposition(source, Masks(subject=mask, shadow=shadow), TELEA, Options(to="50,0"), tmp_path / "out")
    assert made.light is not None
    assert 0.35 < made.light.strength < 0.65
    left = read(tmp_path / "out" / "removed.png")[60:66, 22:42].astype(int)
    assert np.abs(left - read(image)[60:66, 22:42]).mean() < 25


def test_the_models_own_subject_takes_its_effects_along(scene, tmp_path: Path):
    image, mask = scene
    options = replace(STILL, to="50,0", own=True)
    reposition(image, Masks(subject=mask), Tools(remove=CUTTER), options, tmp_path / "out")
    foreground = read(tmp_path / "out" / "foreground.png", alpha=True)
    assert (foreground[60, 70:94, 3] == 90).all()
    with pytest.raises(UsageError, match="--own: expected a model that gives foregrounds, got telea"):
        reposition(image, Masks(subject=mask), TELEA, options, tmp_path / "other")


def test_scale_by_the_horizon(scene, tmp_path: Path):
    image, mask = scene
    options = replace(STILL, to="40,18", scale=None, horizon=0.25)  # feet at rows 60 and 78, horizon at 24
    made = reposition(image, Masks(subject=mask), TELEA, options, tmp_path / "out")
    assert (made.scale, made.scale_by) == (pytest.approx(54 / 36), "horizon")
    with pytest.raises(UsageError, match="--scale auto: expected --depth"):
        reposition(image, Masks(subject=mask), TELEA, replace(options, horizon=None), tmp_path / "other")


def test_masks_of_another_size_are_brought_to_the_pictures(scene, tmp_path: Path):
    image, mask = scene
    half = write(tmp_path / "half.png", cv2.resize(read(mask), (64, 48), interpolation=cv2.INTER_NEAREST))
    reposition(image, Masks(subject=half), TELEA, replace(STILL, to="50,0"), tmp_path / "a")
    reposition(image, Masks(subject=mask), TELEA, replace(STILL, to="50,0"), tmp_path / "b")
    assert (tmp_path / "a" / "result.png").read_bytes() == (tmp_path / "b" / "result.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "5"}, "--to: expected DX,DY"),
        ({"to": "5;6"}, "--to: expected DX,DY"),
        ({"to": "1e3,0"}, "--to: expected DX,DY"),
        ({"to": "200,0"}, "--to: expected a move within 128x96 px, got 200, 0"),
        ({"to": "127,0"}, "takes the whole subject out of the picture"),
        ({"to": "5,0", "scale": 0.0}, "--scale: expected a factor above 0"),
        ({"to": "5,0", "scale": math.nan}, "--scale: expected a factor above 0"),
        ({"to": "5,0", "scale": None, "horizon": math.nan}, "--horizon: expected a share"),
        ({"to": "5,0", "horizon": 0.2}, "--horizon: expected with --scale auto, got scale 1"),
        ({"to": "5,0", "grow": -1}, "--grow: expected pixels from 0, got -1"),
        ({"to": "5,0", "grow": 33}, "--grow: expected at most a quarter of the longer side, 128 px, got 33"),
        ({"to": "5,0", "scale": 9.0}, "scale: expected a factor above 0, at most 8"),
    ],
)
def test_a_move_of_no_use_is_refused(scene, tmp_path: Path, options: dict[str, object], message: str):
    image, mask = scene
    with pytest.raises(UsageError, match=message):
        reposition(image, Masks(subject=mask), TELEA, replace(STILL, **options), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_masks_of_no_use_are_refused(scene, tmp_path: Path):
    image, mask = scene
    empty = write(tmp_path / "empty.png", np.zeros(SIZE, np.uint8))
    square = write(tmp_path / "square.png", np.full((96, 96), 255, np.uint8))
    (tmp_path / "text.png").write_text("no picture")
    cases = [
        (Masks(subject=empty), "--mask: expected a mask that is white where it is, 0%"),
        (Masks(subject=square), "--mask: expected a mask of the picture's aspect, 128x96, got 96x96"),
        (Masks(subject=tmp_path / "text.png"), "--mask: expected a picture, white where it is"),
        (Masks(subject=mask, shadow=empty), "--shadow-mask: expected a mask"),
        (Masks(subject=mask, amodal=mask), "--amodal: expected more than the mask of what is seen"),
    ]
    for masks, message in cases:
        tools = replace(TELEA, complete=PAINTER if masks.amodal else None)
        with pytest.raises(UsageError, match=message):
            reposition(image, masks, tools, STILL, tmp_path / "out")


def test_what_would_be_passed_over_in_silence_is_refused(scene, tmp_path: Path):
    image, mask = scene
    whole = write(tmp_path / "whole.png", np.full(SIZE, 255, np.uint8))
    amodal, complete = Masks(subject=mask, amodal=whole), replace(TELEA, complete=PAINTER)
    cases = [
        (amodal, TELEA, STILL, "--amodal: expected --complete"),
        (amodal, complete, replace(STILL, own=True), "--own: expected without --amodal"),
        (Masks(subject=mask), complete, STILL, "--complete: expected --amodal or --shadow paint"),
        (Masks(subject=mask), replace(TELEA, depth=Ramp()), STILL, "--depth: expected with --scale auto"),
    ]
    for masks, tools, options, message in cases:
        with pytest.raises(UsageError, match=message):
            reposition(image, masks, tools, options, tmp_path / "out")


def test_a_folder_that_cannot_be_one_is_refused_before_anything_is_made(scene, tmp_path: Path):
    image, mask = scene
    for out in (image, image / "below"):
        with pytest.raises(UsageError, match=r"--out: expected a folder, got .* is a file; name another one"):
            reposition(tmp_path / "none.png", Masks(subject=mask), TELEA, STILL, out)


def test_a_subject_partly_out_of_the_picture_casts_the_shadow_of_all_of_it(scene, tmp_path: Path):
    """Its feet are below the picture: no shadow begins where the border cuts it."""
    image, mask = scene
    light = sun(90, 60, 0.7)  # away from the viewer, lower than the subject is high
    reposition(image, Masks(subject=mask), TELEA, Options(to="30,60", light=light), tmp_path / "out")
    alpha = read(tmp_path / "out" / "placed.png", alpha=True)[..., 3]
    assert alpha[95, 55:70].all()
    assert not read(tmp_path / "out" / "shadow.png").any()


def test_a_speck_of_the_mask_goes_away_and_is_not_moved(scene, tmp_path: Path):
    image, mask = scene
    specked = read(mask)[..., 0].copy()
    specked[90, 100] = 255
    masks = Masks(subject=write(tmp_path / "specked.png", specked))
    options = replace(STILL, to="10,10", scale=None, horizon=0.25)  # the speck would stand at row 91
    made = reposition(image, masks, TELEA, options, tmp_path / "out")
    assert made.scale == pytest.approx(46 / 36)
    assert not read(tmp_path / "out" / "subject.png", alpha=True)[80:, 80:, 3].any()


def test_what_is_hidden_of_a_subject_counts_for_where_it_stands(scene, tmp_path: Path):
    image, mask = scene
    whole = read(mask)[..., 0].copy()
    whole[60:72, 20:44] = 255
    masks = Masks(subject=mask, amodal=write(tmp_path / "amodal.png", whole))
    options = replace(STILL, to="40,12", scale=None, horizon=0.25)  # feet at rows 72 and 84, horizon at 24
    made = reposition(image, masks, replace(TELEA, complete=PAINTER), options, tmp_path / "out")
    assert made.scale == pytest.approx(60 / 48)


def test_pictures_that_another_program_made_are_found_by_the_pictures_name(scene, tmp_path: Path):
    image, mask = scene
    plate = np.full((*SIZE, 3), 77, np.uint8)
    (tmp_path / "removed").mkdir()
    write(tmp_path / "removed" / "image.png", plate)
    tools = Tools(remove=load(f"predictions:{tmp_path / 'removed'}"))
    reposition(image, Masks(subject=mask), tools, replace(STILL, to="40,0"), tmp_path / "out")
    assert np.array_equal(read(tmp_path / "out" / "background.png"), plate)


def test_nothing_is_written_over_unasked(scene, tmp_path: Path):
    image, mask = scene
    out = tmp_path / "out"
    reposition(image, Masks(subject=mask), TELEA, Options(to="40,0"), out)
    with pytest.raises(UsageError, match="add --overwrite"):
        reposition(image, Masks(subject=mask), TELEA, STILL, out)
    reposition(image, Masks(subject=mask), TELEA, STILL, out, overwrite=True)
    assert not (out / "shadow.png").exists()


def test_a_subject_cut_by_the_border_is_noted(scene, tmp_path: Path):
    image, _ = scene
    edge = np.zeros(SIZE, np.uint8)
    edge[30:60, :24] = 255
    made = reposition(image, Masks(subject=write(tmp_path / "edge.png", edge)), TELEA, STILL, tmp_path / "out")
    assert "what lies beyond it stays missing" in made.describe()


def test_who_does_not_harmonise_is_named():
    with pytest.raises(UsageError, match="expected none, colour or a run that harmonises, as of seele, got 'telea'"):
        load_tools("telea", "", "telea", "")
    assert load_tools("telea", "patchmatch", "colour", "").names().keys() == {"remove", "complete"}
    with pytest.raises(UsageError, match="--light: expected an elevation"):
        sun(0, 90, 0.5)


def test_a_folder_that_cannot_be_made_is_named(scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image, mask = scene
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UsageError, match="--out: expected a folder that may be written"):
        reposition(image, Masks(subject=mask), TELEA, STILL, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match=r"--out: expected a folder that can be made, got .*: no room"):
        reposition(image, Masks(subject=mask), TELEA, STILL, tmp_path / "out")


def refuse(path: Path, **settings: bool) -> None:
    raise OSError("no room")
