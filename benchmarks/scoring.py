"""Scores of one case: every measure of one image, and the feature vectors that the distances of sets are made of."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..manifests.report_files import VOTES
from ..toolkit.compose import over_u8
from ..toolkit.decomposition import Decomposition
from ..toolkit.metrics.clip import clip_scores
from ..toolkit.metrics.layering import draw_jitter, jittered_recomposition, on_colour
from ..toolkit.metrics.perceptual import LEAST_SIDE
from ..toolkit.metrics.pixels import psnr
from ..toolkit.metrics.regions import crop_box, pasted, region_mask
from ..toolkit.suites.cases import HUMAN, Case
from .measures import Measure
from .networks import Networks

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_OF_THE_BACKGROUND = {"target", "true foreground and background"}
_OF_BOTH = ("composed", "foreground")


def applies(
    measure: Measure, *, foreground: bool, true_foreground: bool, captions: bool = False, human: bool = False
) -> str:
    """Why a measure says nothing of a model on a suite; empty where it does.

    Args:
        measure: in question.
        foreground: whether the model gives a foreground.
        true_foreground: whether the suite knows the true one.
        captions: whether it knows texts.
        human: whether there are masks that people drew.
    """
    needs = set(measure.row.compares)
    of_foregrounds = measure.metric == "jitter-fid" or needs & {"alpha", "foreground", "foreground and background"}
    if (of_foregrounds or measure.region in _OF_BOTH) and not foreground:
        return "the model gives no foreground"
    of_truths = needs & {"true alpha", "true foreground", "true foreground and background"}
    if (of_truths or _is_pair_of_foregrounds(measure)) and not true_foreground:
        return "the suite knows no true foreground"
    if measure.metric == "mask-iou" and measure.variant == "human" and not human:
        return f"no mask that people drew was given; draw some on the predictions, and add --root {HUMAN}=DIR"
    if needs & {"votes"}:
        return f"no votes of people; fill in {VOTES} of the report's folder, and run again"
    if needs & {"true mask"}:
        return "the model gives no shadow mask"
    return "the suite has no captions" if "text vectors" in needs and not captions else ""


def why_not(measure: Measure, case: Case, made: Decomposition) -> str:
    """Why a measure says nothing of one prediction; empty where it does. See :func:`applies`."""
    return applies(
        measure,
        foreground=made.foreground is not None,
        true_foreground=case.foreground is not None,
        captions=case.prompt is not None,
        human=case.human is not None,
    )


def _is_pair_of_foregrounds(measure: Measure) -> bool:
    return measure.region == "foreground" and "text vectors" not in measure.row.compares


def score(measure: Measure, case: Case, made: Decomposition, networks: Networks) -> float:
    """A measure of one image; NaN where the case or the prediction lacks what it looks at."""
    if why_not(measure, case, made) or (case.background is None and set(measure.row.compares) & _OF_THE_BACKGROUND):
        return math.nan
    if measure.row.compares == ("preds", "target"):
        return _of_pictures(measure, case, made, networks)
    if measure.metric == "clip-image":
        return _of_vectors(measure, case, made, networks)
    if measure.metric == "clip-score":
        return _of_text(measure, case, made, networks)
    if measure.metric == "mask-iou":
        return float(measure.definition.load()(*_drawn_and_seen(measure, case, made, networks)))
    if measure.metric == "recomposition-psnr":
        return _recomposition(measure, case, made)
    arguments = _ARGUMENTS[measure.row.compares](case, made)
    return float(measure.definition.load()(*arguments))


def _of_vectors(measure: Measure, case: Case, made: Decomposition, networks: Networks) -> float:
    pair = picture_pair(measure, case, made)
    if pair is None:
        return math.nan
    first, second = networks.clip(measure.definition.weights[0]).images(pair[:2])[:, None]
    return float(clip_scores(first, second)[0])


def _of_text(measure: Measure, case: Case, made: Decomposition, networks: Networks) -> float:
    """A picture and the text that it was drawn of, the layer's own where it has one."""
    assert case.prompt is not None  # ``applies`` said so
    own = {"foreground": case.prompt.foreground, "whole": case.prompt.background}.get(measure.region, "")
    clip = networks.clip(measure.definition.weights[0])
    picture, text = clip.images([_shown(measure.region, made)]), clip.texts([own or case.prompt.prompt])
    return float(clip_scores(picture, text)[0])


def _drawn_and_seen(measure: Measure, case: Case, made: Decomposition, networks: Networks) -> tuple[U8, U8]:
    """The alpha of the foreground, and the mask of the layers put together, by a model or by people."""
    assert made.foreground is not None  # ``applies`` said so
    if measure.variant == "human":
        assert case.human is not None  # likewise
        return made.foreground[..., 3], case.human.astype(np.uint8) * 255
    seen = networks.saliency(measure.variant)(_shown("composed", made))
    return made.foreground[..., 3], np.rint(seen * 255).astype(np.uint8)


def _shown(region: str, made: Decomposition) -> U8:
    """The picture that a region of what was made stands for."""
    if region == "whole":
        return made.background
    assert made.foreground is not None  # ``applies`` said so
    return over_u8(made.foreground, made.background) if region == "composed" else on_colour(made.foreground)


def _of_pictures(measure: Measure, case: Case, made: Decomposition, networks: Networks) -> float:
    pair = picture_pair(measure, case, made)
    if pair is None:
        return math.nan
    preds, target, mask = pair
    if measure.metric == "lpips" and min(target.shape[:2]) < LEAST_SIDE:
        return math.nan  # smaller than anything that the network was trained on
    if measure.metric == "lpips":
        network = networks.lpips(measure.variant)
        return float(network(preds, target) if mask is None else network.in_mask(preds, target, mask))
    function = measure.definition.load()
    return float(function(preds, target) if mask is None else function(preds, target, mask))


def picture_pair(measure: Measure, case: Case, made: Decomposition) -> tuple[U8, U8, Mask | None] | None:
    """Predicted and true picture of a measure, and the pixels to look at; None where the case does not have them."""
    if measure.metric == "jitter-fid":
        assert made.foreground is not None  # ``applies`` said so
        return jittered_recomposition(made.foreground, made.background, draw_jitter(case.id)), case.image, None
    if measure.region == "composed":
        return _shown("composed", made), case.image, None
    if measure.region == "foreground":
        assert case.foreground is not None  # ``applies`` said so
        return _shown("foreground", made), on_colour(case.foreground), None
    target = case.background
    if target is None:
        return None
    preds = pasted(made.background, case.image, case.mask) if measure.is_pasted else made.background
    if measure.region == "composite":
        return pasted(preds, target, case.mask), target, None
    if measure.region == "box":
        box = crop_box(case.mask)
        return (preds[box.slices], target[box.slices], None) if box else None
    region = _region(measure, case)
    return (preds, target, region) if region is not None or measure.region == "whole" else None


def _recomposition(measure: Measure, case: Case, made: Decomposition) -> float:
    region = _region(measure, case)
    if region is None and measure.region != "whole":
        return math.nan
    return psnr(_recomposed(case, made), case.image, region)


def _region(measure: Measure, case: Case) -> Mask | None:
    """The pixels of a measure: the suite's own region, or one that follows from the mask."""
    if measure.region in case.regions:
        return case.regions[measure.region]
    return None if measure.region == "shadow" else region_mask(measure.region, case.mask)


def _recomposed(case: Case, made: Decomposition) -> U8:
    """The predicted layers over each other, the foreground behind what lies in front of the object.

    A background without the object still holds the occluder O, so its colour is put over the foreground's alone:
    over(O, over(F, B)) = f over(O, F's colour) + (1 - f) over(O, B), f being the alpha of F.
    """
    assert made.foreground is not None  # ``applies`` said so
    if case.occluder is None:
        return over_u8(made.foreground, made.background)
    colour = over_u8(case.occluder, np.ascontiguousarray(made.foreground[..., :3]))
    return over_u8(np.dstack([colour, made.foreground[..., 3]]), made.background)


def _foregrounds(case: Case, made: Decomposition) -> tuple[U8, U8]:
    assert made.foreground is not None  # ``applies`` said so, of the model
    assert case.foreground is not None  # and of the suite
    return made.foreground, case.foreground


def _alphas(case: Case, made: Decomposition) -> tuple[U8, U8]:
    predicted, true = _foregrounds(case, made)
    return predicted[..., 3], true[..., 3]


def _layers(case: Case, made: Decomposition) -> tuple[object, ...]:
    return (made.foreground, made.background), (case.foreground, case.background)


_ARGUMENTS: dict[tuple[str, ...], Callable[[Case, Decomposition], tuple[object, ...]]] = {
    ("preds", "target", "mask"): lambda case, made: (made.background, case.background, case.mask),
    ("alpha", "true alpha"): _alphas,
    ("foreground", "true foreground"): _foregrounds,
    ("foreground and background", "true foreground and background"): _layers,
}
