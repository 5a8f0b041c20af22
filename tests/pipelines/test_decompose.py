"""``decompose`` and ``compose``: pictures into layers by any model, and layers edited and put together again."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerkit.manifests.errors import BadImage, UsageError
from layerkit.pipelines.compose import compose
from layerkit.pipelines.decompose import RECORD, decompose
from layerkit.toolkit.compose import over_u8
from layerkit.toolkit.decomposers import load
from layerkit.toolkit.decomposition import Decomposition, Traits, checked
from layerkit.toolkit.edit import Edit, edited
from layerkit.toolkit.images import encode_png, read
from layerkit.toolkit.saliency import SpectralResidual

SIZE = (48, 64)
PLAIN = np.full((*SIZE, 3), (60, 120, 180), np.uint8)


class Lifter(Traits):
    """Takes the pixels under the mask for the foreground, opaque, and paints the plain ground under them."""

    def __init__(self) -> None:
        super().__init__(name="lifter", revision="1", licence="none")

    def __call__(self, image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> Decomposition:
        background = np.where(mask[..., None], PLAIN, image)
        return Decomposition(background, np.dstack([image, mask.astype(np.uint8) * 255]) * mask[..., None])


def disc(x: int, y: int, radius: int = 8) -> np.ndarray:
    return cv2.circle(np.zeros(SIZE, np.uint8), (x, y), radius, 255, cv2.FILLED)


def scene(*discs: tuple[int, int]) -> np.ndarray:
    picture = PLAIN.copy()
    for k, (x, y) in enumerate(discs):
        picture[disc(x, y) > 0] = ((250, 40, 40), (40, 250, 40))[k]
    return picture


def saved(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(picture))
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return saved(tmp_path / "two.png", scene((20, 20), (44, 26)))


@pytest.fixture
def masks(tmp_path: Path) -> list[Path]:
    """Of the two discs, the one drawn last first, for it is the topmost."""
    return [saved(tmp_path / "green.png", disc(44, 26)), saved(tmp_path / "red.png", disc(20, 20))]


def run(source: Path, masks: list[Path], out: Path, **options):
    return decompose(source, masks, checked(Lifter()), out, SpectralResidual(), **options)


def test_a_picture_becomes_layers_that_recompose(picture: Path, masks: list[Path], tmp_path: Path):
    (row,) = run(picture, masks[:1], tmp_path / "out")
    folder = tmp_path / "out" / "two"
    background, foreground = read(folder / "background.png"), read(folder / "foreground.png", alpha=True)
    assert np.array_equal(background, scene((20, 20)))
    assert np.array_equal(foreground[..., 3], disc(44, 26))
    assert np.array_equal(read(folder / "recomposition.png"), over_u8(foreground, background))
    assert np.array_equal(read(folder / "recomposition.png"), read(picture))
    assert read(folder / "strip.png").shape[1] == 5 * 256 + 4 * 6
    assert row.recomposition_psnr is None  # it is exact
    record = json.loads((folder / RECORD).read_bytes())
    assert record["model"] == "lifter"
    assert record["mask"] == [str(masks[0])]
    assert not record["proposed_by"]


def test_objects_go_one_after_the_other_the_topmost_first(picture: Path, masks: list[Path], tmp_path: Path):
    (row,) = run(picture, masks, tmp_path / "out")
    folder = tmp_path / "out" / "two"
    assert row.foregrounds == ("foreground-1.png", "foreground-2.png")
    assert np.array_equal(read(folder / "background.png"), PLAIN)
    for name, mask in zip(row.foregrounds, masks, strict=True):
        assert np.array_equal(read(folder / name, alpha=True)[..., 3], read(mask)[..., 0])
    assert np.array_equal(read(folder / "recomposition.png"), read(picture))


def test_a_mask_is_proposed_and_said_to_be(tmp_path: Path):
    picture = saved(tmp_path / "one.png", scene((32, 24)))
    (row,) = run(picture, [], tmp_path / "out")
    assert row.proposed_by == "spectral@hou-zhang-2007"
    assert "proposed by spectral" in row.describe()
    mask, truth = read(tmp_path / "out" / "one" / "mask.png")[..., 0] > 0, disc(32, 24) > 0
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8


def test_a_model_that_only_removes_leaves_a_background_alone(picture: Path, masks: list[Path], tmp_path: Path):
    (row,) = decompose(picture, masks[:1], load("telea"), tmp_path / "out", SpectralResidual())
    names = {path.name for path in (tmp_path / "out" / "two").iterdir()}
    assert names == {"background.png", "mask.png", "strip.png", RECORD}
    assert row.foregrounds == ()
    with pytest.raises(UsageError, match="its model only removes"):
        compose(tmp_path / "out" / "two", Edit(), tmp_path / "edited.png")


def test_a_folder_is_taken_apart_and_its_faults_are_rows(tmp_path: Path):
    for name, at in {"a": (20, 20), "b": (40, 20), "c": (30, 30)}.items():
        saved(tmp_path / "in" / f"{name}.png", scene(at))
        saved(tmp_path / "masks" / f"{name}.png", disc(*at))
    (tmp_path / "in" / "d.png").write_bytes(b"no picture")
    saved(tmp_path / "masks" / "b.png", disc(40, 20)[:-1])
    (tmp_path / "masks" / "c.png").unlink()
    rows = run(tmp_path / "in", [tmp_path / "masks"], tmp_path / "out")
    faults = {row.name: row.fault for row in rows}
    assert faults["a"] == ""
    assert "expected a mask of the picture's size, 64x48, got 64x47" in faults["b"]
    assert "c.png" in faults["c"]
    assert "unreadable" in faults["d"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a"]


def test_what_cannot_be_used_is_refused(picture: Path, masks: list[Path], tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"expected a picture or a folder of them .* got .*nowhere"):
        run(tmp_path / "nowhere", [], out)
    with pytest.raises(UsageError, match="white where the object is, 0% of it is white"):
        run(picture, [saved(tmp_path / "black.png", np.zeros(SIZE, np.uint8))], out)
    with pytest.raises(UsageError, match="100% of it is white"):
        run(picture, [saved(tmp_path / "white.png", np.full(SIZE, 255, np.uint8))], out)
    with pytest.raises(UsageError, match="nothing salient; give --mask"):
        run(saved(tmp_path / "plain.png", PLAIN), [], out)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(BadImage):
        run(broken, masks[:1], out)
    with pytest.raises(UsageError, match=r"white where the object is, got .*broken\.png"):
        run(picture, [broken], out)
    with pytest.raises(UsageError, match="expected one folder of masks"):
        run(picture.parent, masks, out)
    assert not out.exists()


def test_two_pictures_of_one_name_are_refused(tmp_path: Path):
    saved(tmp_path / "in" / "a.png", PLAIN)
    saved(tmp_path / "in" / "a.jpg", PLAIN)
    with pytest.raises(UsageError, match="got a twice"):
        run(tmp_path / "in", [], tmp_path / "out")


def test_nothing_is_overwritten_unasked(picture: Path, masks: list[Path], tmp_path: Path):
    run(picture, masks[:1], tmp_path / "out")
    with pytest.raises(UsageError, match="is there already"):
        run(picture, masks[:1], tmp_path / "out")
    run(picture, masks[:1], tmp_path / "out", overwrite=True)


def test_an_overwritten_folder_holds_nothing_of_the_earlier_layers(picture: Path, masks: list[Path], tmp_path: Path):
    out = tmp_path / "out"
    run(picture, masks, out)
    decompose(picture, masks[:1], load("telea"), out, SpectralResidual(), overwrite=True)
    assert {path.name for path in (out / "two").iterdir()} == {"background.png", "mask.png", "strip.png", RECORD}


@pytest.fixture
def layers(picture: Path, masks: list[Path], tmp_path: Path) -> Path:
    run(picture, masks, tmp_path / "layers")
    return tmp_path / "layers" / "two"


def test_the_identity_edit_gives_the_picture_back(layers: Path, picture: Path, tmp_path: Path):
    made = compose(layers, Edit(), tmp_path / "new" / "same.png")
    assert np.array_equal(read(made), read(picture))


@pytest.mark.parametrize("layer", [1, 2])
def test_one_layer_is_edited_and_the_others_stay(layers: Path, layer: int, tmp_path: Path):
    edit = Edit(move=(0.25, 0), hue=120)
    made = compose(layers, edit, tmp_path / "edited.png", layer=layer)
    tops = [read(layers / f"foreground-{k}.png", alpha=True) for k in (1, 2)]
    tops[layer - 1] = edited(tops[layer - 1], edit)
    assert np.array_equal(read(made), over_u8(tops[0], over_u8(tops[1], PLAIN)))


def test_edits_that_cannot_be_made_are_refused(layers: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"--layer: expected 1\.\.2"):
        compose(layers, Edit(), tmp_path / "x.png", layer=3)
    with pytest.raises(UsageError, match="expected a PNG file"):
        compose(layers, Edit(), tmp_path / "x.jpg")
    with pytest.raises(UsageError, match="layerkit decompose or generate wrote"):
        compose(tmp_path, Edit(), tmp_path / "x.png")
    compose(layers, Edit(), tmp_path / "x.png")
    with pytest.raises(UsageError, match="is there already"):
        compose(layers, Edit(), tmp_path / "x.png")
    (layers / "foreground-1.png").write_bytes(b"")
    with pytest.raises(UsageError, match="expected a layer of a decomposed or generated picture"):
        compose(layers, Edit(), tmp_path / "y.png")
