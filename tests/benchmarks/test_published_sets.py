"""RORD, MuLAn and DESOBAv2 in every layout through the whole bench, against values computed by other code.

Pictures are 1024 px, so that the suites' 512 px are plain means of two by two pixels.
"""

import io
import json
import math
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from layerkit.benchmarks.bench import bench
from layerkit.benchmarks.options import BenchOptions

SCENES = ("I-210614_O04019_W01", "I-210614_O04020_W01")
BOX, SHADOW = (200, 400, 300, 500), (500, 600, 300, 700)
GROUND = np.array([90, 120, 150], np.uint8)
U8 = np.ndarray
Scores = dict[tuple[str, str, str], float]


def noise(seed: int, height: int = 1024, width: int = 1024) -> U8:
    """Blocks of 8 px, which JPEG keeps."""
    small = np.random.default_rng(seed).integers(40, 216, (height // 8, width // 8, 3), dtype=np.uint8)
    return small.repeat(8, axis=0).repeat(8, axis=1)


def inside(box: tuple[int, int, int, int], grown: int = 0) -> np.ndarray:
    mask = np.zeros((1024, 1024), np.bool_)
    mask[box[0] - grown : box[1] + grown, box[2] - grown : box[3] + grown] = True
    return mask


def put(path: Path, picture: U8, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **({"format": "PNG"} | options))


def run(out: Path, suite: str, reader: str, root: Path) -> tuple[Scores, dict]:
    """Values by suite, model and measure, as the written report has them."""
    options = BenchOptions(out=out, cache=out / "cache", roots={reader: root})
    bench(["identity", "mean-fill"], [suite], options, lambda *told: None, strict=False)
    report = json.loads((out / "report.json").read_bytes())
    rows = report["results"]
    return {
        (row["suite"], row["model"], f"{row['metric']}:{row['variant']}@{row['region']}"): row["value"] for row in rows
    }, report


# by hand


def halved(picture: U8) -> U8:
    means = picture.reshape(512, 2, 512, 2, 3).mean(axis=(1, 3))
    return np.floor(means + 0.5).astype(np.uint8)


def filled(image: U8, mask: np.ndarray) -> U8:
    """What ``mean-fill`` makes where the ground around the mask is even, as in the corner."""
    return np.where(mask[..., None], image[0, 0], image)


def decibel(preds: U8, target: U8, where: np.ndarray) -> float:
    error = np.mean((preds.astype(float) - target)[where] ** 2)
    return 20 * math.log10(255) - 10 * math.log10(error) if error else 100


def wang(preds: U8, target: U8) -> tuple[float, np.ndarray]:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, scores = structural_similarity(target, preds, channel_axis=2, full=True, **options)
    return float(scores[5:-5, 5:-5].mean()), scores


def removal(image: U8, truth: U8, mask: np.ndarray) -> dict[str, dict[str, float]]:
    out = {}
    for model, preds in (("identity", image), ("mean-fill", filled(image, mask))):
        out[model] = {
            "psnr:area@whole": peak_signal_noise_ratio(truth, preds, data_range=255),
            "psnr:area@mask": decibel(preds, truth, mask),
            "psnr:area@outside": decibel(preds, truth, ~mask),
            "ssim:gaussian@whole": wang(preds, truth)[0],
        }
        # outside the mask both leave the input alone, so pasting back changes nothing
        out[model] |= {
            name.replace("@", "+pasted@"): value for name, value in out[model].items() if "outside" not in name
        }
    return out


def expect(found: Scores, suite: str, expected: list[dict[str, dict[str, float]]]) -> None:
    """The report holds the means over the cases."""
    for model, measures in expected[0].items():
        for name in measures:
            mean = np.mean([case[model][name] for case in expected])
            assert found[suite, model, name] == pytest.approx(mean, abs=2e-3 if "psnr" in name else 1e-4), (model, name)


# RORD


def frames() -> list[tuple[str, U8, U8]]:
    """Name, input and plate of two scenes: even ground around an object, textures far from it."""
    out = []
    for k, scene in enumerate(SCENES):
        plate = noise(10 * k)
        plate[:8, :8] = GROUND - 4
        plate[inside(BOX, 60)] = GROUND
        image = np.clip(plate.astype(int) + 4, 0, 255).astype(np.uint8)  # a raw plate differs everywhere
        image[inside(BOX, 60)] = GROUND
        image[inside(BOX)] = noise(10 * k + 1)[inside(BOX)]
        plate[inside(BOX)] = noise(10 * k + 2)[inside(BOX)]
        out.append((scene, image, plate))
    return out


def rord(layout: str, root: Path) -> None:
    white = inside(BOX).astype(np.uint8) * 255
    loose = 255 - inside(BOX, 20).astype(np.uint8) * 255
    y0, y1, x0, x1 = BOX[0], BOX[1] - 1, BOX[2], BOX[3] - 1
    table = {
        "Raw_Data_Info.": {"Resolution": "1024, 1024"},
        "Learning_Data_Info.": {"Annotation": [{"Class_ID": "F1", "segmentation": [x0, y0, x1, y0, x1, y1, x0, y1]}]},
    }
    for scene, image, plate in frames():
        frame = f"{scene}_F0107"
        if layout in ("mirror", "raw"):
            pictures, labels = ("RORD/val/img", "RORD/val/label") if layout == "mirror" else ("set/jpg", "set/M")
            put(root / f"{pictures}/{scene}/{frame}.jpg", image)
            put(root / f"{pictures}/{scene}/{scene}_G0001.jpg", plate)
            path = root / f"{labels}/{scene}/{frame}{'' if layout == 'mirror' else '_M'}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(table))
            if layout == "mirror":
                put(root / f"RORD/val/mask/{scene}/{frame}_M.png", loose)
        elif layout == "tars":
            with tarfile.open(root / "val-000000.tar", "a") as tar:
                for kind, picture in (("before.jpg", image), ("after.jpg", plate), ("mask.png", white)):
                    buffer = io.BytesIO()
                    Image.fromarray(picture).save(buffer, "PNG")
                    info = tarfile.TarInfo(f"val-000000/{frame}.{kind}")
                    info.size = buffer.tell()
                    tar.addfile(info, io.BytesIO(buffer.getvalue()))
        else:
            folder, inputs, mask = ("test", "img", 255 - white) if layout == "blended" else ("val_rord", "paste", white)
            for name, picture in ((inputs, image), ("gt", plate), ("mask", mask)):
                put(root / f"{folder}/{name}/{frame}.png", picture)


@pytest.mark.parametrize(
    ("layout", "suite", "grown"),
    [
        ("mirror", "rord-tight", 0),
        ("mirror", "rord-loose", 20),
        ("raw", "rord-tight", 0),
        ("blended", "rord-blended", 0),
        ("smarteraser", "rord-scenes", 0),
        ("tars", "rord-tight", 0),
    ],
)
def test_rord(layout: str, suite: str, grown: int, tmp_path: Path):
    (tmp_path / "data").mkdir()
    rord(layout, tmp_path / "data")
    found, report = run(tmp_path / "out", suite, "rord", tmp_path / "data")
    mask = inside(BOX, grown)[::2, ::2]
    expect(found, suite, [removal(halved(image), halved(plate), mask) for _, image, plate in frames()])
    assert report["dropped"] == []
    assert {row["n"] for row in report["results"]} == {2}


def test_identity_on_a_real_pair_is_scikit_images_psnr(tmp_path: Path, shared_data: Path):
    stem = "I-210614_O04019_W01_F0109"
    examples = shared_data / "smarteraser/Model_framework/visual_examples"
    pictures = {role: np.asarray(Image.open(examples / role / f"{stem}.jpg")) for role in ("paste", "gt", "mask")}
    for role, picture in pictures.items():
        put(tmp_path / f"data/val_rord/{role}/{stem}.png", picture)
    found, _ = run(tmp_path / "out", "rord-tight", "rord", tmp_path / "data")
    image, truth = pictures["paste"], pictures["gt"]  # 512 px as they come
    assert image.shape == (512, 512, 3)
    expected = peak_signal_noise_ratio(truth, image, data_range=255)
    assert found["rord-tight", "identity", "psnr:area@whole"] == pytest.approx(expected, abs=1e-6)
    assert found["rord-tight", "identity", "ssim:gaussian@whole"] == pytest.approx(wang(image, truth)[0], abs=1e-5)
    mask = pictures["mask"].reshape(512, 512, -1)[..., 0] > 127
    assert found["rord-tight", "identity", "psnr:area@mask"] == pytest.approx(decibel(image, truth, mask), abs=1e-6)


# MuLAn


def layers(k: int) -> tuple[U8, list[Image.Image]]:
    """The photograph, and background and two layers over it; the top-most has an alpha of 200."""
    base = np.broadcast_to(GROUND, (1024, 1024, 3)).copy()
    background = np.where(inside(BOX)[..., None], noise(k), base).astype(np.uint8)
    below = np.dstack([noise(k + 1), inside((600, 900, 600, 900)).astype(np.uint8) * 255])
    top = np.dstack([noise(k + 2), inside(BOX).astype(np.uint8) * 200])
    return base, [Image.fromarray(background), Image.fromarray(below), Image.fromarray(top)]


def annotation(base: U8, parts: list[Image.Image]) -> bytes:
    """In MuLAn's form: what differs from the photograph is added to nothing."""

    def one(layer: Image.Image, **more: object) -> dict[str, object]:
        rgb = np.asarray(layer.convert("RGB"))
        kept = (rgb == base).all(axis=2)
        return {"original_image_mask": kept, "inpainted_delta": np.where(kept[..., None], 0, rgb), **more}

    background, *above = parts
    instances = {k: one(layer, instance_alpha=layer.getchannel("A")) for k, layer in enumerate(above)}
    return zlib.compress(pickle.dumps({"background": one(background), "image": {}, "instances": instances}), 1)


def annotated(root: Path, id_: str, k: int) -> None:
    base, parts = layers(k)
    put(root / f"val2017/{id_}.jpg", base, format="JPEG", quality=100, subsampling=0)
    decoded = np.asarray(Image.open(root / f"val2017/{id_}.jpg"))
    (root / f"{id_}.p.zl").write_bytes(annotation(decoded, parts))


def rendered(root: Path, id_: str, k: int) -> None:
    for n, layer in enumerate(layers(k)[1]):
        path = root / f"{id_}-layer_{n}.png"
        path.parent.mkdir(exist_ok=True)
        layer.save(path)


@pytest.mark.parametrize("write", [annotated, rendered])
def test_mulan(write: Callable[[Path, str, int], None], tmp_path: Path):
    expected: dict[str, list] = {"mulan-layerdecomp": [], "mulan-outpaint": []}
    for k in (0, 1):
        write(tmp_path / "data", f"{139 + k:012d}", 10 * k)
        background, below, top = layers(10 * k)[1]
        truth = Image.alpha_composite(background.convert("RGBA"), below)
        image = np.asarray(Image.alpha_composite(truth, top).convert("RGB"))
        plate = np.asarray(truth.convert("RGB"))
        near = distance_transform_edt(~inside(BOX)[::2, ::2]) <= 10
        expected["mulan-layerdecomp"].append(removal(halved(image), halved(plate), near))
        expected["mulan-outpaint"].append(removal(image, plate, inside(BOX)))
    found, report = run(tmp_path / "out", "mulan", "mulan", tmp_path / "data")
    for suite, cases in expected.items():
        expect(found, suite, cases)
    capped = [row for row in report["results"] if row["region"] == "outside"]
    assert [(row["value"], row["n_capped"]) for row in capped] == [(100, 2)] * 4
    assert {"model": "identity", "suite": "mulan-outpaint", "metric": "iou:soft@whole"} in [
        {key: row[key] for key in ("model", "suite", "metric")} for row in report["skipped"]
    ]


# DESOBAv2


def test_desobav2(tmp_path: Path):
    root = tmp_path / "data"
    expected: dict[str, list] = {"desobav2-tight": [], "desobav2-loose": []}
    for k, stem in enumerate(("a", "b")):
        free = np.broadcast_to(GROUND, (1024, 1024, 3)).copy()
        free[inside((700, 1000, 100, 900))] = noise(k)[inside((700, 1000, 100, 900))]
        free[inside(BOX)] = noise(k + 5)[inside(BOX)]  # the object stays
        free[inside(SHADOW)] = noise(k + 9)[inside(SHADOW)]
        shaded = np.where(inside(SHADOW)[..., None], free // 2, free).astype(np.uint8)
        masks = [inside(box).astype(np.uint8) * 255 for box in (BOX, SHADOW)]
        folders = ("shadow_imgs", "shadowfree_imgs", "object_masks", "shadow_masks")
        for folder, picture in zip(folders, (shaded, free, *masks), strict=True):
            put(root / folder / f"{stem}.jpg", picture, format="JPEG", quality=95, subsampling=0)
        image, truth = (halved(np.asarray(Image.open(root / folder / f"{stem}.jpg"))) for folder in folders[:2])
        objects, shadow = (
            np.asarray(Image.open(root / folder / f"{stem}.jpg"))[::2, ::2] > 127 for folder in folders[2:]
        )
        shadow &= ~objects
        loose = distance_transform_edt(~(objects | shadow)) <= 10
        for suite, given in (("desobav2-tight", np.zeros_like(loose)), ("desobav2-loose", loose)):
            expected[suite].append({"identity": shaded_scores(image, truth, shadow)})
            # the tight mask does not reach the shadow
            expected[suite][-1]["mean-fill"] = shaded_scores(filled(image, given), truth, shadow)
    (root / "test.txt").write_text("a.jpg\nb\n")
    found, report = run(tmp_path / "out", "desobav2", "desobav2", root)
    for suite, cases in expected.items():
        expect(found, suite, cases)
    assert {row["region"] for row in report["results"]} == {"shadow"}
    assert {row["suite"] for row in report["results"] if "pasted" in row["variant"]} == {"desobav2-loose"}


def shaded_scores(preds: U8, truth: U8, shadow: np.ndarray) -> dict[str, float]:
    value = decibel(preds, truth, shadow)
    return {
        "psnr:area@shadow": value,
        "psnr:all-pixels@shadow": value - 10 * math.log10(shadow.mean()),
        "rmse:area@shadow": 255 / 10 ** (value / 20),
        "ssim:gaussian@shadow": float(wang(preds, truth)[1][shadow].mean()),
    }
