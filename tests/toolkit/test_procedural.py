"""Procedural scenes against closed forms, their own shapes against dense sampling, and the triplet's equations."""

import math

import numpy as np
import pytest
import torch

from layerkit.manifests.errors import UsageError
from layerkit.toolkit import compose
from layerkit.toolkit.invariants import broken_promises
from layerkit.toolkit.layers import Layers, visible_mask
from layerkit.toolkit.procedural.scene import render, render_worlds
from layerkit.toolkit.procedural.shapes import enter, field
from layerkit.toolkit.procedural.world import (
    KINDS,
    Camera,
    SceneOptions,
    Solid,
    World,
    about,
    back_to_front,
    draw_world,
    stood,
)
from layerkit.toolkit.shadow import Light, ShadowOptions

FAST = SceneOptions(coverage=2, light=8)
FORMS = {"capsule": (0.4, 0.0, 0.0), "torus": (0.3, 0.0, 0.0), "blend": (0.5, 0.55, 0.3)}


def solid(kind="sphere", scale=(0.5, 0.5, 0.5), place=(0.0, 0.0), turn=None, **more):
    scale, turn = np.array(scale), np.eye(3) if turn is None else turn
    form = FORMS.get(kind, (0.0, 0.0, 0.0))
    centre = stood(kind, scale, turn, np.array([*place, 0.0]), form)
    return Solid(kind=kind, scale=scale, turn=turn, centre=centre, form=form, **more)


def world(*solids, light=None, camera=None):
    camera = camera or Camera()
    return World(seed=3, camera=camera, light=light, solids=back_to_front(list(solids), camera))


def lamp(**changes):
    return Light(**{"azimuth": 60, "elevation": 45, "size": 0.01, "strength": 0.7, "contact": 0.0, **changes})


def ground(camera, size):
    """The ground points (x, y) of all pixel centres, (S, S) each."""
    places = (np.arange(size) + 0.5) / size
    points = np.array([[camera.on_ground(u, v)[0][:2] for u in places] for v in places])
    return points[..., 0], points[..., 1]


def test_the_alpha_of_a_sphere_has_the_area_of_its_projection():
    camera, sphere = Camera(pitch=35), solid(scale=(0.8, 0.8, 0.8), place=(0.7, 0.4))
    scene = render_worlds([world(sphere, camera=camera)], 64, options=SceneOptions(coverage=8, light=1))
    offset = sphere.centre - camera.position
    depth2, far2 = float(offset @ camera.axes()[2]) ** 2, float(offset @ offset)
    # The outline of a sphere under a pinhole is an ellipse.
    area = math.pi * camera.focal**2 * 0.64 * math.sqrt((far2 - 0.64) / (depth2 - 0.64)) / (depth2 - 0.64)
    assert scene.alpha.mean().item() == pytest.approx(area, rel=2e-3)


def test_the_shadow_of_a_sphere_under_a_point_of_light_is_an_ellipse():
    camera, light = Camera(pitch=60), lamp(size=1e-4, elevation=35, azimuth=25)
    scene = render_worlds([world(solid(), light=light, camera=camera)], 96, options=SceneOptions(light=32))
    x, y = ground(camera, 96)
    turn, rise = math.radians(25), math.radians(35)
    forward, aside = x * math.cos(turn) + y * math.sin(turn), -x * math.sin(turn) + y * math.cos(turn)
    form = ((forward - 0.5 / math.tan(rise)) * math.sin(rise) / 0.5) ** 2 + (aside / 0.5) ** 2
    shadow, bare = scene.shadow[0, 0].numpy(), scene.alpha[0, 0].numpy() == 0
    within, beyond = bare & (form < 0.85), bare & (form > 1.15)
    assert within.sum() > 100
    np.testing.assert_allclose(shadow[within], 0.7, atol=1e-6)
    assert not shadow[beyond].any()


def test_the_penumbra_behind_an_edge_is_the_hidden_segment_of_the_disc():
    """Behind a wide box of height 1 the disc is cut by a straight edge: the hidden share is that of a segment."""
    camera, light = Camera(pitch=70, view=50), lamp(size=0.7, elevation=50, azimuth=90, strength=0.8)
    box = solid("box", (6, 0.2, 0.5), (0, -1))
    scene = render_worlds([world(box, light=light, camera=camera)], 64, options=SceneOptions(coverage=1, light=256))
    _, y = ground(camera, 64)
    rise, reach = math.radians(50), math.tan(0.35)
    slope = 1.0 / np.maximum(y[:, 32] + 0.8, 1e-6)  # of the line from the ground to the edge
    # A place b on the disc's upright diameter is seen at (cos e - b k sin e, sin e + b k cos e).
    edge = (slope * math.cos(rise) - math.sin(rise)) / (math.cos(rise) + slope * math.sin(rise)) / reach
    edge = np.clip(edge, -1, 1)
    hidden = 0.5 + (edge * np.sqrt(1 - edge**2) + np.arcsin(edge)) / math.pi
    rows = (scene.alpha[0, 0, :, 32].numpy() == 0) & (y[:, 32] > -0.6)
    shadow = scene.shadow[0, 0, :, 32].numpy()[rows]
    assert {0.0, 1.0} <= set(np.round(hidden[rows], 6))  # the umbra, the penumbra and the light
    assert ((hidden[rows] > 0.1) & (hidden[rows] < 0.9)).sum() > 5
    np.testing.assert_allclose(shadow, 0.8 * hidden[rows], atol=0.02)


def test_a_translucent_solid_has_its_opacity_for_alpha_and_in_its_umbra():
    scene = render_worlds([world(solid(opacity=0.4), light=lamp())], 64, options=FAST)
    assert scene.alpha.max().item() == pytest.approx(0.4)
    assert scene.shadow.max().item() == pytest.approx(0.7 * 0.4)
    assert scene.shadow[scene.alpha == scene.alpha.max()].max() > 0  # the ground is seen through it, in shadow


def test_an_overcast_sky_casts_no_shadow():
    assert not render_worlds([world(solid())], 32, options=FAST).shadow.any()


def test_the_contact_lies_in_shadow():
    """Beside a box's foot on the side away from the light no lit gap remains."""
    camera = Camera(pitch=60)
    box = solid("box", (0.5, 0.5, 0.5))
    scene = render_worlds([world(box, light=lamp(azimuth=0), camera=camera)], 96, options=FAST)
    x, y = ground(camera, 96)
    foot = (x > 0.5) & (x < 0.6) & (abs(y) < 0.4) & (scene.alpha[0, 0].numpy() == 0)
    assert foot.sum() > 3
    np.testing.assert_allclose(scene.shadow[0, 0].numpy()[foot], 0.7, atol=1e-6)


@pytest.mark.parametrize("opacity", [1.0, 0.5])
def test_the_picture_of_one_solid_is_what_a_finer_one_averages_to(opacity):
    """Also in the pixels of its outline, where shade that the solid itself hides must not count."""
    one = world(solid("box", turn=about("z", 0.5), opacity=opacity), light=lamp(size=0.02, azimuth=120))
    images = []
    for size in (32, 256):
        options = SceneOptions(coverage=8 if size == 32 else 2, light=256 if size == 32 else 16)
        scene = render_worlds([one], size, options=options, backgrounds=torch.full((1, 3, size, size), 0.8))
        images.append(scene.triplets([0]).image)
    finer = torch.nn.functional.avg_pool2d(images[1], 8)
    apart = (images[0] - finer).abs()
    assert apart.max() < 0.03
    assert apart.mean() < 5e-4


def test_overlapping_shadows_multiply_to_the_joint_one():
    """A twin in the same place hides nothing more, so that its own shadow is none."""
    one, twin = solid(), solid()
    scene = render_worlds([world(one, twin, light=lamp())], 64, options=FAST)
    alone = render_worlds([world(one, light=lamp())], 64, options=FAST)
    assert torch.equal(scene.shadow[:, 0], alone.shadow[:, 0])
    assert not scene.shadow[:, 1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_rays_enter_a_shape_where_its_field_turns_negative(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    start = rng.normal(size=(400, 3))
    start *= rng.uniform(2, 4, (400, 1)) / np.linalg.norm(start, axis=1, keepdims=True)
    aim = rng.uniform(-1.3, 1.3, (400, 3)) - start
    origin, direction = (tuple(torch.tensor(a.T, dtype=torch.float32)) for a in (start, aim))
    form = tuple(torch.full((400,), value) for value in FORMS.get(kind, (0.0, 0.0, 0.0)))
    found = enter(kind, origin, direction, form).numpy()
    steps = np.linspace(0, 2, 4001)
    path = torch.tensor(start[:, None] + steps[:, None] * aim[:, None], dtype=torch.float64)
    inside = (field(kind, path.unbind(-1), tuple(f.double()[:, None] for f in form)) < 0).numpy()
    first = np.where(inside.any(1), steps[inside.argmax(1)], np.inf)
    deep = inside.sum(1) > 20  # neither grazed nor cut at a corner
    clear = ~inside.any(1)
    assert deep.sum() > 60
    np.testing.assert_allclose(found[deep], first[deep], atol=2e-3)
    assert (np.isfinite(found[clear])).mean() < 0.05  # but for rays that pass within the tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_a_solid_touches_the_ground_and_lies_in_its_bounding_sphere(kind):
    rng = np.random.default_rng(1)
    for turn in (np.eye(3), about("z", 0.7) @ about("x", 1.1) @ about("z", 0.4)):
        one = solid(kind, (0.9, 0.9, 0.6), turn=turn)
        points = rng.uniform(-1.05, 1.05, (200_000, 3))
        form = tuple(torch.tensor(value) for value in one.form)
        held = points[field(kind, torch.tensor(points).unbind(-1), form).numpy() < 0]
        there = (held * one.scale) @ turn.T
        assert np.linalg.norm(there, axis=1).max() <= one.radius + 1e-6
        lowest = (there + one.centre)[:, 2].min()
        assert -0.01 < lowest < 0.06


def test_no_solid_hides_an_earlier_one():
    crowded = SceneOptions(solids=(3, 6), tilted=0.5)
    compared = 0
    for seed in range(40):
        drawn = draw_world(seed, crowded)
        rays = rng_rays(drawn.camera, 300, seed)
        times = np.stack([entered(one, drawn.camera.position, rays) for one in drawn.solids])
        for far, near in zip(*np.triu_indices(len(times), 1), strict=True):
            both = np.isfinite(times[far]) & np.isfinite(times[near])
            compared += both.sum()
            assert (times[far][both] > times[near][both]).all()
    assert compared > 50


def rng_rays(camera, count, seed):
    u, v = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, count))
    right, down, forward = camera.axes()
    return u[:, None] * right + v[:, None] * down + camera.focal * forward


def entered(one, position, rays):
    own = one.turn.T / one.scale[:, None]
    origin = torch.tensor(own @ (position - one.centre), dtype=torch.float32)
    direction = torch.tensor((rays @ own.T).T, dtype=torch.float32)
    form = tuple(torch.tensor(value, dtype=torch.float32) for value in one.form)
    return enter(one.kind, tuple(origin[:, None].expand_as(direction)), tuple(direction), form).numpy()


# --- the triplet ---


@pytest.fixture(scope="module")
def scene():
    return render(range(12), 48, options=SceneOptions(solids=(2, 3), translucent=0.4, coverage=3, light=12))


def hwc(tensor):
    return tensor.permute(0, 2, 3, 1).double().numpy()


def test_triplets_obey_their_equations(scene):
    for target in ([0] * 12, [n // 2 for n in scene.count], [n - 1 for n in scene.count]):
        found = scene.triplets(target)
        parts = {name: hwc(getattr(found, name)) for name in found.__slots__}
        for b in range(12):
            shadow, k = parts["shadow"][b, ..., 0], target[b]
            colour, alpha = compose.object_from(parts["foreground"][b], shadow)
            np.testing.assert_allclose(alpha, scene.alpha[b, k], atol=2e-6)
            image = compose.triplet_image(
                scene.colour[b, k].permute(1, 2, 0).double().numpy(),
                scene.alpha[b, k].double().numpy(),
                shadow,
                parts["background"][b],
                parts["occluder"][b],
            )
            np.testing.assert_allclose(parts["image"][b], image, atol=1e-6)
            recomposed = compose.over(
                parts["occluder"][b], compose.over(parts["foreground"][b], parts["background"][b])
            )
            np.testing.assert_allclose(parts["image"][b], recomposed, atol=1e-6)
            assert not parts["foreground"][b][parts["foreground"][b][..., 3] == 0].any()
            front = 1 - np.prod(1 - scene.alpha[b, k + 1 :].numpy(), axis=0)
            assert (parts["mask"][b, ..., 0] == (scene.alpha[b, k].numpy() * (1 - front) > 0.5)).all()
            np.testing.assert_allclose(colour[alpha > 0.1], scene.colour[b, k].permute(1, 2, 0)[alpha > 0.1], atol=1e-5)


def test_the_image_is_the_same_whichever_solid_is_taken_out(scene):
    first, last = scene.triplets([0] * 12), scene.triplets([n - 1 for n in scene.count])
    assert torch.equal(first.image, last.image)
    assert torch.equal(first.background, scene.plate)
    assert not last.occluder.any()


def test_everything_lies_within_0_and_1(scene):
    for name in ("plate", "colour", "alpha", "shadow"):
        values = getattr(scene, name)
        assert torch.isfinite(values).all()
        assert 0 <= values.min() <= values.max() <= 1
    assert scene.shadow.max() <= compose.MAX_SHADOW
    assert not scene.shadow[scene.alpha == 1].any()
    assert (scene.colour.amax(2)[scene.alpha == 0] == 0).all()


def test_eight_bit_layers_keep_the_promises_of_a_triplet(scene):
    for b in range(12):
        picture, image = scene.layered(b)
        folded = [
            compose.fold_shadow_u8(rgba[..., :3], rgba[..., 3], shade)
            for rgba, shade in zip(picture.layers, picture.shadows, strict=True)
        ]
        below = picture.background
        for layer in folded[:-1]:
            below = compose.over_u8(layer, below)
        layers = Layers(
            image=image,
            foreground=folded[-1],
            background=below,
            mask=visible_mask(picture.layers[-1][..., 3], np.zeros(image.shape[:2])),
            shadow=picture.shadows[-1],
            occluder=np.zeros_like(folded[-1]),
        )
        assert layers.recomposition_error() == 0
        assert list(broken_promises(layers, len(folded))) == []
        exact = hwc(scene.triplets([n - 1 for n in scene.count]).image)[b] * 255
        assert np.abs(exact - image).max() <= 2.5
        assert picture.captions[1] == scene.worlds[b].solids[0].caption


@pytest.mark.parametrize(
    ("colour", "name"), [((0.9, 0.1, 0.15), "red"), ((0.12, 0.08, 0.1), "black"), ((0.2, 0.25, 0.9), "blue")]
)
def test_a_solid_is_called_by_its_colour_and_shape(colour, name):
    solid = Solid(kind="cone", scale=np.ones(3), turn=np.eye(3), centre=np.zeros(3), colour=colour)
    assert solid.caption == f"a rendered {name} cone"


def test_the_bytes_of_a_seed_do_not_depend_on_its_neighbours():
    seeds = list(range(20, 29))
    whole = render(seeds, 32, options=FAST)
    by_fours = render(seeds, 32, options=FAST, batch=4)
    again = [render([seed], 32, options=FAST) for seed in seeds]
    for name in ("plate", "colour", "alpha", "shadow"):
        together = getattr(whole, name)
        assert torch.equal(together, getattr(by_fours, name))
        for b, one in enumerate(again):
            own = getattr(one, name)[0]
            part = together[b] if name == "plate" else together[b, : len(own)]
            assert torch.equal(part, own)


def test_a_photograph_stays_as_it_is_beside_solid_and_shadow():
    photo = torch.rand((2, 3, 40, 40), generator=torch.Generator().manual_seed(0))
    found = render([1, 2], 40, options=FAST, backgrounds=photo, photos=photo)
    assert torch.equal(found.plate, photo)
    triplets = found.triplets([n - 1 for n in found.count])
    clear = (triplets.foreground[:, 3:] == 0).expand_as(photo)
    assert 0.2 < clear.float().mean() < 1
    assert torch.equal(triplets.image[clear], triplets.background[clear])
    untouched = ((found.alpha.amax(1) == 0) & (found.shadow.amax(1) == 0))[:, None].expand_as(photo)
    assert torch.equal(triplets.image[untouched], photo[untouched])


def test_a_photograph_covers_a_solid():
    red, green = torch.zeros((1, 3, 4, 4)), torch.zeros((1, 3, 4, 4))
    red[:, 0] = green[:, 1] = 0.8
    picture = solid(texture="photo", gloss=0.0)
    for photos, channel in ((red, 0), (green, 1)):
        found = render_worlds([world(picture)], 32, options=FAST, photos=photos)
        colour = found.colour[0, 0][:, found.alpha[0, 0] == 1]
        assert (colour[channel] > 0.3).all()
        assert not colour[[c for c in range(3) if c != channel]].any()


def test_the_sky_begins_at_the_horizon():
    camera = Camera(pitch=14, view=45)
    found = render_worlds([world(solid(), light=lamp(azimuth=90, elevation=5), camera=camera)], 64, options=FAST)
    row = camera.horizon * 64
    assert 5 < row < 30
    sky = found.plate[0, :, : int(row)]
    assert (sky == sky[:, :, :1]).all()
    assert not found.shadow[0, 0, : math.ceil(row)].any()


@pytest.mark.parametrize(
    "changes",
    [{"solids": (0, 2)}, {"extent": (0.3, 0.2)}, {"translucent": 1.5}, {"kinds": ()}, {"coverage": 0}, {"light": 0}],
)
def test_options_out_of_range_are_refused(changes):
    with pytest.raises(UsageError, match=r"expected|probability"):
        SceneOptions(**changes)


def test_a_solid_that_is_not_there_and_backgrounds_of_another_size_are_refused(scene):
    with pytest.raises(ValueError, match="expected a solid of each scene"):
        scene.triplets([3] * 12)
    with pytest.raises(ValueError, match=r"backgrounds of shape \(1, 3, 16, 16\)"):
        render([0], 16, backgrounds=torch.zeros((1, 3, 8, 8)))


@pytest.mark.gpu
def test_a_gpu_gives_the_same_within_rounding():
    options = SceneOptions(coverage=2, light=8, shadow=ShadowOptions(none=0.0))
    here, there = render(range(8), 48, options=options), render(range(8), 48, options=options, device="cuda")
    for name in ("plate", "colour", "alpha", "shadow"):
        apart = (getattr(here, name) - getattr(there, name).cpu()).abs()
        assert (apart > 1e-3).float().mean() < 1e-3  # a sample at an edge may fall on its other side
