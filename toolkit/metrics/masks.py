"""Metrics of masks and soft mattes: intersection over union, and the balanced error rate."""

import math

import numpy as np

from .checks import U8, Bool, require_mask, require_mattes


def hard_iou(preds: U8, target: U8) -> float:
    """|P ∩ G| / |P ∪ G| of two 8-bit (H, W) mattes at alpha ≥ 0.5; NaN where both are empty."""
    require_mattes(preds, target)
    first, second = preds > 127, target > 127
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else math.nan


def soft_iou(preds: U8, target: U8) -> float:
    """Σ min(a, b) / Σ max(a, b) of two 8-bit (H, W) mattes, as LayerD has it; NaN where both are empty.

    A matte scores 1 against itself; the product form Σ ab / Σ (a + b - ab) does not.
    """
    require_mattes(preds, target)
    union = int(np.maximum(preds, target).sum(dtype=np.int64))
    return int(np.minimum(preds, target).sum(dtype=np.int64)) / union if union else math.nan


def ber(preds: Bool, target: Bool) -> float:
    """Balanced error rate 1 - (TP/P + TN/N)/2 in 0..1 of two bool (H, W) masks: DESOBAv2's global BER.

    NaN where the target has no positive or no negative pixel.
    """
    return (miss_rate(preds, target) + miss_rate(~preds, ~target)) / 2


def miss_rate(preds: Bool, target: Bool) -> float:
    """1 - TP/P in 0..1 of two bool (H, W) masks: DESOBAv2's local BER, in the true shadow. NaN without positives."""
    require_mask(preds, target, "preds")
    require_mask(target, preds, "target")
    positives = np.count_nonzero(target)
    return np.count_nonzero(~preds & target) / positives if positives else math.nan
