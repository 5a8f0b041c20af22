"""Route ``paste``: RGBA assets on a background photograph, with the shadows that one light throws.

Objects stand on the ground in the order of their feet: who stands lower in the picture is nearer and may hide others.
One of them is the foreground; those behind it belong to the background, those in front to the occluder.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..manifests.record import Origin
from ..toolkit import compose, harmonise, matte, shadow
from ..toolkit.layers import Layers, joint_alpha, visible_mask
from ..toolkit.saliency import SaliencyModel, agreement
from ..toolkit.shards import Members
from .candidate import Candidate, models_of, name_of, origin_of
from .filters import Drop
from .pools import Pool, Stock
from .prepare import Prepared
from .recipe import Mix, Placement, Recipe

U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an object is drawn: size and upper left corner in px, mirrored or not."""

    height: int
    width: int
    top: int
    left: int
    mirror: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Actor:
    """One object of a scene before it is placed.

    Attributes:
        row: what it is.
        exact: premultiplied, see :func:`~layerkit.toolkit.compose.premultiply_exact`, turned.
        angle: by which it was turned counter-clockwise, degrees.
        harmonise: strength of the colour transfer from the background.
    """

    row: Prepared
    exact: NDArray[np.uint16]
    angle: float
    harmonise: float


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One object on the canvas, 8-bit: colour (S, S, 3), alpha (S, S), shadow (S, S), and the box that holds them."""

    colour: U8
    alpha: U8
    shadow: U8
    box: matte.Box

    def layer(self) -> U8:
        """The object with its shadow, straight (S, S, 4)."""
        out = np.zeros((*self.alpha.shape, 4), np.uint8)
        region = self.box.slices
        out[region] = compose.fold_shadow_u8(self.colour[region], self.alpha[region], self.shadow[region])
        return out


def paste(recipe: Recipe, mix: Mix, stock: Stock, rng: np.random.Generator) -> Candidate | Drop:
    """Draw one candidate.

    Returns:
        The candidate, or a drop ``placement`` where no placement within the limits was found.
    """
    scene = stock.pools["background"][stock.pools["background"].draw(rng)]
    plate, crop, ground = _crop_background(
        stock.pixels.of(scene)["background"], scene.ground, recipe.size, mix.placement, rng
    )
    actors = [_actor(row, mix, stock, rng) for row in _choose(stock.pools["foreground"], mix.objects, rng)]
    placed = _place([actor.exact[..., 3] for actor in actors], recipe.size, ground, mix.placement, rng)
    if placed is None:
        return Drop("placement", len(actors), mix.placement.tries, "no placement within the limits was found")
    order = sorted(range(len(actors)), key=lambda k: placed[k].top + placed[k].height)
    target = int(rng.integers(len(actors)))
    light = shadow.draw_light(rng, mix.shadow)
    actors, places = [actors[k] for k in order], [placed[k] for k in order]
    rows = [actor.row for actor in actors]
    drawn = _draw(actors, places, plate, light)
    layers, background, error = _assemble(drawn, target, plate, recipe.members)
    return Candidate(
        layers=layers,
        background=background,
        composite_error=error,
        name=name_of(rows[target], scene),
        caption=f"{rows[target].caption}; {scene.caption}".strip("; "),
        objects=len(rows),
        origins=_origins(rows, target, scene),
        models=models_of({"foreground": rows[target], "background": scene}),
        scores=_scores(layers, places[target], rows[target], stock.saliency) | {"recomposition": error},
        choices={
            "crop": crop,
            "light": asdict(light) if light else {},
            "objects": [
                {"id": actor.row.id, **asdict(place), "angle": actor.angle, "harmonise": actor.harmonise}
                for actor, place in zip(actors, places, strict=True)
            ],
            "target": target,
        },
    )


def _choose(pool: Pool, count: tuple[int, int], rng: np.random.Generator) -> list[Prepared]:
    """Distinct foregrounds; fewer than drawn where the pool is small."""
    number = min(len(pool), int(rng.integers(count[0], count[1] + 1)))
    chosen: dict[int, None] = {}
    while len(chosen) < number:
        chosen[pool.draw(rng)] = None
    return [pool[k] for k in chosen]


def _actor(row: Prepared, mix: Mix, stock: Stock, rng: np.random.Generator) -> Actor:
    exact = stock.pixels.of(row)["premultiplied"]
    angle = rng.uniform(-mix.placement.rotate, mix.placement.rotate) if mix.placement.rotate else 0.0
    strength = rng.uniform(*mix.harmonise) if mix.harmonise[1] else 0.0
    return Actor(row=row, exact=compose.turn(exact, angle) if angle else exact, angle=angle, harmonise=strength)


def _crop_background(
    picture: U8, ground: float, size: int, placement: Placement, rng: np.random.Generator
) -> tuple[U8, dict[str, int | bool], float]:
    """A random square of the photograph, resized; the crop; and where the ground begins, as a share of the canvas."""
    height, width = picture.shape[:2]
    least = min(height, width, max(size, int(0.7 * min(height, width))))
    side = int(rng.integers(least, min(height, width) + 1))
    top = int(rng.integers(height - side + 1))
    left = int(rng.integers(width - side + 1))
    mirror = bool(rng.random() < placement.mirror)
    plate = compose.resize(picture[top : top + side, left : left + side], (size, size))
    if mirror:
        plate = plate[:, ::-1]
    begins = float(np.clip((ground * height - top) / side, 0, 0.95))
    crop = {"top": top, "left": left, "side": side, "mirror": mirror}
    return np.ascontiguousarray(plate), crop, begins


def _place(
    alphas: Sequence[NDArray[np.uint16]], size: int, ground: float, placement: Placement, rng: np.random.Generator
) -> list[Place] | None:
    """Places for all objects, given by 255 times their alpha, that keep to the limits, or None after ``tries``."""
    for _ in range(placement.tries):
        places = [_draw_place(alpha.shape, size, ground, placement, rng) for alpha in alphas]
        if _hidden(alphas, places, size) <= placement.overlap:
            return places
    return None


def _draw_place(
    shape: tuple[int, ...], size: int, ground: float, placement: Placement, rng: np.random.Generator
) -> Place:
    """An object stands with its foot on the ground of the canvas; at the sides it may be cut off."""
    longer = max(shape)
    factor = min(rng.uniform(*placement.scale) * size / longer, placement.enlarge)
    height, width = max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))
    slack = (1 - placement.inside) / 2
    left = rng.uniform(-slack * width, max(size - (1 - slack) * width, -slack * width))
    foot = rng.uniform(min(max(ground * size, height), 0.97 * size), 0.97 * size)
    mirror = bool(rng.random() < placement.mirror)
    return Place(height=height, width=width, top=round(foot) - height, left=round(left), mirror=mirror)


def _hidden(alphas: Sequence[NDArray[np.uint16]], places: Sequence[Place], size: int, scale: int = 8) -> float:
    """Largest share of any object that those in front of it hide, measured on an eighth of the canvas."""
    if len(places) == 1:
        return 0.0
    order = sorted(range(len(places)), key=lambda k: places[k].top + places[k].height)
    small = [_thumbnail(alphas[k], places[k], size, scale) for k in order]
    return max(_share(mask, np.logical_or.reduce(small[k + 1 :])) for k, mask in enumerate(small[:-1]))


def _share(mask: NDArray[np.bool_], front: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(mask & front)) / max(1, int(np.count_nonzero(mask)))


def _thumbnail(alpha: NDArray[np.uint16], place: Place, size: int, scale: int) -> NDArray[np.bool_]:
    canvas = np.zeros((size // scale + 1, size // scale + 1), bool)
    rows = np.arange(max(0, -(-place.top // scale)), min(size, place.top + place.height) // scale)
    columns = np.arange(max(0, -(-place.left // scale)), min(size, place.left + place.width) // scale)
    if rows.size and columns.size:
        y = (rows * scale - place.top) * alpha.shape[0] // place.height
        x = (columns * scale - place.left) * alpha.shape[1] // place.width
        x = alpha.shape[1] - 1 - x if place.mirror else x
        canvas[np.ix_(rows, columns)] = alpha[np.ix_(y, x)] > 127 * 255
    return canvas


def _draw(actors: Sequence[Actor], places: Sequence[Place], plate: U8, light: shadow.Light | None) -> list[Drawn]:
    """Objects on the canvas, back to front.

    The ground behind an object is hidden by it, and the shadow of another lies on that ground: so a shadow is taken
    away wherever an object that stands farther back covers the ground.
    """
    drawn: list[Drawn] = []
    size = len(plate)
    for actor, place in zip(actors, places, strict=True):
        colour, alpha = _on_canvas(actor.exact, place, size)
        if actor.harmonise:
            colour = harmonise.transfer_colour(colour, alpha, plate, actor.harmonise)
        shade = np.zeros((size, size), np.uint8)
        if light is not None:
            cast = shadow.cast_shadow(alpha, light, stance="lying" if actor.row.stance == "lying" else "standing")
            shade = np.rint(cast * 255).astype(np.uint8)
            for farther in drawn:
                region = farther.box.slices
                clear = 255 - farther.alpha[region].astype(np.float32)
                shade[region] = np.rint(shade[region] * clear / 255)
        left, top, width, height = cv2.boundingRect(cv2.max(alpha, shade))
        drawn.append(Drawn(colour, alpha, shade, matte.Box(top, left, top + height, left + width)))
    return drawn


def _on_canvas(cutout: NDArray[np.uint16], place: Place, size: int) -> tuple[U8, U8]:
    resized = compose.resize_premultiplied(cutout, (place.height, place.width))
    if place.mirror:
        resized = resized[:, ::-1]
    top, left = max(0, place.top), max(0, place.left)
    bottom, right = min(size, place.top + place.height), min(size, place.left + place.width)
    part = resized[top - place.top : bottom - place.top, left - place.left : right - place.left]
    colour, alpha = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    colour[top:bottom, left:right] = part[..., :3]
    alpha[top:bottom, left:right] = part[..., 3]
    return colour, alpha


def _assemble(drawn: Sequence[Drawn], target: int, plate: U8, members: Members) -> tuple[Layers, bytes, float]:
    """Layers as written, the background's bytes, and the distance to the float composite."""
    for farther in drawn[:target]:
        plate = compose.over_u8(farther.layer(), plate)
    data, plate = members.encode_background(plate)
    front = drawn[target + 1 :]
    foreground = drawn[target].layer()
    occluder = reduce(lambda below, one: compose.over_rgba_u8(one.layer(), below), front, np.zeros_like(foreground))
    layers = Layers(
        image=compose.recompose(foreground, plate, occluder),
        foreground=foreground,
        background=plate,
        mask=visible_mask(drawn[target].alpha, joint_alpha([one.alpha for one in front], foreground.shape[:2])),
        shadow=drawn[target].shadow,
        occluder=occluder,
    )
    return layers, data, _composite_error(layers, drawn[target:])


def _composite_error(layers: Layers, drawn: Sequence[Drawn]) -> float:
    """Largest distance, in levels, of the written image to the triplet equation in float, object over object."""
    box = matte.Box(
        min(one.box.top for one in drawn),
        min(one.box.left for one in drawn),
        max(one.box.bottom for one in drawn),
        max(one.box.right for one in drawn),
    )
    region = box.slices
    exact: NDArray[Any] = layers.background[region].astype(np.float32)
    for one in drawn if exact.size else ():
        alpha = one.alpha[region].astype(np.float32) / 255
        clear = (1 - alpha) * (1 - one.shadow[region].astype(np.float32) / 255)
        lit = cv2.multiply(np.ascontiguousarray(one.colour[region]), cv2.merge([alpha] * 3), dtype=cv2.CV_32F)
        exact = cv2.add(lit, cv2.multiply(exact, cv2.merge([clear] * 3)))
    return float(cv2.norm(exact, layers.image[region].astype(np.float32), cv2.NORM_INF)) if exact.size else 0.0


def _scores(layers: Layers, place: Place, row: Prepared, model: SaliencyModel) -> dict[str, float]:
    mask = layers.mask > 0
    iou, contrast = agreement(model(layers.image), mask)
    top, bottom = max(0, place.top), min(mask.shape[0], place.top + place.height)
    left, right = max(0, place.left), min(mask.shape[1], place.left + place.width)
    return {
        **row.scores,
        "outside": 1 - (bottom - top) * (right - left) / (place.height * place.width),
        "area": np.count_nonzero(mask) / mask.size,
        "fragments": matte.fragments(mask),
        "saliency_iou": iou,
        "saliency_contrast": contrast,
    }


def _origins(rows: Sequence[Prepared], target: int, scene: Prepared) -> tuple[Origin, ...]:
    """Foreground and background first, then the other objects from back to front."""
    others = [origin_of(row, "behind" if k < target else "occluder") for k, row in enumerate(rows) if k != target]
    return (origin_of(rows[target], "foreground"), origin_of(scene, "background"), *others)
