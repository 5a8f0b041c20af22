"""Worlds of solids on a ground plane, drawn from a seed: what stands where, how it is lit and who looks at it.

The ground is z = 0, x points to the right and y away from the viewer; lengths are in units of the camera's distance
over six. A solid is one of :data:`KINDS` in its own coordinates, within the cube -1..1, stretched, turned and moved.
Nothing here knows pixels; :mod:`.procedural` renders.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import UsageError
from ..shadow import Light, ShadowOptions, draw_light

Kind = Literal["sphere", "box", "cylinder", "cone", "capsule", "superellipsoid", "torus", "blend"]
Texture = Literal["plain", "noise", "checker", "photo"]
Triple = tuple[float, float, float]
F64 = NDArray[np.float64]

KINDS: tuple[Kind, ...] = get_args(Kind)
TEXTURES: tuple[Texture, ...] = get_args(Texture)
VERSION = 1
"""Raised with every change that gives other pixels for the same seed."""

COLOURS: dict[str, Triple] = {
    "black": (0.1, 0.1, 0.1),
    "grey": (0.5, 0.5, 0.5),
    "white": (0.9, 0.9, 0.9),
    "red": (0.8, 0.2, 0.2),
    "green": (0.2, 0.7, 0.2),
    "blue": (0.2, 0.3, 0.8),
    "yellow": (0.8, 0.8, 0.2),
    "purple": (0.7, 0.2, 0.7),
    "turquoise": (0.2, 0.7, 0.8),
}
"""Albedos that go by a name."""

_DISTANCE = 6.0  # of the camera from the point it looks at
_TRIES = 30  # placements drawn before a scene does with fewer solids
_ROUND = ("cylinder", "cone", "capsule", "torus")  # as wide as deep


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOptions:
    """Distributions that scenes are drawn from, and how finely they are rendered.

    Attributes:
        solids: least and largest number of solids; fewer where there is no room.
        extent: least and largest radius of a solid's bounding sphere, as a share of the picture's side.
        kinds: shapes to draw from.
        textures: surfaces to draw from; ``photo`` counts only where photographs are given.
        translucent: probability that a solid lets light through.
        opacity: least and largest opacity of a translucent solid.
        tilted: probability that a solid lies on its side or leans, rather than stands.
        pitch: least and largest angle by which the camera looks down, degrees.
        view: least and largest angle of view, degrees.
        shadow: see :class:`~layerkit.toolkit.shadow.ShadowOptions`; the contact darkening is not used.
        coverage: N of the N x N samples of a pixel that say how much of it a solid covers.
        light: samples of the light's disc, each from its own place in the pixel.
    """

    solids: tuple[int, int] = (1, 3)
    extent: tuple[float, float] = (0.1, 0.24)
    kinds: tuple[Kind, ...] = KINDS
    textures: tuple[Texture, ...] = TEXTURES
    translucent: float = 0.2
    opacity: tuple[float, float] = (0.3, 0.85)
    tilted: float = 0.3
    pitch: tuple[float, float] = (14.0, 50.0)
    view: tuple[float, float] = (25.0, 50.0)
    shadow: ShadowOptions = field(default_factory=ShadowOptions)
    coverage: int = 4
    light: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.solids[0] <= self.solids[1] <= 8:
            raise UsageError(f"solids: expected [least, most] within 1..8, got {list(self.solids)}")
        if not 0 < self.extent[0] <= self.extent[1] <= 0.4:
            raise UsageError(f"extent: expected [least, most] within 0..0.4, got {list(self.extent)}")
        for name in ("translucent", "tilted"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name}: a probability lies in 0..1, got {getattr(self, name)}")
        if not self.kinds or not self.textures:
            raise UsageError("kinds, textures: expected at least one of each, got none")
        if not (1 <= self.coverage <= 16 and 1 <= self.light <= 4096):
            raise UsageError(f"expected coverage in 1..16 and light in 1..4096, got {self.coverage} and {self.light}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A pinhole that looks down at the origin, upright.

    Attributes:
        pitch: angle by which it looks down, degrees, 0 < pitch < 90.
        view: angle of view over the picture's side, degrees.
        distance: from the origin.
    """

    pitch: float = 27.0
    view: float = 35.0
    distance: float = _DISTANCE

    @property
    def focal(self) -> float:
        """Focal length in sides of the picture."""
        return 0.5 / math.tan(math.radians(self.view) / 2)

    @property
    def position(self) -> F64:
        """(x, y, z) of the pinhole."""
        angle = math.radians(self.pitch)
        return self.distance * np.array([0, -math.cos(angle), math.sin(angle)])

    @property
    def horizon(self) -> float:
        """Where the horizon lies, as a share of the picture's height from its top; negative above it."""
        return 0.5 - self.focal * math.tan(math.radians(self.pitch))

    def axes(self) -> tuple[F64, F64, F64]:
        """Unit vectors to the right, downwards in the picture, and forward."""
        angle = math.radians(self.pitch)
        down, forward = (0, -math.sin(angle), -math.cos(angle)), (0, math.cos(angle), -math.sin(angle))
        return np.array([1.0, 0, 0]), np.array(down), np.array(forward)

    def on_ground(self, u: float, v: float) -> tuple[F64, float]:
        """The ground point seen at (u, v), shares of the side from the top left, and its depth along the view."""
        right, down, forward = self.axes()
        ray = (u - 0.5) * right + (v - 0.5) * down + self.focal * forward
        steps = -self.position[2] / ray[2]
        return self.position + steps * ray, float(steps * self.focal)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solid:
    """One solid.

    Attributes:
        kind: its shape.
        scale: half extents along its own axes before it is turned, (3,).
        turn: rotation from its own axes to the world's, (3, 3).
        centre: in the world, (3,).
        form: the shape's own numbers: of a capsule the share of its half length that is straight; of a torus its tube
            over its outer radius; of a blend the radii of its two balls and the width over which they melt.
        colour: albedo, 0..1.
        accent: second albedo of a texture.
        texture: of the surface.
        pattern: frequency of the texture, per unit of the solid's own coordinates.
        gloss: strength of the highlight, 0..1.
        opacity: 1 is solid; less lets that much of the light through, refracting nothing.
    """

    kind: Kind
    scale: F64
    turn: F64
    centre: F64
    form: Triple = (0.0, 0.0, 0.0)
    colour: Triple = (0.6, 0.3, 0.2)
    accent: Triple = (0.9, 0.9, 0.8)
    texture: Texture = "plain"
    pattern: float = 2.0
    gloss: float = 0.2
    opacity: float = 1.0

    @property
    def radius(self) -> float:
        """Of the bounding sphere around ``centre``."""
        return _bound(self.kind, self.scale)

    @property
    def caption(self) -> str:
        """What a picture of it shows: the colour that its albedo is nearest to, and its shape."""
        return f"a rendered {colour_name(self.colour)} {self.kind}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """A scene.

    Attributes:
        seed: of its textures.
        camera: who looks.
        light: None is an overcast sky: no shadow is cast.
        solids: farthest first, so that none hides an earlier one; see :func:`back_to_front`.
        ground: two albedos of the rendered ground.
        sky: colours at the horizon and above.
    """

    seed: int
    camera: Camera
    light: Light | None
    solids: tuple[Solid, ...]
    ground: tuple[Triple, Triple] = ((0.45, 0.42, 0.38), (0.62, 0.58, 0.5))
    sky: tuple[Triple, Triple] = ((0.85, 0.88, 0.9), (0.45, 0.6, 0.8))


def colour_name(colour: Triple) -> str:
    """The name of :data:`COLOURS` that an albedo is nearest to."""
    return min(COLOURS, key=lambda name: math.dist(COLOURS[name], colour))


def draw_world(seed: int, options: SceneOptions, *, photos: bool = False) -> World:
    """Draw the world of a seed; ``photos`` says whether photographs are at hand for textures."""
    rng = np.random.default_rng(seed)
    camera = Camera(pitch=float(rng.uniform(*options.pitch)), view=float(rng.uniform(*options.view)))
    light = draw_light(rng, options.shadow)
    wanted = int(rng.integers(options.solids[0], options.solids[1] + 1))
    solids: list[Solid] = []
    for _ in range(_TRIES):
        solid = _draw_solid(rng, camera, options, photos)
        if all(np.linalg.norm(solid.centre - one.centre) > solid.radius + one.radius for one in solids):
            solids.append(solid)
        if len(solids) == wanted:
            break
    return World(
        seed=seed,
        camera=camera,
        light=light,
        solids=back_to_front(solids, camera),
        ground=_alike(rng, _colour(rng, 0.3, 0.7)),
        sky=(_colour(rng, 0.7, 1.0), _colour(rng, 0.3, 0.8)),
    )


def back_to_front(solids: list[Solid], camera: Camera) -> tuple[Solid, ...]:
    """The solids in an order in which none hides an earlier one, if their bounding spheres do not meet.

    By the power of the camera's position: the plane of equal power parts two such spheres, and the camera lies on the
    side of the one of lesser power.
    """
    return tuple(sorted(solids, key=lambda one: float(one.radius**2 - np.sum((one.centre - camera.position) ** 2))))


def stood(solid_kind: Kind, scale: F64, turn: F64, place: F64, form: Triple = (0.0, 0.0, 0.0)) -> F64:
    """Centre of a solid that touches the ground over ``place``, (x, y, 0)."""
    height = _support(solid_kind, scale * (turn.T @ np.array([0, 0, -1.0])), form)
    return np.asarray(place + np.array([0, 0, height]), np.float64)


def _draw_solid(rng: np.random.Generator, camera: Camera, options: SceneOptions, photos: bool) -> Solid:
    kind: Kind = options.kinds[rng.integers(len(options.kinds))]
    extent = float(rng.uniform(*options.extent))
    place, depth = camera.on_ground(
        rng.uniform(1.2 * extent, 1 - 1.2 * extent), rng.uniform(max(0.4, 2.2 * extent), 0.9 - 0.4 * extent)
    )
    scale = rng.uniform(0.5, 1, 3)
    if kind in _ROUND or rng.random() < 0.3:
        scale[1] = scale[0]
    scale *= extent * depth / camera.focal / _bound(kind, scale)
    form = _draw_form(rng, kind)
    turn = _draw_turn(rng, options.tilted)
    textures = [one for one in options.textures if photos or one != "photo"] or ["plain"]
    return Solid(
        kind=kind,
        scale=scale,
        turn=turn,
        centre=stood(kind, scale, turn, place, form),
        form=form,
        colour=_colour(rng, 0.08, 0.95),
        accent=_colour(rng, 0.08, 0.95),
        texture=textures[rng.integers(len(textures))],
        pattern=float(rng.uniform(1.5, 5)),
        gloss=float(rng.uniform(0, 0.5)),
        opacity=float(rng.uniform(*options.opacity)) if rng.random() < options.translucent else 1.0,
    )


def _draw_form(rng: np.random.Generator, kind: Kind) -> Triple:
    if kind == "blend":  # the balls meet
        return float(rng.uniform(0.45, 0.6)), float(rng.uniform(0.5, 0.65)), float(rng.uniform(0.2, 0.5))
    return float(rng.uniform(0.25, 0.5)), 0.0, 0.0


def _colour(rng: np.random.Generator, least: float, most: float) -> Triple:
    red, green, blue = (float(value) for value in rng.uniform(least, most, 3))
    return red, green, blue


def _alike(rng: np.random.Generator, colour: Triple) -> tuple[Triple, Triple]:
    red, green, blue = (float(value) for value in np.clip(np.add(colour, rng.normal(0, 0.16, 3)), 0, 1))
    return colour, (red, green, blue)


def _draw_turn(rng: np.random.Generator, tilted: float) -> F64:
    """Upright and turned about the vertical; or tilted first, half of the time by a right angle."""
    yaw, spin, lean = (float(value) for value in rng.uniform((0, 0, 0.2), (2 * np.pi, 2 * np.pi, 1.4)))
    if rng.random() >= tilted:
        return about("z", yaw)
    return about("z", yaw) @ about("x", lean if rng.random() < 0.5 else np.pi / 2) @ about("z", spin)


def about(axis: Literal["x", "z"], angle: float) -> F64:
    """Rotation by ``angle``, radians, (3, 3)."""
    c, s = math.cos(angle), math.sin(angle)
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _bound(kind: Kind, scale: F64) -> float:
    """Radius of the sphere that holds a solid of these half extents."""
    if kind == "box":
        return float(np.linalg.norm(scale))
    if kind in ("cylinder", "cone"):
        return math.hypot(max(scale[0], scale[1]), scale[2])
    if kind == "superellipsoid":
        return float(np.sum(scale**4) ** 0.25)
    return float(scale.max())


def _support(kind: Kind, v: F64, form: Triple) -> float:
    """Largest p . v over the points p of a shape in its own coordinates."""
    length, flat = float(np.linalg.norm(v)), math.hypot(v[0], v[1])
    match kind:
        case "sphere":
            return length
        case "box":
            return float(np.abs(v).sum())
        case "cylinder":
            return float(flat + abs(v[2]))
        case "cone":
            return float(max(v[2], flat - v[2]))
        case "capsule":
            return float(form[0] * abs(v[2]) + (1 - form[0]) * length)
        case "superellipsoid":
            return float(np.sum(np.abs(v) ** (4 / 3)) ** 0.75)
        case "torus":
            return (1 - form[0]) * flat + form[0] * length
        case "blend":
            ends = (form[0] - 1) * v[0] + form[0] * length, (1 - form[1]) * v[0] + form[1] * length
            return float(max(ends))
