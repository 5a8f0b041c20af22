"""Losses of LayerDecomp (Yang et al. 2024, arXiv 2411.17864, equations 1 to 3) and the diffusion they are of.

Pictures are float tensors in 0..1, alpha straight; every latent has about unit variance.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ...manifests.errors import UsageError
from .codecs import Codec

_PREDICTIONS = {"epsilon": "epsilon", "velocity": "v_prediction"}
_BETAS = {"scaled_linear": (0.00085, 0.012), "linear": (0.0001, 0.02)}

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""As :meth:`LayerDecompTransformer.forward`."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a training step sees.

    Attributes:
        image: the composite, (N, 3, H, W).
        condition: latents of image and mask, (N, 2, C, h, w).
        layers: clean latents of background and foreground, (N, 2, C, h, w); (N, 1, C, h, w) for ``v0``.
        has_foreground: (N,), bool; False for a pair of photographs with and without the object, whose foreground
            nobody knows: its latent is never read.
    """

    image: Tensor
    condition: Tensor
    layers: Tensor
    has_foreground: Tensor


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """Options of the pixel consistency loss (equation 3), on which the paper is silent.

    Attributes:
        weight: of the loss beside the noise loss. The paper sums over pixels; here it is their mean, so that a weight
            holds at every size.
        rule: how a timestep counts: ``all`` alike, ``below:T`` only those less than T, or ``alpha-weighted``, by the
            share of signal in the noisy latent. The last is the default: the error of x0 grows as 1 / sqrt(alpha_t),
            so that late timesteps would outweigh all others.
        unpaired: whether it also counts where no foreground is known. The abstract gives that as its purpose; the
            foreground is then predicted from the image alone, its noisy latent being masked out.
    """

    weight: float = 1.0
    rule: str = "alpha-weighted"
    unpaired: bool = True


# ---- diffusion


def noise_schedule(name: str, prediction: str = "epsilon") -> DDIMScheduler:
    """1,000 timesteps of noise; ``name`` and ``prediction`` as in ``LayerDecompConfig``.

    The paper names DDIM alone. ``trailing`` spacing starts at the last timestep, where training saw nearly pure noise.
    """
    start, end = _BETAS[name]
    scheduler: DDIMScheduler = DDIMScheduler(
        beta_start=start,
        beta_end=end,
        beta_schedule=name,
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type=_PREDICTIONS[prediction],
    )
    return scheduler


def add_noise(clean: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """x_t = sqrt(alpha) x0 + sqrt(1 - alpha) noise, (N, ...); ``alpha`` (N,) is the cumulative product at t."""
    alpha = _spread(alpha, clean)
    return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise


def clean_estimate(noisy: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Equation 2, x0 = (x_t - sqrt(1 - alpha) noise) / sqrt(alpha), the inverse of :func:`add_noise`."""
    alpha = _spread(alpha, noisy)
    return (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()


def velocity_of(clean: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """sqrt(alpha) noise - sqrt(1 - alpha) x0, (N, ...); see ``LayerDecompConfig.prediction``."""
    alpha = _spread(alpha, clean)
    return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean


def noise_of(noisy: Tensor, velocity: Tensor, alpha: Tensor) -> Tensor:
    """The noise that a velocity stands for, sqrt(alpha) velocity + sqrt(1 - alpha) x_t."""
    alpha = _spread(alpha, noisy)
    return alpha.sqrt() * velocity + (1 - alpha).sqrt() * noisy


def _spread(alpha: Tensor, like: Tensor) -> Tensor:
    return alpha.reshape(-1, *[1] * (like.ndim - 1))


# ---- losses


def condition_of(codec: Codec, image: Tensor, mask: Tensor) -> Tensor:
    """Latents (N, 2, C, h, w) of an image (N, 3, H, W) and of its object's mask (N, 1, H, W), float 0 or 1."""
    return torch.stack([codec.encode(image), codec.encode(mask.expand_as(image))], 1)


@torch.no_grad()
def encode_batch(
    codec: Codec, image: Tensor, mask: Tensor, background: Tensor, foreground: Tensor | None, has_foreground: Tensor
) -> Batch:
    """Triplets to a :class:`Batch`.

    Args:
        codec: the frozen encoders.
        image: (N, 3, H, W).
        mask: (N, 1, H, W), float 0 or 1.
        background: (N, 3, H, W).
        foreground: (N, 4, H, W), of any content where ``has_foreground`` is False; None for ``v0``.
        has_foreground: (N,), bool.
    """
    layers = [codec.encode(background)]
    if foreground is not None:
        layers.append(codec.encode_rgba(foreground))
    condition = condition_of(codec, image, mask)
    return Batch(image=image, condition=condition, layers=torch.stack(layers, 1), has_foreground=has_foreground)


def losses(
    network: Denoiser,
    batch: Batch,
    noise: Tensor,
    timesteps: Tensor,
    alphas_cumprod: Tensor,
    *,
    codec: Codec | None = None,
    consistency: Consistency | None = None,
    prediction: str = "epsilon",
) -> dict[str, Tensor]:
    """Losses of one step by name; ``loss`` is what to minimise.

    ``background`` and ``foreground`` are the noise loss (equation 1), squared error averaged over a layer's latent and
    over the whole batch; a sample without foreground adds zero to the latter, and the network sees zeros for its noisy
    foreground. So the loss of a batch is the mean of those of its parts, however the parts are mixed.
    ``consistency`` (equation 3) comes before its weight.

    Args:
        network: predicts noise.
        batch: N samples.
        noise: standard normal, shaped as ``batch.layers``.
        timesteps: (N,), integer.
        alphas_cumprod: of the schedule, on the batch's device (:func:`noise_schedule`).
        codec: frozen decoders; needed for the consistency loss alone.
        consistency: None leaves that loss out.
        prediction: what the network gives and the first two losses compare, see ``LayerDecompConfig``.

    Raises:
        UsageError: consistency without a codec or without a foreground.
    """
    alpha = alphas_cumprod[timesteps]
    known = _known(batch)
    noisy = add_noise(batch.layers, noise, alpha)
    noisy = torch.where(known[..., None, None, None], noisy, 0)
    predicted = network(noisy, batch.condition, timesteps).float()
    target = noise if prediction == "epsilon" else velocity_of(batch.layers, noise, alpha)
    target = torch.where(known[..., None, None, None], target, 0)  # what is not known may be no number
    errors = (predicted - target).square().mean((2, 3, 4)) * known
    parts = dict(zip(("background", "foreground"), errors.mean(0), strict=False))
    total = errors.mean(0).sum()
    if consistency:
        if codec is None or batch.layers.shape[1] == 1:
            raise UsageError("the consistency loss needs decoders and a foreground; leave it out for v0")
        weights = timestep_weights(consistency.rule, timesteps, alphas_cumprod)
        weights = weights if consistency.unpaired else weights * batch.has_foreground
        parts["consistency"] = consistency_loss(
            codec, batch.image, _estimate(noisy, predicted, alpha, prediction), weights
        )
        total = total + consistency.weight * parts["consistency"]
    return parts | {"loss": total}


def _estimate(noisy: Tensor, predicted: Tensor, alpha: Tensor, prediction: str) -> Tensor:
    noise = predicted if prediction == "epsilon" else noise_of(noisy, predicted, alpha)
    return clean_estimate(noisy, noise, alpha)


def _known(batch: Batch) -> Tensor:
    """Which layers have a truth, (N, layers), bool."""
    known = torch.ones(batch.layers.shape[:2], dtype=torch.bool, device=batch.layers.device)
    known[:, 1:] = batch.has_foreground[:, None]
    return known


def timestep_weights(rule: str, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Weights (N,) in 0..1 of the samples in the consistency loss; see :class:`Consistency`.

    Raises:
        UsageError: no such rule.
    """
    match rule.split(":"):
        case ["all"]:
            return torch.ones_like(alphas_cumprod[timesteps])
        case ["below", limit] if limit.isdecimal():
            return (timesteps < int(limit)).to(alphas_cumprod.dtype)
        case ["alpha-weighted"]:
            return alphas_cumprod[timesteps]
    raise UsageError(f"the timestep rule is all, below:T (T an integer) or alpha-weighted, got {rule!r}")


def consistency_loss(codec: Codec, image: Tensor, layers: Tensor, weights: Tensor) -> Tensor:
    """Equation 3: mean absolute difference of the image and its recomposition from estimated layers.

    Samples of weight zero are not decoded.

    Args:
        codec: frozen decoders; the gradient goes through them.
        image: (N, 3, H, W).
        layers: clean latents of background and foreground, (N, 2, C, h, w).
        weights: (N,).

    Returns:
        The weighted sum over samples, divided by N; a scalar.
    """
    counted: Tensor | slice = (
        weights > 0 if not weights.is_meta else slice(None)
    )  # nothing can be asked of meta tensors
    if isinstance(counted, Tensor) and not counted.any():
        return layers.sum() * 0  # a zero that still has a gradient, for all ranks to go backward alike
    background, foreground = layers[counted].unbind(1)
    composite = over(codec.decode_rgba(foreground), codec.decode(background))
    differences = (image[counted] - composite).abs().mean((1, 2, 3))
    return (weights[counted] * differences).sum() / len(weights)


def over(foreground: Tensor, background: Tensor) -> Tensor:
    """A straight (N, 4, H, W) over an opaque (N, 3, H, W)."""
    alpha = foreground[:, 3:]
    return alpha * foreground[:, :3] + (1 - alpha) * background
