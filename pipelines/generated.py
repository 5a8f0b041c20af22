"""What a model draws of a prompt: a cut-out as an asset, or a picture in layers.

The seed is the prompt's own, or follows from its text, so all recipes share the result.
"""

import numpy as np

from ..manifests.errors import BadImage, UsageError
from ..manifests.prompts import Prompt, parse_prompt
from ..toolkit import compose, matte
from .assets import Made, Photo, apart, asset_of, seed_of_input
from .loaders import cutout_generator, layered_generator


def generated_asset(photo: Photo) -> Made:
    """A cut-out that a model makes of a prompt."""
    prompt, seed = _asked(photo)
    picture = cutout_generator(photo.options.generator, photo.weights)(prompt.prompt, seed, prompt.negative)
    return asset_of(picture[..., :3], matte.clean_alpha(picture[..., 3]), photo.size, picture)


def generated_layers(photo: Photo) -> Made:
    """Layers that a model draws of a prompt; the picture is the model's own blend, or the layers composed.

    Raises:
        UsageError: the generator draws cut-outs alone.
        BadImage: ``no_object``.
    """
    prompt, seed = _asked(photo)
    generator = layered_generator(photo.options.generator, photo.weights)
    if not generator.has_background:
        raise UsageError(f"cut.generator: expected one that draws a background too, got {generator.name}")
    (made,) = generator([prompt], [seed])
    alpha = matte.clean_alpha(made.foreground[..., 3])
    if not (alpha > 127).any():
        raise BadImage("no_object", f"{generator.name} drew no object of {prompt.prompt!r}")
    foreground, background = np.dstack([made.foreground[..., :3] * (alpha > 0)[..., None], alpha]), made.background
    assert background is not None  # the door has checked it
    picture = compose.over_u8(foreground, background) if made.blend is None else made.blend
    return apart(photo, picture, foreground, background, alpha > 0)


def _asked(photo: Photo) -> tuple[Prompt, int]:
    prompt = parse_prompt(photo.data)
    return prompt, seed_of_input(photo.data) if prompt.seed is None else prompt.seed
