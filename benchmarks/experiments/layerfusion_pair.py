"""What LayerDiffuse is to SDXL, small: a network of rendered scenes, and attention of its own for objects on grey.

Scenes of 32 px, 2 x 2 pixels for a latent's place, and texts of an object's kind and the ground. A text encoder of one
causal layer is learnt with the network, so that the end-of-text token sums up the text as CLIP's does; then the
attention weights alone learn the objects composited on mid grey. See ``layerfusion_masks``.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from layerkit.toolkit.procedural.scene import render_worlds
from layerkit.toolkit.procedural.world import SceneOptions, draw_world

SIDE, GRID, WIDTH, LENGTH, BATCH = 32, 16, 64, 6, 16
KINDS = ("sphere", "box", "cylinder", "cone", "capsule", "torus")
BOS, EOS, GROUND = len(KINDS), len(KINDS) + 1, len(KINDS) + 2
SCENES = SceneOptions(
    solids=(1, 1), extent=(0.18, 0.32), kinds=KINDS, textures=("plain", "noise"), translucent=0.0, light=16
)
TRAINED = 4000

_SHARP = 3.0


# ---- data


class Scenes(NamedTuple):
    """Rendered scenes, (B, channels, H, W), colour in -1..1: with the object, without, the object on grey, alpha."""

    image: Tensor
    background: Tensor
    on_grey: Tensor
    alpha: Tensor
    kind: Tensor


def scenes(seeds: Iterable[int], side: int = SIDE) -> Scenes:
    """Scenes of an object each that covers between a fiftieth and a half of the picture, ``side`` px wide and high."""
    worlds = [world for seed in seeds if len((world := draw_world(seed, SCENES)).solids) == 1]
    scene = render_worlds(worlds, side, options=SCENES)
    whole, alpha = scene.triplets([0] * len(worlds)), scene.alpha[:, :1]
    kind = torch.tensor([KINDS.index(world.solids[0].kind) for world in worlds])
    kept = ((area := alpha.mean((1, 2, 3))) > 0.02) & (area < 0.5)
    on_grey = (scene.colour[:, 0] * 2 - 1) * alpha
    made = (whole.image * 2 - 1, whole.background * 2 - 1, on_grey, alpha, kind)
    return Scenes(*(each[kept] for each in made))


def tokens(kind: Tensor, words: str) -> Tensor:
    """Texts (B, 6) of the ``kind``, the ``ground``, ``both`` or nothing, between the two ends; padded as CLIP pads."""
    told = {"kind": [kind], "ground": [GROUND], "both": [kind, GROUND], "": []}[words]
    columns = [BOS, *told, *[EOS] * (LENGTH - 1 - len(told))]
    return torch.stack([torch.as_tensor(one).expand(len(kind)) for one in columns], 1)


# ---- networks


class Pair(nn.Module):
    """A UNet with its text encoder; ``own`` holds what the foreground's attention learnt instead."""

    def __init__(self) -> None:
        super().__init__()
        from diffusers import UNet2DConditionModel

        self.words, self.places = nn.Embedding(EOS + 2, WIDTH), nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.1)
        self.reader = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(WIDTH)
        self.unet: Any = UNet2DConditionModel(
            sample_size=GRID,
            in_channels=12,
            out_channels=12,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2,
            attention_head_dim=4,  # heads, as diffusers reads it
            cross_attention_dim=WIDTH,
            norm_num_groups=8,
            use_linear_projection=True,
        )
        self.own: dict[str, Tensor] = {}
        _sharpen(self.unet)

    def read(self, texts: Tensor) -> Tensor:
        """Texts (B, 6) as states (B, 6, width), each token seeing those before it."""
        causal = nn.Transformer.generate_square_subsequent_mask(LENGTH)
        states: Tensor = self.norm(self.reader(self.words(texts) + self.places, src_mask=causal, is_causal=True))
        return states


@torch.no_grad()
def _sharpen(unet: nn.Module) -> None:
    """Begin with attention to what is alike: with random queries and keys a short training leaves it even."""
    for name, module in unet.named_modules():
        if name.endswith(".attn1"):
            module.to_q.weight.mul_(_SHARP)
            module.to_k.weight.copy_(module.to_q.weight)
        elif name.endswith(".attn2"):
            module.to_q.weight.mul_(_SHARP)
            module.to_k.weight.mul_(_SHARP)


def latent(pictures: Tensor) -> Tensor:
    """(B, 3, 32, 32) as (B, 12, 16, 16)."""
    return functional.pixel_unshuffle(pictures, 2)


def scheduler() -> Any:
    """DDIM on the cosine schedule; the networks guess the clean picture, which a short training learns best."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample")


def train(parameters: list[nn.Parameter], loss: Callable[[torch.Generator], Tensor], steps: int, rate: float) -> None:
    """AdamW with a rate that falls to zero by a cosine."""
    optimizer = torch.optim.AdamW(parameters, lr=rate)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.05)
    draws = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(draws).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        falling.step()


def denoising_loss(pair: Pair, clean: Tensor, texts: Tensor, draws: torch.Generator) -> Tensor:
    """The mean square of the clean picture's error, mirrored at random, one text of ten left out."""
    noises = scheduler()
    flipped = torch.rand(len(clean), 1, 1, 1, generator=draws) < 0.5
    clean = latent(torch.where(flipped, clean.flip(3), clean))
    dropped = torch.rand(len(clean), 1, generator=draws) < 0.1
    texts = torch.where(dropped, tokens(texts[:, 0], ""), texts)
    noise = torch.randn(clean.shape, generator=draws)
    t = torch.randint(0, 1000, (len(clean),), generator=draws)
    guess = pair.unet(noises.add_noise(clean, noise, t), t, pair.read(texts)).sample
    return functional.mse_loss(guess, clean)


def scene_loss(pair: Pair, data: Scenes, draws: torch.Generator) -> Tensor:
    """A quarter of a batch shows the ground alone; of the rest half the texts leave the ground out."""
    some = torch.randint(0, len(data.kind), (BATCH,), generator=draws)
    kind, empty = data.kind[some], torch.rand(BATCH, 1, generator=draws) < 0.25
    brief = torch.rand(BATCH, 1, generator=draws) < 0.5
    texts = torch.where(brief, tokens(kind, "kind"), tokens(kind, "both"))
    clean = torch.where(empty[..., None, None], data.background[some], data.image[some])
    return denoising_loss(pair, clean, torch.where(empty, tokens(kind, "ground"), texts), draws)


def object_loss(pair: Pair, data: Scenes, draws: torch.Generator) -> Tensor:
    """Objects on grey, by their kind."""
    some = torch.randint(0, len(data.kind), (BATCH,), generator=draws)
    return denoising_loss(pair, data.on_grey[some], tokens(data.kind[some], "kind"), draws)


def trained(seed: int, out: Path, steps: int, own_steps: int) -> Pair:
    """A pair, read from its file if it is there: the network of scenes, and ``own`` of objects."""
    torch.manual_seed(seed)
    pair, path = Pair(), out / f"pair-{seed}-{steps}-{own_steps}.pt"
    if not path.is_file():
        data = scenes(range(seed * 100_000, seed * 100_000 + TRAINED))
        train(list(pair.parameters()), lambda draws: scene_loss(pair, data, draws), steps, 1e-3)
        base = {name: weight.clone() for name, weight in pair.state_dict().items()}
        pair.requires_grad_(False)
        attention = {name: weight for name, weight in pair.unet.named_parameters() if ".attn" in name}
        for weight in attention.values():
            weight.requires_grad_(True)
        train(list(attention.values()), lambda draws: object_loss(pair, data, draws), own_steps, 1e-3)
        torch.save({"base": base, "own": {name: weight.detach() for name, weight in attention.items()}}, path)
    kept = torch.load(path, weights_only=True)
    pair.load_state_dict(kept["base"])
    pair.own = kept["own"]
    return pair.requires_grad_(False).eval()
