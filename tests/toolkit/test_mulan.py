"""MuLAn's decoder against the published arithmetic in wide integers, and against files that are broken or hostile."""

import io
import json
import os
import pickle
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from PIL import Image, ImageDraw

from layerkit.manifests.errors import BadImage
from layerkit.manifests.sources import entries
from layerkit.toolkit import images
from layerkit.toolkit.mulan import (
    MAX_INSTANCES,
    LayeredPicture,
    decode_annotation,
    read_rendered,
    recompose_layers,
    rendered_files,
)

Table = dict[str, Any]
H, W = 12, 17


def noise(*shape: int, seed: int = 0, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape, dtype=np.int64)


def part(seed: int, **more: Any) -> Table:
    mask = noise(H, W, seed=seed, high=2).astype(bool)
    delta = np.where(mask[..., None], 0, noise(H, W, 3, seed=seed + 1)).astype(np.uint8)
    return {"blip2": f"blip {seed}", "original_image_mask": mask, "inpainted_delta": delta, **more}


def instance(seed: int, **more: Any) -> Table:
    alpha = Image.fromarray(noise(H, W, seed=seed + 2).astype(np.uint8))
    return part(seed, **{"instance_alpha": alpha, **more})


def annotation(*instances: Table, **background: Any) -> Table:
    return {
        "captioning": {"llava": "llava-v1", "blip2": "blip2-opt", "clip": np.float32(0.5)},
        "background": part(1, llava="a beach", **background),
        "image": {"llava": "two dogs on a beach", "blip2": "dogs"},
        "instances": dict(enumerate(instances)),
    }


def packed(value: Any, protocol: int = 4) -> bytes:
    return zlib.compress(pickle.dumps(value, protocol))


def reference(table: Table, base: np.ndarray) -> np.ndarray:
    """The published formula in 64-bit integers."""
    wide = base.astype(np.int64)
    for key in ("original_image_mask", "instance_mask"):
        mask = np.asarray(table.get(key, True)).astype(np.int64)
        wide = wide * (mask[..., None] if mask.ndim == 2 else mask)
    return np.clip(wide + np.asarray(table["inpainted_delta"]).astype(np.int64), 0, 255).astype(np.uint8)


@pytest.fixture
def base() -> np.ndarray:
    return noise(H, W, 3, seed=99).astype(np.uint8)


# the picture


@pytest.mark.parametrize("protocol", range(2, 6))
def test_layers_are_the_published_arithmetic_in_the_order_of_their_keys(base: np.ndarray, protocol: int) -> None:
    table = annotation()
    table["instances"] = {key: instance(10 + key) for key in (2, 0, 10, 1)}
    picture = decode_annotation(packed(table, protocol), base)
    np.testing.assert_array_equal(picture.background, reference(table["background"], base), strict=True)
    assert len(picture.layers) == 4
    for layer, made in zip(picture.layers, table["instances"].values(), strict=True):
        np.testing.assert_array_equal(layer[..., :3], reference(made, base), strict=True)
        np.testing.assert_array_equal(layer[..., 3], np.asarray(made["instance_alpha"]), strict=True)


def test_captions_prefer_llava_and_fall_back_to_blip2(base: np.ndarray) -> None:
    table = annotation(instance(1, blip2=" a dog "), instance(2, blip2=None), instance(3, llava="a cat"))
    picture = decode_annotation(packed(table), base)
    assert picture.captions == ("a beach", "a dog", "", "a cat")
    assert picture.caption == "two dogs on a beach"
    del table["image"]
    assert decode_annotation(packed(table), base).caption == ""


def test_a_sum_above_white_is_white_and_does_not_wrap() -> None:
    base = np.full((H, W, 3), 200, np.uint8)
    ones, delta = np.ones((H, W), bool), np.full((H, W, 3), 100, np.uint8)
    for made in (delta, delta.astype(np.int16), delta.astype(np.float32), delta.astype(np.uint16) * 300):
        table = annotation(original_image_mask=ones, inpainted_delta=made)
        assert (decode_annotation(packed(table), base).background == 255).all()
    table = annotation(original_image_mask=ones, inpainted_delta=delta.astype(np.int16) * -3)
    assert (decode_annotation(packed(table), base).background == 0).all()


@pytest.mark.parametrize("kind", ["?", "u1", "u2", "u8", "i1", "i2", "i8", "f2", "f4", "f8"])
def test_masks_and_differences_of_any_kind_of_number_are_alike(base: np.ndarray, kind: str) -> None:
    mask, delta = noise(H, W, 1, seed=3, high=2), noise(H, W, 3, seed=4, high=2 if kind == "?" else 128)
    expected = np.clip(base.astype(np.int64) * mask + delta, 0, 255)
    for made in (mask[..., 0], mask, np.repeat(mask, 3, axis=2)):
        table = annotation(original_image_mask=made.astype(kind), inpainted_delta=delta.astype(kind))
        np.testing.assert_array_equal(decode_annotation(packed(table), base).background, expected)


@pytest.mark.parametrize("kind", ["i2", "i4", "i8", "f4", "f8"])
def test_negative_and_wide_differences_are_clipped(base: np.ndarray, kind: str) -> None:
    delta = noise(H, W, 3, seed=5, low=-30_000, high=30_000)
    delta[::2] %= 300
    table = annotation(original_image_mask=np.ones((H, W)), inpainted_delta=delta.astype(kind))
    expected = np.clip(base + delta, 0, 255)
    np.testing.assert_array_equal(decode_annotation(packed(table), base).background, expected)


def test_the_mask_of_an_instance_is_optional_and_multiplies(base: np.ndarray) -> None:
    made = instance(4, instance_mask=noise(H, W, seed=6, high=2).astype(np.uint8))
    (layer,) = decode_annotation(packed(annotation(made)), base).layers
    np.testing.assert_array_equal(layer[..., :3], reference(made, base))


@pytest.mark.parametrize("protocol", [2, 4])
def test_alphas_of_every_kind_are_the_same_levels(base: np.ndarray, protocol: int) -> None:
    hard = noise(H, W, seed=7, high=2).astype(bool)
    soft = noise(H, W, seed=8).astype(np.uint8)
    soft[0, 0] = 255
    alphas = [
        (hard, hard * 255),
        (hard.astype(np.float32), hard * 255),
        (Image.fromarray(hard), hard * 255),
        (soft, soft),
        (soft[..., None], soft),
        (soft.astype(np.int64), soft),
        (soft.astype(np.float64), soft),
        (soft / np.float32(255), soft),
        (Image.fromarray(soft), soft),
        (np.zeros((H, W)), np.zeros((H, W))),
    ]
    made = [instance(k, instance_alpha=alpha) for k, (alpha, _) in enumerate(alphas)]
    picture = decode_annotation(packed(annotation(*made), protocol), base)
    for layer, (_, levels) in zip(picture.layers, alphas, strict=True):
        np.testing.assert_array_equal(layer[..., 3], levels)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (4, 1), (1, 4)])
def test_the_smallest_pictures_decode(size: tuple[int, int]) -> None:
    base = noise(*size, 3).astype(np.uint8)
    table = {
        "original_image_mask": np.ones(size, bool),
        "inpainted_delta": np.ones((*size, 3), np.int16),
        "instance_alpha": np.full(size, 7, np.uint8),
    }
    picture = decode_annotation(packed({"background": table, "instances": {0: table}}), base)
    np.testing.assert_array_equal(picture.background, np.minimum(base.astype(int) + 1, 255))
    assert picture.layers[0].shape == (*size, 4)


def test_no_instances_is_a_background_alone(base: np.ndarray) -> None:
    picture = decode_annotation(packed(annotation()), base)
    assert (picture.layers, picture.captions) == ((), ("a beach",))
    np.testing.assert_array_equal(recompose_layers(picture), picture.background)


def test_layers_recompose_by_rounded_over_from_the_bottom(base: np.ndarray) -> None:
    picture = decode_annotation(packed(annotation(*map(instance, range(3, 7)))), base)
    image = picture.background.astype(np.float64)
    for layer in picture.layers:
        alpha = layer[..., 3:] / 255
        image = np.rint(alpha * layer[..., :3] + (1 - alpha) * image)
    np.testing.assert_array_equal(recompose_layers(picture), image)


# annotations that cannot be used


def refused(data: bytes, base: np.ndarray, reason: str, what: str, **more: Any) -> None:
    with pytest.raises(BadImage, match=what) as caught:
        decode_annotation(data, base, **more)
    assert caught.value.reason == reason


class _Attack:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_that_calls_something_is_refused_by_name(
    base: np.ndarray, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(packed(annotation(instance(1, blip2=_Attack())), protocol), base, "unsafe_pickle", r"got posix\.system")
    assert not list(tmp_path.iterdir())


def test_a_zlib_bomb_is_refused_without_being_unpacked(base: np.ndarray) -> None:
    bomb = zlib.compress(bytes(200_000_000), 9)
    tracemalloc.start()
    try:
        refused(bomb, base, "too_large", "expected at most 1000000 bytes unpacked", max_bytes=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_the_cap_is_exact(base: np.ndarray) -> None:
    table = annotation(instance(1))
    size = len(pickle.dumps(table, 4))
    assert len(decode_annotation(packed(table), base, max_bytes=size).layers) == 1
    refused(packed(table), base, "too_large", f"at most {size - 1} bytes", max_bytes=size - 1)


def test_one_instance_named_a_thousand_times_is_refused(base: np.ndarray) -> None:
    table = instance(1)
    assert len(decode_annotation(packed(annotation(*[table] * MAX_INSTANCES)), base).layers) == MAX_INSTANCES
    refused(packed(annotation(*[table] * 1000)), base, "too_large", f"at most {MAX_INSTANCES} instances, got 1000")


@pytest.mark.parametrize("cut", [0, 1, 2, 50, 200, -4, -1])
def test_a_file_that_breaks_off_is_unreadable(base: np.ndarray, cut: int) -> None:
    refused(packed(annotation(instance(1)))[:cut], base, "unreadable", "zlib stream")


def test_what_is_no_zlib_is_unreadable(base: np.ndarray) -> None:
    refused(b"no annotation at all", base, "unreadable", "expected a zlib stream, got 20 bytes")
    refused(pickle.dumps(annotation()), base, "unreadable", "expected a zlib stream")
    refused(zlib.compress(b"no pickle"), base, "unreadable", "expected a pickle, got 9 broken bytes")
    refused(packed(annotation())[:-4] + b"abcd", base, "unreadable", "checksum")


def test_what_joblib_wrote_is_refused_by_its_name(base: np.ndarray) -> None:
    file = io.BytesIO()
    joblib.dump(annotation(instance(1)), file, compress=("zlib", 3))
    refused(file.getvalue(), base, "unreadable", "got one that joblib wrote; write it again with pickle.dumps")


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ([1, 2], "the annotation: expected a table, got list"),
        ({}, "the annotation: expected the key background, got the keys none"),
        ({"background": {}}, "expected the key instances, got the keys background"),
        (
            {"background": {"llava": "x"}, "instances": {}},
            "background: expected the key original_image_mask, got .*llava",
        ),
        (annotation() | {"instances": [instance(1)]}, "instances: expected a table, got list"),
        (annotation() | {"background": None}, "background: expected a table, got nonetype"),
        (annotation() | {"instances": {1 << 60_000: 3}}, "instance int: expected a table, got int"),
        ({1 << 60_000: 3, "x" * 99: 4}, "expected the key background, got the keys int, x{40}$"),
        (annotation(part(1)), "instance 0: expected the key instance_alpha, got the keys blip2, original_image_mask"),
        (
            annotation(instance(1, instance_alpha="x")),
            "instance 0, instance_alpha: expected an array or picture, got str",
        ),
        (
            annotation(instance(1, instance_alpha=np.zeros((H, W, 3)))),
            r"expected height, width and 1 channels, got .*3\)",
        ),
        (annotation(instance(1, instance_alpha=np.full((H, W), 256))), r"instance_alpha: expected 0\.\.255"),
        (annotation(instance(1, instance_alpha=np.full((H, W), -1.0))), r"instance_alpha: expected 0\.\.255"),
        (annotation(instance(1, instance_alpha=np.full((H, W), np.nan))), r"instance_alpha: expected 0\.\.255"),
        (
            annotation(original_image_mask=np.full((H, W), 255)),
            r"original_image_mask: expected 0 and 1, got int64 in 255",
        ),
        (annotation(original_image_mask=np.full((H, W), 0.5)), "original_image_mask: expected 0 and 1, got float64"),
        (annotation(original_image_mask=np.zeros((H, W, 2))), "expected height, width and 1 or 3 channels"),
        (annotation(original_image_mask=np.float32(1)), r"1 or 3 channels, got the shape \(\)"),
        (annotation(inpainted_delta=np.zeros((H, W))), "inpainted_delta: expected height, width and 3 channels"),
        (annotation(inpainted_delta=np.full((H, W, 3), np.inf)), "inpainted_delta: expected finite numbers"),
    ],
)
def test_a_table_that_lacks_something_says_what(base: np.ndarray, table: Any, what: str) -> None:
    refused(packed(table), base, "bad_annotation", what)


def test_a_base_picture_of_another_size_is_refused(base: np.ndarray) -> None:
    data = packed(annotation(instance(1)))
    refused(data, base[1:], "wrong_size", f"background, original_image_mask: expected {W}x{H - 1}, got {W}x{H}")
    data = packed(annotation(instance(1, instance_alpha=Image.new("L", (H, W)))))
    refused(data, base, "wrong_size", f"instance 0, instance_alpha: expected {W}x{H}, got {H}x{W}")
    with pytest.raises(ValueError, match="base must be uint8 of shape"):
        decode_annotation(data, base[..., 0])


# what the script rendered


def rendered(folder: Path, picture: LayeredPicture, id_: str = "7") -> Path:
    for number, layer in enumerate((picture.background, *picture.layers)):
        (folder / f"{id_}-layer_{number}.png").write_bytes(images.encode_png(layer))
    return folder / f"{id_}-layer_0.png"


def test_rendered_layers_come_back_in_the_order_of_their_numbers(base: np.ndarray, tmp_path: Path) -> None:
    picture = decode_annotation(packed(annotation(*map(instance, range(11)))), base)
    first = rendered(tmp_path, picture)
    rendered(tmp_path, picture, "77")
    files = rendered_files(first)
    assert [path.name for path in files] == [f"7-layer_{number}.png" for number in range(12)]
    for order in (files, sorted(files), files[::-1]):
        found = read_rendered(order)
        np.testing.assert_array_equal(found.background, picture.background, strict=True)
        for layer, made in zip(found.layers, picture.layers, strict=True):
            np.testing.assert_array_equal(layer, made, strict=True)
    assert found.captions == ("",) * 12
    np.testing.assert_array_equal(recompose_layers(found), recompose_layers(picture))


def test_rendered_layers_that_do_not_fit_are_refused(base: np.ndarray, tmp_path: Path) -> None:
    first = rendered(tmp_path, decode_annotation(packed(annotation(*map(instance, range(3)))), base))
    files = rendered_files(first)
    for some, found in ((files[1:], "1, 2, 3"), ((*files[:1], *files[2:]), "0, 2, 3"), ((), "none")):
        with pytest.raises(
            BadImage, match=f"missing_layer: expected layers numbered from 0 without a gap, got {found}"
        ):
            read_rendered(some)
    with pytest.raises(BadImage, match="missing_layer: expected files named"):
        read_rendered([tmp_path / "x.png"])
    with pytest.raises(ValueError, match=r"expected a file named \*layer_0\.png"):
        rendered_files(tmp_path / "x.png")
    files[2].write_bytes(images.encode_png(base[1:]))
    with pytest.raises(BadImage, match=f"wrong_size: .*layer_2.png: expected {W}x{H}, got {W}x{H - 1}"):
        read_rendered(files)
    files[2].write_bytes(b"")
    with pytest.raises(BadImage, match="empty_file"):
        read_rendered(files)


# real photographs


def polygon_alpha(segments: list[list[float]], size: tuple[int, int]) -> Image.Image:
    alpha = Image.new("L", size)
    for segment in segments:
        ImageDraw.Draw(alpha).polygon(segment, fill=255)
    return alpha


def coco_annotation(photo: np.ndarray, objects: list[Table]) -> Table:
    """The photograph itself in layers: each object as it is, and a flat grey where the objects were."""
    alphas = [polygon_alpha(found["segmentation"], photo.shape[1::-1]) for found in objects]
    free = ~np.any([np.asarray(alpha) > 0 for alpha in alphas], axis=0)
    grey = np.where(free[..., None], 0, 128).astype(np.uint8) * np.ones(3, np.uint8)
    made = {}
    for k, alpha in enumerate(alphas):
        mask = np.asarray(alpha) > 0
        made[k] = {
            "blip2": f"object {k}",
            "original_image_mask": mask,
            "inpainted_delta": np.where(mask, 0, 90)[..., None].astype(np.uint8) * np.ones(3, np.uint8),
            "instance_alpha": alpha,
        }
    background = {"llava": "a scene", "original_image_mask": free, "inpainted_delta": grey}
    return {"captioning": {}, "background": background, "image": {"blip2": "a photo"}, "instances": made}


def test_a_real_photograph_in_layers_recomposes_to_itself(shared_data: Path, tmp_path: Path) -> None:
    (table,) = sorted((shared_data / "coco128").rglob("*instances*.json"))[:1]
    loaded = json.loads(table.read_text(encoding="utf-8"))
    names = {row["id"]: Path(row["file_name"]).name for row in loaded["images"]}
    (tmp_path / "images").symlink_to(shared_data / "coco128" / "images")
    (tmp_path / "annotations").mkdir()
    for id_, name in sorted(names.items()):
        objects = [row for row in loaded["annotations"] if row["image_id"] == id_ and not row["iscrowd"]][:4]
        if len(objects) < 2 or len(list((tmp_path / "annotations").iterdir())) == 4:
            continue
        photo = images.read(shared_data / "coco128/images/train2017" / name)
        file = tmp_path / "annotations" / f"{Path(name).stem}.p.zl"
        file.write_bytes(packed(coco_annotation(photo, objects)))
    found = list(entries("mulan", {"mulan": tmp_path}))
    assert len(found) == 4
    for entry in found:
        assert entry.base is not None
        photo = images.read(entry.base)
        picture = decode_annotation(images.read_bytes(entry.path), photo)
        np.testing.assert_array_equal(recompose_layers(picture), photo)
        assert 2 <= len(picture.layers) <= 4
        assert picture.caption == "a photo"
