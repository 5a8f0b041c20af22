"""Do learnt prompts keep new objects out of a hole? SEELE's task prompts, small, on a base of rendered scenes.

The base (see ``inpainting_base``) fills holes by a text: an object's kind, the ground, or nothing. On scenes that it
never saw, prompts for removing and completing are learnt, and a prompt with LoRA for harmonising; then objects of
held-out scenes are removed, in holes of their exact masks and dilated, without a text, by the base's own text for the
ground, by the removal prompt, and by the completion prompt as a control. All begin with the same noise.

A new object is a hole whose spectral saliency stands out: its mean over the hole, divided by the sum of those over
hole and rest, is above a threshold: the one that best tells true pictures from true backgrounds in the scenes that
are trained on. As that looks for edges, and a small base paints blurred objects, a second count has the exact
background: a hole is unlike the ground where, blurred, it differs from it somewhere by as much as nine true objects
of ten do. How both judge the pictures and the backgrounds themselves stands in the table. PSNR is that of the hole
against the exact background, the gradient's error that on the hole's edge.

    python benchmarks/experiments/seele_prompts.py --out FOLDER

``--base`` takes a base that is there already. What is there already is not trained again.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from inpainting_base import GROUND, base, rendered, states
from layerfusion_pair import Scenes, train
from numpy.typing import NDArray
from torch import Tensor

from layerkit.toolkit.images import encode_png
from layerkit.toolkit.inpaint import Telea, inpaint
from layerkit.toolkit.metrics.pixels import PSNR_CAP, psnr
from layerkit.toolkit.metrics.seams import edge_gradient
from layerkit.toolkit.models import sd_inpaint, seele
from layerkit.toolkit.models.recolour import draw_changes, recoloured
from layerkit.toolkit.models.runs import WEIGHTS
from layerkit.toolkit.models.seele_options import COMPLETE, HARMONISE, REMOVE, SeeleOptions
from layerkit.toolkit.models.system import Origin, Triplets
from layerkit.toolkit.pictures import sheet
from layerkit.toolkit.saliency import residual, spectral_residual
from layerkit.toolkit.task_masks import dilated

U8, Bool = NDArray[np.uint8], NDArray[np.bool_]
Fill = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""From pictures, holes and a generator to filled pictures."""

COLUMNS = ("a new object, by saliency", "unlike the ground", "PSNR in the hole", "gradient's error")
FORMS = ("{:.0%} ± {:.0%}", "{:.0%} ± {:.0%}", "{:.2f} ± {:.2f}", "{:.1f} ± {:.1f}")
HOLES = {"exact": 1, "dilated by 5 px": 5}
TOKENS, STEPS, BATCH, RATE = 16, 20, 16, 1e-2
_TRAINED, _FIRST, _HELD_OUT = 3000, 200_000, 300_000
_SHOWN = 8
_BLUR = 2.0  # px


class Cases(NamedTuple):
    """Held-out scenes, colour in 0..1, and their masks, (N, channels, H, W)."""

    image: Tensor
    background: Tensor
    mask: Tensor


def main() -> None:
    """Train, remove, count and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--held-out", type=int, default=96)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.base or base(given.out)
    side = int(sd_inpaint.load_sd_inpaint(Origin(base=str(folder)), torch.float32).unet.config.sample_size * 4)
    data, held_out = cases(rendered(_TRAINED, side, _FIRST)), cases(rendered(given.held_out, side, _HELD_OUT))
    systems = [learnt(folder, data, given.out, seed, given.steps, (REMOVE, COMPLETE)) for seed in range(given.seeds)]
    fills = ways(folder, systems)
    for name, grown in HOLES.items():
        print_removal(name, fills, data, held_out, grown)
    harmonisers = {
        noised: [
            learnt(folder, data, given.out, seed, given.steps, (HARMONISE,), noised=noised)
            for seed in range(given.seeds)
        ]
        for noised in ("input", "target")
    }
    print_harmony(harmonisers, held_out)
    shown = strips(fills, harmonisers["input"][0], held_out)
    (given.out / "seele-prompts.png").write_bytes(encode_png(shown))


# ---- data and systems


def cases(found: Scenes) -> Cases:
    """Scenes with the mask of what is more than half the object's."""
    return Cases((found.image + 1) / 2, (found.background + 1) / 2, (found.alpha > 0.5).float())


def learnt(
    folder: Path, data: Cases, out: Path, seed: int, steps: int, tasks: tuple[str, ...], **changes: str
) -> seele.Seele:
    """A system on the base, trained if it is not there."""
    options = SeeleOptions(tasks=tasks, tokens=TOKENS, base_dtype="float32", steps=STEPS, **changes)
    torch.manual_seed(seed)
    system = seele.build(options, Origin(base=str(folder)))
    run = out / "-".join([*tasks, *changes.values(), str(seed), str(steps)])
    if not (run / WEIGHTS).is_file():
        draws = torch.Generator().manual_seed(seed)
        train(list(system.trained().values()), lambda _: system(batch_of(data, draws), draws, 0)["loss"], steps, RATE)
        run.mkdir(parents=True, exist_ok=True)
        system.save(run)
    system.restore(run)
    return system.eval()


def batch_of(data: Cases, draws: torch.Generator) -> Triplets:
    """Some scenes; SEELE looks at pictures and masks alone."""
    some = torch.randint(0, len(data.image), (BATCH,), generator=draws)
    foreground = torch.cat([data.image[some], data.mask[some]], 1)
    known = torch.ones(BATCH, dtype=torch.bool)
    return Triplets(
        image=data.image[some],
        foreground=foreground,
        background=data.background[some],
        mask=data.mask[some],
        has_foreground=known,
    )


def ways(folder: Path, systems: Sequence[seele.Seele]) -> Mapping[str, Sequence[Fill]]:
    """How holes are filled, by name; one of each seed."""
    found = sd_inpaint.load_sd_inpaint(Origin(base=str(folder)), torch.float32)
    texts = {name: by_text(found, text) for name, text in {"no prompt": "", f'the text "{GROUND}"': GROUND}.items()}
    prompts = {"removal prompt": REMOVE, "completion prompt": COMPLETE}
    return {
        **{name: [fill] * len(systems) for name, fill in texts.items()},
        **{name: [getattr(system, task) for system in systems] for name, task in prompts.items()},
    }


def by_text(found: sd_inpaint.SdInpaint, words: str) -> Fill:
    """The base alone, told a text."""
    from transformers import CLIPTextModel, CLIPTokenizer

    text = CLIPTextModel.from_pretrained(found.folder / "text_encoder")
    state = states(text, CLIPTokenizer.from_pretrained(found.folder / "tokenizer"), [words]).detach()

    def fill(image: Tensor, mask: Tensor, draws: torch.Generator) -> Tensor:
        view = sd_inpaint.seen(found.vae, image, mask)
        noise = torch.randn(view[:, 1:].shape, generator=draws)
        made = sd_inpaint.sample(found, view, state.expand(len(image), -1, -1), noise, steps=STEPS)
        return sd_inpaint.pasted(sd_inpaint.decode(found.vae, made), image, mask)

    return fill


# ---- removal


def print_removal(name: str, fills: Mapping[str, Sequence[Fill]], data: Cases, held_out: Cases, grown: int) -> None:
    """The table of one kind of hole."""
    limits = calibrated(data, grown)
    print(f"\nHoles: {name}. A new object: above {limits[0]:.3f}; unlike the ground: from {limits[1]:.0f} levels on.\n")
    print(f"| | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    telea = [
        inpaint(Telea(), *pair, dilate=1) for pair in zip(as_u8(held_out.image), masks_of(held_out, grown), strict=True)
    ]
    fixed = {
        "the picture itself": held_out.image,
        "the exact background": held_out.background,
        "Telea": torch.from_numpy(np.stack(telea)).permute(0, 3, 1, 2) / 255,
    }
    made = {
        **{way: [pictures] for way, pictures in fixed.items()},
        **{way: [filled(fill, held_out, grown, k) for k, fill in enumerate(some)] for way, some in fills.items()},
    }
    for way, of_seeds in made.items():
        rows = np.array([scores(one, held_out, grown, limits) for one in of_seeds])
        print(f"| {way} | {' | '.join(cells(rows))} |", flush=True)


def calibrated(data: Cases, grown: int) -> tuple[float, float]:
    """The saliency that best tells pictures from backgrounds, and what a tenth of the objects differs less by."""
    some = Cases(*(each[:600] for each in data))
    with_object, without = (stands_out(one, some, grown) for one in (some.image, some.background))
    candidates = np.sort(np.concatenate([with_object, without]))
    right = [np.mean(with_object > level) + np.mean(without <= level) for level in candidates]
    return float(candidates[int(np.argmax(right))]), float(np.quantile(differences(some.image, some, grown), 0.1))


def stands_out(pictures: Tensor, of: Cases, grown: int) -> NDArray[np.float64]:
    """How salient the hole of each picture is, 0..1."""
    pairs = zip(as_u8(pictures), masks_of(of, grown), strict=True)
    return np.array([residual(spectral_residual(picture), hole) for picture, hole in pairs])


def differences(pictures: Tensor, of: Cases, grown: int) -> NDArray[np.float64]:
    """By how many levels each hole differs most from the exact background, both blurred."""
    made, truth = (
        [cv2.GaussianBlur(one.astype(np.float32), (0, 0), _BLUR) for one in as_u8(each)]
        for each in (pictures, of.background)
    )
    found = [np.abs(a - b).mean(2)[hole].max() for a, b, hole in zip(made, truth, masks_of(of, grown), strict=True)]
    return np.array(found, np.float64)


def filled(fill: Fill, of: Cases, grown: int, seed: int) -> Tensor:
    """All held-out scenes with the hole filled."""
    draws = torch.Generator().manual_seed(seed)
    holes = torch.from_numpy(np.stack(masks_of(of, grown))[:, None]).float()
    with torch.no_grad():
        return torch.cat(
            [fill(image, hole, draws) for image, hole in zip(of.image.split(32), holes.split(32), strict=True)]
        )


def scores(made: Tensor, of: Cases, grown: int, limits: tuple[float, float]) -> list[float]:
    """Means of the columns."""
    triples = list(zip(as_u8(made), as_u8(of.background), masks_of(of, grown), strict=True))
    return [
        float(np.mean(stands_out(made, of, grown) > limits[0])),
        float(np.mean(differences(made, of, grown) >= limits[1])),
        float(np.mean([min(psnr(*triple), PSNR_CAP) for triple in triples])),
        float(np.nanmean([edge_gradient(*triple) for triple in triples])),
    ]


def cells(rows: NDArray[np.float64], forms: Sequence[str] = FORMS) -> list[str]:
    """Mean and deviation of each column over the seeds."""
    texts = [form.format(*pair) for form, *pair in zip(forms, rows.mean(0), rows.std(0), strict=True)]
    return texts if len(rows) > 1 else [text.split(" ±")[0] for text in texts]


# ---- harmonising


def print_harmony(systems: Mapping[str, Sequence[seele.Seele]], held_out: Cases) -> None:
    """Objects in other colours before and after, against the picture, all but the first as the VAE gives them back."""
    vae, given = systems["input"][0].vae, changed(systems["input"][0], held_out)
    before = {
        "other colours": given,
        "other colours, through the VAE": through(vae, given),
        "the picture, through the VAE": through(vae, held_out.image),
    }
    made = {
        **{name: [pictures] for name, pictures in before.items()},
        **{
            f"harmonised, `{noised}`": [harmonised(one, given, held_out, k) for k, one in enumerate(some)]
            for noised, some in systems.items()
        },
    }
    print("\n| | PSNR under the mask | error of the mean colour |\n|---|---|---|")
    for name, of_seeds in made.items():
        rows = np.array([under(one, held_out) for one in of_seeds])
        print(f"| {name} | {' | '.join(cells(rows, FORMS[2:]))} |", flush=True)


@torch.no_grad()
def through(vae: Any, pictures: Tensor) -> Tensor:
    """What the VAE gives back."""
    return sd_inpaint.decode(vae, sd_inpaint.encode(vae, pictures)).clamp(0, 1)


def changed(system: seele.Seele, of: Cases) -> Tensor:
    """The pictures with objects in other colours, by fixed draws."""
    changes = draw_changes(system.options.recolour, len(of.image), torch.Generator().manual_seed(5))
    return recoloured(of.image, of.mask, changes)


def harmonised(system: seele.Seele, given: Tensor, of: Cases, seed: int) -> Tensor:
    """By noise of a seed."""
    return system.harmonise(given, of.mask, torch.Generator().manual_seed(seed))


def under(made: Tensor, of: Cases) -> tuple[float, float]:
    """Under the masks, against the pictures: PSNR, and the error of the mean colour in levels, mean of the channels."""
    triples = list(zip(as_u8(made), as_u8(of.image), masks_of(of, 1), strict=True))
    colours = [np.abs(one[mask].mean(0) - other[mask].mean(0)).mean() for one, other, mask in triples]
    return float(np.mean([psnr(*triple) for triple in triples])), float(np.mean(colours))


# ---- pictures


def masks_of(of: Cases, grown: int) -> list[Bool]:
    """Holes, (H, W)."""
    return [dilated(mask, grown) for mask in of.mask[:, 0].numpy() > 0.5]


def as_u8(pictures: Tensor) -> list[U8]:
    """8-bit, (H, W, 3)."""
    return list((pictures.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy())


def strips(fills: Mapping[str, Sequence[Fill]], harmoniser: seele.Seele, held_out: Cases) -> U8:
    """Some held-out scenes: what came in, each filling of the dilated hole, the truth, and the harmonised object."""
    some, grown = Cases(*(each[:_SHOWN] for each in held_out)), HOLES["dilated by 5 px"]
    given = changed(harmoniser, held_out)[:_SHOWN]
    panels = {
        "image": as_u8(some.image),
        "hole": [hole.astype(np.uint8) * 255 for hole in masks_of(some, grown)],
        **{way: as_u8(filled(of_seeds[0], some, grown, 0)) for way, of_seeds in fills.items()},
        "background": as_u8(some.background),
        "other colours": as_u8(given),
        "harmonised": as_u8(harmonised(harmoniser, given, some, 0)),
    }
    return sheet(list(panels), [(str(k), [one[k] for one in panels.values()]) for k in range(_SHOWN)], 160)


if __name__ == "__main__":
    main()
