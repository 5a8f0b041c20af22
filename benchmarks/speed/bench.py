"""FID, KID, LPIPS (alex), PSNR and SSIM of pairs of pictures: ours in one pass, beside the usual tools in turn.

    python benchmarks/speed/bench.py --pairs 200 --size 512 --threads 2

Both sides read the same PNG files and share random weights, so the numbers have no meaning but agreement. The usual
tools: clean-fid (FID, then KID: each call extracts its features), lpips, and torchmetrics (PSNR and SSIM).
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from layerkit.manifests.sources import entries
from layerkit.toolkit import images
from layerkit.toolkit.metrics.distributions import fid, kid
from layerkit.toolkit.metrics.features import InceptionFeatures
from layerkit.toolkit.metrics.inception import fid_inception
from layerkit.toolkit.metrics.meters import MeanMeter
from layerkit.toolkit.metrics.perceptual import Lpips, lpips_net
from layerkit.toolkit.metrics.pixels import PSNR_CAP, psnr, ssim

Scores = dict[str, float]


def make_pairs(folder: Path, pairs: int, size: int) -> list[tuple[Path, Path]]:
    """Photographs in crops, beside copies whose middle is blurred and noisy."""
    random = np.random.default_rng(0)
    photos = [images.read(entry.path) for entry in entries("embedded", {})]
    photos = [photo for photo in photos if min(photo.shape[:2]) >= 256]
    for side in ("preds", "target"):
        (folder / side).mkdir()
    paths = []
    for number in range(pairs):
        target = _crop(photos[number % len(photos)], size, random)
        pair = folder / "preds" / f"{number:05d}.png", folder / "target" / f"{number:05d}.png"
        for path, picture in zip(pair, (_spoilt(target, random), target), strict=True):
            path.write_bytes(images.encode_png(picture))
        paths.append(pair)
    return paths


def _crop(photo: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    side = int(random.integers(200, min(photo.shape[:2])))
    top, left = (int(random.integers(length - side + 1)) for length in photo.shape[:2])
    crop = Image.fromarray(photo[top : top + side, left : left + side])
    return np.asarray(crop.resize((size, size), Image.Resampling.LANCZOS))


def _spoilt(target: np.ndarray, random: np.random.Generator) -> np.ndarray:
    spoilt, middle = target.astype(np.float64), slice(len(target) // 4, -len(target) // 4)
    part = spoilt[middle, middle]
    part[:] = part.mean(axis=0) * 0.3 + part * 0.7 + random.normal(0, 12, part.shape)
    return np.rint(np.clip(spoilt, 0, 255)).astype(np.uint8)


def random_state() -> dict[str, torch.Tensor]:
    """FID's Inception with random weights whose features keep a sensible size."""
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    state = inception_v3(weights=None, init_weights=False, aux_logits=False, num_classes=1008).state_dict()
    for name, value in state.items():
        if value.ndim == 4:
            value.normal_(0, (2 / value[0].numel()) ** 0.5)
        elif name.endswith(("bn.weight", "running_var")):
            value.uniform_(0.5, 1.5)
    return state


def usual_network(state: dict[str, torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network as clean-fid runs it."""
    from cleanfid import inception_pytorch

    inception_pytorch.load_state_dict_from_url = lambda *_, **__: state
    module = inception_pytorch.InceptionV3([3], resize_input=False, normalize_input=False).eval()
    return lambda pictures: module((pictures - 128) / 128)[0].flatten(1)


def usual(
    folder: Path, paths: list[tuple[Path, Path]], network: Any, trunk: Any
) -> tuple[Scores, dict[str, list[float]]]:
    """clean-fid twice, lpips, torchmetrics; scores, and the seconds of each."""
    from cleanfid import fid as clean_fid
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    clean_fid.build_feature_extractor = lambda *_, **__: network
    folders = str(folder / "preds"), str(folder / "target")
    options: dict[str, Any] = {"num_workers": 0, "device": "cpu", "verbose": False}
    np.random.seed(0)

    def each(score: Callable[[torch.Tensor, torch.Tensor], Any]) -> float:
        with torch.no_grad():
            return float(np.mean([float(score(*(_read(path) for path in pair))) for pair in paths]))

    parts: dict[str, Callable[[], float]] = {
        "FID": lambda: clean_fid.compute_fid(*folders, **options),
        "KID": lambda: clean_fid.compute_kid(*folders, **options),
        "LPIPS": lambda: each(lambda preds, target: trunk(2 * preds - 1, 2 * target - 1)),
        "PSNR": lambda: each(lambda preds, target: peak_signal_noise_ratio(preds, target, data_range=1.0)),
        "SSIM": lambda: each(lambda preds, target: structural_similarity_index_measure(preds, target, data_range=1.0)),
    }
    timed = {name: measured(part) for name, part in parts.items()}
    return {name: value for name, (value, _) in timed.items()}, {name: spent for name, (_, spent) in timed.items()}


def _read(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None] / 255


def ours(
    paths: list[tuple[Path, Path]], extractor: InceptionFeatures, lpips: Lpips, cached: np.ndarray | None = None
) -> tuple[Scores, np.ndarray]:
    """One pass: each picture is decoded once; ``cached`` are features of the targets from an earlier model's run."""
    meters = {"LPIPS": MeanMeter(), "PSNR": MeanMeter(PSNR_CAP), "SSIM": MeanMeter()}
    features: list[list[np.ndarray]] = [[], []]
    for low in range(0, len(paths), extractor.batch):
        batch = [
            [images.decode_member(path.read_bytes(), "png") for path in pair] for pair in paths[low:][: extractor.batch]
        ]
        for preds, target in batch:
            for name, score in (("LPIPS", lpips), ("PSNR", psnr), ("SSIM", ssim)):
                meters[name].update(score(preds, target))
        features[0].append(extractor([preds for preds, _ in batch]))
        if cached is None:
            features[1].append(extractor([target for _, target in batch]))
    preds, target = np.concatenate(features[0]), np.concatenate(features[1]) if cached is None else cached
    scores = {"FID": fid(preds, target), "KID": kid(preds, target)}
    return scores | {name: meter.compute().value for name, meter in meters.items()}, target


def measured(work: Callable[[], Any]) -> tuple[Any, list[float]]:
    """The result, and seconds of wall and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, [time.perf_counter() - wall, time.process_time() - cpu]


def main() -> None:
    """Print both sides' seconds and scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="the least seconds of each part are printed")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    state = random_state()
    module = lpips_net("alex")
    extractor, lpips = InceptionFeatures(fid_inception(state), "clean-fid"), Lpips(lpips_net("alex"))
    lpips.net.load_state_dict(module.state_dict())
    with tempfile.TemporaryDirectory() as name:
        paths = make_pairs(Path(name), arguments.pairs, arguments.size)
        ours(paths[:2], extractor, lpips)  # warm up
        network, spent = usual_network(state), {}
        for _ in range(arguments.rounds):
            (one, target), took = measured(partial(ours, paths, extractor, lpips))
            _, cached = measured(partial(ours, paths, extractor, lpips, target))
            theirs, parts = usual(Path(name), paths, network, module)
            for part, seconds in {**parts, "ours": took, "cached": cached}.items():
                spent[part] = np.minimum(seconds, spent.get(part, np.inf))
            report(one, theirs, spent)


def report(one: Scores, theirs: Scores, spent: dict[str, np.ndarray]) -> None:
    """Two tables: scores, and the least seconds so far with their ratio to ours."""
    print(f"{'':28s}{'usual':>14s}{'ours':>14s}{'relative':>12s}")
    for name, value in theirs.items():
        print(f"{name:28s}{value:14.6f}{one[name]:14.6f}{abs(one[name] / value - 1):12.1e}")
    total = sum(spent[name] for name in theirs)
    rows = {f"usual: {name}": spent[name] for name in theirs} | {
        "usual, all": total,
        # As if clean-fid kept the features of FID for KID, whose kernel takes next to no time at this size.
        "usual, KID for nothing": total - spent["KID"],
        "ours": spent["ours"],
        "ours, target features cached": spent["cached"],
    }
    print(f"\n{'seconds':30s}{'wall':>8s}{'CPU':>8s}{'CPU/ours':>11s}{'CPU/cached':>13s}")
    for name, (wall, cpu) in rows.items():
        print(
            f"{name:30s}{wall:8.1f}{cpu:8.1f}{cpu / spent['ours'][1]:10.2f}x{cpu / spent['cached'][1]:12.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
