"""MISATO, AIM-500 and ReS through the whole bench, against values computed by other code; and votes of people."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from layerkit.benchmarks import networks, results, run
from layerkit.benchmarks.bench import bench
from layerkit.benchmarks.options import BenchOptions
from layerkit.manifests.errors import RunError, UsageError
from layerkit.toolkit.decomposition import Decomposition, Traits, checked
from layerkit.toolkit.metrics.distributions import frechet_distance

PHOTOS = [np.ascontiguousarray(photo[:400, :500]) for photo in (data.coffee(), data.astronaut(), data.cat()[:, :, :3])]
WHITE, LUMA = 255, np.array([0.2989, 0.587, 0.114])


def put(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def report(
    out: Path, suite: str, root: Path, *models: str, reader: str = "", limit: int | None = None
) -> tuple[dict[tuple[str, str], float | None], dict]:
    """Values by model and measure, and all that the report holds."""
    options = BenchOptions(out=out, cache=out / "cache", roots={reader or suite: root}, limit=limit)
    bench(models, [suite], options, lambda *told: None, strict=False)
    table = json.loads((out / "report.json").read_bytes())
    rows = table["results"]
    return {(row["model"], f"{row['metric']}:{row['variant']}@{row['region']}"): row["value"] for row in rows}, table


# MISATO


def squares(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8).repeat(8, 0).repeat(8, 1)


HOLES = {"0001": (64, 192, 64, 320), "0600": (0, 512, 0, 256 + 64), "1700": (400, 512, 300, 500)}


def hole(number: str) -> np.ndarray:
    top, bottom, left, right = HOLES[number]
    mask = np.zeros((512, 512), np.uint8)
    mask[top:bottom, left:right] = WHITE
    return mask


@pytest.fixture
def misato(tmp_path: Path) -> Path:
    for k, number in enumerate(HOLES):
        put(tmp_path / f"data/512/image/{number}.png", squares(k))
        put(tmp_path / f"data/512/mask/{number}.png", hole(number))
    return tmp_path / "data"


def by_hand(made: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    pasted = np.where(mask[..., None] > 127, made, truth).astype(np.uint8)
    edge = cv2.Canny(mask, 100, 200) > 0
    gradients = []
    for channel in range(3):
        difference = pasted[..., channel].astype(float) - truth[..., channel]
        sobel = [cv2.Sobel(difference, cv2.CV_64F, *order, ksize=3) for order in ((1, 0), (0, 1))]
        gradients.append(np.sqrt(sobel[0] ** 2 + sobel[1] ** 2)[edge].mean())
    return {
        "psnr:area@composite": peak_signal_noise_ratio(truth, pasted, data_range=255),
        "ssim:grey@composite": structural_similarity(pasted @ LUMA / 255, truth @ LUMA / 255, data_range=1.0),
        "edge-gradient:asuka@whole": float(np.mean(gradients)),
    }


def test_misato_is_scored_as_its_scripts_do_and_no_model_sees_the_hole(misato: Path, tmp_path: Path):
    values, table = report(tmp_path / "out", "misato", misato, "identity", "telea")
    # A model that gives back what it was given has grey in the hole, not the truth.
    expected = [
        by_hand(np.full((512, 512, 3), 128, np.uint8), squares(k), hole(number)) for k, number in enumerate(HOLES)
    ]
    for name in expected[0]:
        mean = np.mean([one[name] for one in expected])
        assert values["identity", name] == pytest.approx(mean, abs=2e-6), name
    assert values["telea", "psnr:area@composite"] != values["identity", "psnr:area@composite"]
    groups = {row["group"]: row["n"] for row in table["breakdowns"] if row["group"].startswith("category")}
    assert groups == {"category outdoor landscape": 1, "category indoor": 1, "category background": 1}
    asuka = {(row["method"], row["metric"]): row for row in table["references"] if row["same_protocol"]}
    assert asuka["ASUKA", "fid"]["value"] == 11.46
    assert {(row["n"], row["size"]) for row in asuka.values()} == {(2000, 512)}
    text = (tmp_path / "out/report.md").read_text()
    assert "### Category: Edge gradient" in text or "### Category: PSNR" in text  # LPIPS is not there without weights
    assert "- Truth: hidden" in text


def small(pictures: list[np.ndarray]) -> np.ndarray:
    return np.array([cv2.resize(one, (2, 2), interpolation=cv2.INTER_AREA).reshape(-1) for one in pictures], np.float32)


def test_misato_s_networks_see_predictions_that_are_pasted_into_the_truth(tmp_path: Path, monkeypatch):
    for k in range(16):
        number = f"{k + 492:04d}"  # 8 landscapes, 8 rooms
        put(tmp_path / f"data/512/image/{number}.png", squares(k))
        put(tmp_path / f"data/512/mask/{number}.png", hole("0600"))
    weights = tmp_path / "weights"
    weights.write_bytes(b"none")
    monkeypatch.setattr(networks, "locate", lambda name, folder: weights)
    monkeypatch.setattr(networks, "load_features", lambda recipe, folder, device: small)
    distance = lambda preds, target: float(np.abs(preds.astype(int) - target).mean())  # noqa: E731
    monkeypatch.setattr(networks, "load_lpips", lambda net, folder, device: distance)
    monkeypatch.setattr(results, "LEAST_OF_A_CATEGORY", 8)
    values, table = report(tmp_path / "out", "misato", tmp_path / "data", "identity")
    mask = hole("0600")[..., None] > 0
    truths = [squares(k) for k in range(16)]
    pasted = [np.where(mask, 128, truth).astype(np.uint8) for truth in truths]
    assert values["identity", "lpips:alex@composite"] == pytest.approx(np.mean(list(map(distance, pasted, truths))))
    preds, target = small(pasted).astype(float), small(truths).astype(float)
    expected = frechet_distance(preds.mean(0), np.cov(preds.T), target.mean(0), np.cov(target.T))
    assert values["identity", "fid:asuka@composite"] == pytest.approx(expected, rel=1e-6)
    assert values["identity", "u-ids:asuka@composite"] is None  # 32 samples have no 512 components
    assert values["identity", "p-ids:cross-validated@composite"] is not None
    told = {(row["metric"], row["variant"], row["group"]): row["value"] for row in table["breakdowns"]}
    rooms = frechet_distance(preds[8:].mean(0), np.cov(preds[8:].T), target[8:].mean(0), np.cov(target[8:].T))
    assert told["fid", "asuka", "category indoor"] == pytest.approx(rooms, rel=1e-6)
    assert ("fid", "asuka", "category building") not in told
    text = (tmp_path / "out/report.md").read_text()
    assert "### Category: LPIPS" in text
    assert "### Category: FID ↓ (asuka, composite)" in text
    assert "### Share of the picture under the mask: FID" not in text


# AIM-500


def test_mattes_are_scored_by_their_alphas_alone(tmp_path: Path):
    root = tmp_path / "data"
    for k, photo in enumerate(PHOTOS[:2]):
        alpha = cv2.circle(np.zeros(photo.shape[:2], np.uint8), (250, 200), 100 + 20 * k, 255, -1)
        alpha = cv2.GaussianBlur(alpha, (0, 0), 5)
        trimap = np.where(alpha == 0, 0, np.where(alpha == 255, 255, 128)).astype(np.uint8)
        for folder, picture in (("original", photo), ("mask", alpha), ("trimap", trimap)):
            put(root / folder / f"o_{k}.png", picture)
    values, table = report(tmp_path / "out", "aim-500", root, "closed-form-matting", "telea")
    assert {measure for _, measure in values} >= {"sad:mmagic@whole", "iou:soft@whole", "matting-mse:mmagic@whole"}
    assert {model for model, _ in values} == {"closed-form-matting"}
    why = {row["why"] for row in table["skipped"] if row["model"] == "telea"}
    assert why == {"the model gives no foreground"}
    assert {row["dataset"] for row in table["references"]} == {"aim-500"}
    assert not any(row["same_protocol"] for row in table["references"])


# ReS


def scene(at: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A bright block on an even ground, and its mask."""
    picture, mask = np.full((512, 640, 3), 90, np.uint8), np.zeros((512, 640), np.uint8)
    top, left = at
    picture[top : top + 100, left : left + 80] = (220, 160, 40)
    mask[top : top + 100, left : left + 80] = 255
    return picture, mask


@pytest.fixture
def res(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for number, at in ((1, (300, 60)), (2, (200, 400))):
        picture, mask = scene(at)
        root.mkdir(exist_ok=True)
        Image.fromarray(picture).save(root / f"p1_{number}.jpg", format="PNG")
        put(root / f"p1_{number}_mask.png", mask)
    return root


def test_any_model_moves_the_subject_and_is_compared_with_the_other_view(res: Path, tmp_path: Path):
    values, table = report(tmp_path / "out", "res", res, "identity", "mean-fill")
    moved_by_copy = []
    for at, to in (((300, 60), (200, 400)), ((200, 400), (300, 60))):
        preds, truth = scene(at)[0], scene(to)[0]
        preds[to[0] : to[0] + 100, to[1] : to[1] + 80] = (220, 160, 40)
        for y, x in ((to[0] - 1, to[1]), (to[0], to[1] - 1)):  # the mask grows by a pixel, and so does the cut-out
            assert (preds[y, x] == 90).all()
        moved_by_copy.append(peak_signal_noise_ratio(truth, preds, data_range=255))
    assert values["identity", "psnr:area@whole"] == pytest.approx(np.mean(moved_by_copy), abs=1e-6)
    assert values["mean-fill", "psnr:area@whole"] == 100  # the ground is even: moved without a fault
    published = {row["method"]: row["value"] for row in table["references"] if row["metric"] == "lpips"}
    assert published["SEELE"] == 0.156
    assert {row["metric"] for row in table["skipped"]} >= {"users:quality@whole", "users:consistency@whole"}


class Repositioner(Traits):
    """A model that moves the subject itself; its ``made`` is what it gives."""

    made: object = None

    def __call__(self, *arguments: object) -> Decomposition:
        raise AssertionError("it is asked for the finished picture")

    def reposition(self, image: np.ndarray, mask: np.ndarray, move: object, generator: object) -> object:
        return scene((200, 400) if move.dx > 0 else (300, 60))[0] if self.made is None else self.made


def test_a_model_that_repositions_is_asked_for_the_picture(res: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = Repositioner(name="mover", revision="1", licence="none")
    monkeypatch.setattr(run, "load", lambda *a, **more: checked(model))
    values, _ = report(tmp_path / "out", "res", res, "mover")
    assert values["mover", "psnr:area@whole"] == 100
    monkeypatch.setattr(Repositioner, "made", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(RunError, match=r"mover, case 'p1_.*: expected uint8 \(512, 640, 3\), got uint8 \(9, 9, 3\)"):
        report(tmp_path / "other", "res", res, "mover")


def test_stored_predictions_are_finished_pictures(res: Path, tmp_path: Path):
    for view, at in ((1, (200, 400)), (2, (300, 60))):
        put(tmp_path / f"mine/p1_{view}-to-{3 - view}.png", scene(at)[0])
    name = f"predictions:{tmp_path / 'mine'}"
    values, _ = report(tmp_path / "out", "res", res, name)
    assert values[name, "psnr:area@whole"] == 100


# votes


def lines(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def fill(path: Path, votes: dict[tuple[str, str], dict[str, object]]) -> None:
    found = lines(path)
    for row in found:
        row.update({name: str(count) for name, count in votes.get((row["model"], row["id"]), {}).items()})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)


def test_votes_of_people_are_asked_for_and_read_when_the_run_is_taken_up(res: Path, tmp_path: Path):
    out, models = tmp_path / "out", ("identity", "mean-fill")
    report(out, "res", res, *models)
    asked = lines(out / "votes.csv")
    assert list(asked[0]) == ["suite", "id", "model", "picture", "quality", "consistency"]
    assert {(row["model"], row["id"]) for row in asked} == {(m, i) for m in models for i in ("p1_1-to-2", "p1_2-to-1")}
    assert {row["quality"] + row["consistency"] for row in asked} == {""}
    assert all((out / row["picture"]).is_file() for row in asked)
    fill(
        out / "votes.csv",
        {
            ("identity", "p1_1-to-2"): {"quality": 1},
            ("mean-fill", "p1_1-to-2"): {"quality": 3},
            ("mean-fill", "p1_2-to-1"): {"quality": 5},
        },
    )
    values, table = report(out, "res", res, *models)
    assert values["identity", "users:quality@whole"] == pytest.approx((1 / 4 + 0) / 2)
    assert values["mean-fill", "users:quality@whole"] == pytest.approx((3 / 4 + 1) / 2)
    assert ("identity", "users:consistency@whole") not in values
    assert {row["metric"] for row in table["skipped"]} >= {"users:consistency@whole"}
    assert "users:quality@whole" not in {row["metric"] for row in table["skipped"]}
    assert "Votes" in (out / "report.md").read_text()
    values, _ = report(out, "res", res, "mean-fill")  # the votes for the other still count
    assert values["mean-fill", "users:quality@whole"] == pytest.approx((3 / 4 + 1) / 2)
    assert len(lines(out / "votes.csv")) == 3


def test_a_model_that_nobody_was_asked_of_has_no_share(res: Path, tmp_path: Path):
    out = tmp_path / "out"
    report(out, "res", res, "identity")
    fill(out / "votes.csv", {("identity", "p1_1-to-2"): {"quality": 4}})
    values, table = report(out, "res", res, "identity", "mean-fill")
    assert values["identity", "users:quality@whole"] == 1
    assert ("mean-fill", "users:quality@whole") not in values
    why = {(row["model"], row["metric"]): row["why"] for row in table["skipped"]}
    assert why["mean-fill", "users:quality@whole"].startswith("no votes of people")


@pytest.mark.parametrize("count", ["-1", "many", "nan", "inf"])
def test_a_count_that_is_none_is_named(res: Path, tmp_path: Path, count: str):
    report(tmp_path / "out", "res", res, "identity")
    fill(tmp_path / "out/votes.csv", {("identity", "p1_1-to-2"): {"consistency": count}})
    with pytest.raises(UsageError, match=rf"votes\.csv:\d: consistency: expected a number of votes.*{count}"):
        report(tmp_path / "out", "res", res, "identity")


def test_a_table_of_other_columns_is_named_and_kept(res: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/votes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="expected a table with suite, id, model"):
        report(tmp_path / "out", "res", res, "identity")
    assert (tmp_path / "out/votes.csv").read_text() == "a,b\n1,2\n"


def test_nobody_is_asked_where_the_suite_does_not(misato: Path, tmp_path: Path):
    report(tmp_path / "out", "misato", misato, "identity", limit=1)
    assert not (tmp_path / "out/votes.csv").exists()
