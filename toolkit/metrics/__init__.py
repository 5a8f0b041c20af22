"""The metrics of layer decomposition and object removal: pure functions on arrays, and the table of their names.

A value is only comparable with values of the same metric, variant and region, so a report always prints the three.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, Literal

from ...manifests.errors import UsageError


@dataclass(frozen=True, slots=True)
class Variant:
    """One exact definition of a metric.

    Attributes:
        about: what sets it apart.
        function: ``module:name`` in this package; of LPIPS, which has a network, the function that loads it.
        options: keyword arguments that make the function this variant.
        features: for distributions, the recipe of ``features.RECIPES``, or ``clip`` for CLIP's vectors.
        weights: names in the weights table without which it is skipped.
    """

    about: str
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    features: str = ""
    weights: tuple[str, ...] = ()

    def load(self) -> Callable[..., Any]:
        """Import the function, its options filled in."""
        module, _, name = self.function.partition(":")
        function: Callable[..., Any] = getattr(import_module(f".{module}", __package__), name)
        return partial(function, **self.options) if self.options else function


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row of the table.

    Attributes:
        about: what it measures, in one line.
        kind: ``per-image`` gives a value a sample, ``distribution`` one for the set.
        higher_is_better: the direction.
        compares: what the function takes, in this order, prediction before truth.
        regions: names of ``regions.REGIONS`` over which it may be taken; empty where no region applies.
        variants: by name; the first is the default.
    """

    about: str
    kind: Literal["per-image", "distribution"] = "per-image"
    higher_is_better: bool = False
    compares: tuple[str, ...] = ("preds", "target")
    regions: tuple[str, ...] = ()
    variants: Mapping[str, Variant]


_PIXEL = ("whole", "mask", "outside", "shadow", "box", "composite")
_SETS = ("whole", "composite", "composed", "foreground")
_ALPHAS = ("alpha", "true alpha")
_LAYERS = ("foreground and background", "true foreground and background")
_TORCHSCRIPT, _IMAGENET = ("inception-torchscript",), ("inception-imagenet",)
_FEATURES = {
    "clean-fid": ("clean-fid's bicubic resize", "inception-torchscript"),
    "torch-fidelity": ("torch-fidelity's resize of TensorFlow 1", "inception-fid"),
    "torchmetrics": ("torchmetrics' antialiased bilinear resize", "inception-fid"),
    "first-pool": ("64 features of the first pooling, LayerFusion's FID", "inception-fid"),
    "asuka": ("torchvision's ImageNet network, ASUKA's", "inception-imagenet"),
    "clip": ("CLIP ViT-B/32, clean-fid's CLIP-FID", "clip-vit-b-32"),
}


def _of_features(function: str, names: Iterable[str] = tuple(_FEATURES)) -> dict[str, Variant]:
    return {name: Variant(_FEATURES[name][0], function, {}, name, _FEATURES[name][1:]) for name in names}


def _ids(function: str) -> dict[str, Variant]:
    return {
        "in-sample": Variant(
            "fit and scored on the same samples, as published", function, {}, "clean-fid", _TORCHSCRIPT
        ),
        "cross-validated": Variant("5 folds", function, {"folds": 5}, "clean-fid", _TORCHSCRIPT),
        "asuka": Variant("in-sample, PCA to 512, ImageNet network", function, {"components": 512}, "asuka", _IMAGENET),
        "asuka-1024": Variant("the same, PCA to 1024, of 1024 px", function, {"components": 1024}, "asuka", _IMAGENET),
    }


METRICS: dict[str, Metric] = {
    "psnr": Metric(
        about="peak signal-to-noise ratio, dB, mean over pictures",
        higher_is_better=True,
        regions=_PIXEL,
        variants={
            "area": Variant("error by the region's area", "pixels:psnr"),
            "all-pixels": Variant("both zero outside the mask, LayerDecomp's PSNRm", "pixels:psnr_all_pixels"),
        },
    ),
    "rmse": Metric(
        about="root mean squared error, levels of 255",
        regions=_PIXEL,
        variants={"area": Variant("error by the region's area", "pixels:rmse")},
    ),
    "ssim": Metric(
        about="structural similarity, mean over colour channels",
        higher_is_better=True,
        regions=_PIXEL,
        variants={
            "gaussian": Variant("11 px Gaussian window of sigma 1.5 (Wang et al.)", "pixels:ssim"),
            "uniform": Variant("7 px uniform window, scikit-image's default", "pixels:ssim", {"window": "uniform"}),
            "grey": Variant("the same on grey pictures, ASUKA's", "pixels:ssim", {"window": "uniform", "grey": True}),
        },
    ),
    "lpips": Metric(
        about="learned perceptual distance, version 0.1",
        regions=("whole", "mask", "box", "composite"),
        variants={
            "alex": Variant("AlexNet", "perceptual:load_lpips", {"net": "alex"}, weights=("alexnet",)),
            "vgg": Variant("VGG-16", "perceptual:load_lpips", {"net": "vgg"}, weights=("vgg16",)),
            "squeeze": Variant("SqueezeNet 1.1", "perceptual:load_lpips", {"net": "squeeze"}, weights=("squeezenet",)),
        },
    ),
    "edge-gradient": Metric(
        about="gradient difference on the mask's border, levels (ASUKA's Grad)",
        compares=("preds", "target", "mask"),
        variants={"asuka": Variant("pasted back, Sobel on the mask's Canny edge", "seams:edge_gradient")},
    ),
    "fid": Metric(
        about="Fréchet distance of Inception features",
        kind="distribution",
        regions=_SETS,
        variants=_of_features("distributions:fid"),
    ),
    "kid": Metric(
        about="kernel distance of Inception features, unbiased; may be negative",
        kind="distribution",
        regions=_SETS,
        variants=_of_features("distributions:kid")
        | {
            "subsets": Variant(
                "100 random subsets of up to 1000, clean-fid's features and draws",
                "distributions:kid_subsets",
                features="clean-fid",
                weights=_TORCHSCRIPT,
            )
        },
    ),
    "u-ids": Metric(
        about="error of a linear SVM that tells predictions from targets, at most 0.5",
        kind="distribution",
        higher_is_better=True,
        regions=_SETS,
        variants=_ids("distributions:u_ids"),
    ),
    "p-ids": Metric(
        about="share of predictions that look more real than their targets to a linear SVM",
        kind="distribution",
        higher_is_better=True,
        regions=_SETS,
        variants=_ids("distributions:p_ids"),
    ),
    "clip-score": Metric(
        about="100 times the cosine of CLIP's vectors of picture and caption",
        higher_is_better=True,
        compares=("image vectors", "text vectors"),
        regions=("whole", "composed", "foreground"),
        variants={
            "vit-l-14": Variant("openai ViT-L/14", "clip:clip_scores", weights=("clip-vit-l-14",)),
            "vit-bigg-14": Variant(
                "LAION ViT-bigG/14, LayerFusion's", "clip:clip_scores", weights=("clip-vit-bigg-14",)
            ),
        },
    ),
    "clip-image": Metric(
        about="100 times the cosine of CLIP's vectors of prediction and target",
        higher_is_better=True,
        compares=("image vectors", "true image vectors"),
        regions=_SETS,
        variants={"vit-l-14": Variant("openai ViT-L/14", "clip:clip_scores", weights=("clip-vit-l-14",))},
    ),
    "iou": Metric(
        about="intersection over union of alphas",
        higher_is_better=True,
        compares=_ALPHAS,
        variants={
            "soft": Variant("sum of minima by sum of maxima, LayerD's", "masks:soft_iou"),
            "hard": Variant("at alpha 0.5", "masks:hard_iou"),
        },
    ),
    "mask-iou": Metric(
        about="intersection over union of the drawn alpha and a mask of the drawn picture, both at a half",
        higher_is_better=True,
        compares=("alpha", "salient mask"),
        variants={
            "birefnet": Variant(
                "BiRefNet's saliency of the layers put together", "masks:hard_iou", weights=("birefnet",)
            ),
            "spectral": Variant("the spectral residual of them, which needs no weights", "masks:hard_iou"),
            "human": Variant("masks that people drew on them, of --root human-masks", "masks:hard_iou"),
        },
    ),
    "users": Metric(
        about="share of the votes of people that fell on the model, mean over cases",
        higher_is_better=True,
        compares=("votes",),
        variants={
            "quality": Variant("for the best picture", "votes:share"),
            "consistency": Variant("for the one most consistent with the scene", "votes:share"),
        },
    ),
    "ber": Metric(
        about="balanced error rate of shadow masks",
        compares=("mask", "true mask"),
        variants={
            "global": Variant("over the picture", "masks:ber"),
            "local": Variant("inside the true shadow", "masks:miss_rate"),
        },
    ),
    "sad": Metric(
        about="sum of absolute differences of alphas, thousands",
        compares=_ALPHAS,
        variants={"mmagic": Variant("all pixels, known ones forced", "matting:sad")},
    ),
    "matting-mse": Metric(
        about="mean squared error of alphas in 0..1",
        compares=_ALPHAS,
        variants={"mmagic": Variant("by the number of unknown pixels", "matting:matting_mse")},
    ),
    "gradient": Metric(
        about="gradient error of alphas, thousands",
        compares=_ALPHAS,
        variants={"mmagic": Variant("Gaussian derivatives of sigma 1.4", "matting:gradient_error")},
    ),
    "connectivity": Metric(
        about="connectivity error of alphas, thousands",
        compares=_ALPHAS,
        variants={"mmagic": Variant("steps of 0.1", "matting:connectivity_error")},
    ),
    "recomposition-psnr": Metric(
        about="PSNR of foreground over background against the image, dB",
        higher_is_better=True,
        compares=("foreground", "background", "image"),
        regions=("whole", "mask", "outside", "shadow"),
        variants={"area": Variant("error by the region's area", "layering:recomposition_psnr")},
    ),
    "jitter-fid": Metric(
        about="FID of moved foregrounds on their backgrounds, the same moves for every model (LayerDecomp)",
        kind="distribution",
        variants=_of_features("distributions:fid", ("clean-fid", "clip")),
    ),
    "colour-error": Metric(
        about="difference of foreground colours, levels of 255",
        compares=("foreground", "true foreground"),
        variants={
            "common": Variant("weighted by the smaller alpha", "layering:colour_error"),
            "premultiplied": Variant("colours times alphas where either is visible", "layering:premultiplied_error"),
        },
    ),
    "layer-distance": Metric(
        about="LayerD's distance of two layers, 0..1",
        compares=_LAYERS,
        variants={"layerd": Variant("mean of (L1 + 1 - soft IoU)/2", "layering:layer_distance")},
    ),
}


def find(metric: str, variant: str | None = None) -> tuple[Metric, Variant]:
    """The row of a metric and one of its variants, by default the first.

    Raises:
        UsageError: no such metric or variant; lists what there is.
    """
    row = METRICS.get(metric)
    if row is None:
        raise UsageError(f"expected a metric ({', '.join(METRICS)}), got {metric!r}")
    name = variant or next(iter(row.variants))
    if name not in row.variants:
        raise UsageError(f"expected a variant of {metric} ({', '.join(row.variants)}), got {name!r}")
    return row, row.variants[name]
