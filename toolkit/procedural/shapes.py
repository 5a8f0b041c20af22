"""The shapes of procedural solids in their own coordinates: where rays enter, and a field that is negative inside.

Convex shapes are met in closed form, as intersections of quadrics and slabs (the superellipsoid of exponent 4 by
Newton's method on a convex quartic); torus and blend by sphere tracing their distance fields (Hart, "Sphere Tracing",
The Visual Computer 1996). Only + - * / sqrt, comparison and selection are used, all of which IEEE 754 rounds the same
way everywhere: so a ray's fate does not depend on the rays beside it in a tensor.

A vector is a tuple of three float32 tensors; ``form`` holds the three numbers of ``Solid.form`` so as well. A ray is
``origin + t direction``, the direction of any length, the origin its point nearest to the centre.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .world import Kind

Vector = tuple[Tensor, Tensor, Tensor]
Interval = tuple[Tensor, Tensor]

_STEPS = 40  # of sphere tracing
_NEAR = 1e-3  # of the radius: what a traced ray comes as near as this counts as met
_NEWTON = 8


def dot(a: Vector, b: Vector) -> Tensor:
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def along(origin: Vector, t: Tensor, direction: Vector) -> Vector:
    """Origin + t direction."""
    return origin[0] + t * direction[0], origin[1] + t * direction[1], origin[2] + t * direction[2]


def turned(matrix: Tensor, v: Vector) -> Vector:
    """Matrices (A, 3, 3) times vectors (A, N)."""
    x, y, z = (
        matrix[:, i, 0, None] * v[0] + matrix[:, i, 1, None] * v[1] + matrix[:, i, 2, None] * v[2] for i in range(3)
    )
    return x, y, z


def turned_back(matrix: Tensor, v: Vector) -> Vector:
    """Transposed matrices (A, 3, 3) times vectors (A,): how normals turn."""
    x, y, z = (matrix[:, 0, i] * v[0] + matrix[:, 1, i] * v[1] + matrix[:, 2, i] * v[2] for i in range(3))
    return x, y, z


def unit(v: Vector) -> Vector:
    """Of length one."""
    length = torch.sqrt(dot(v, v)).clamp(min=1e-12)
    return v[0] / length, v[1] / length, v[2] / length


def picked(v: Vector, rows: Tensor) -> Vector:
    """The vectors at some places of the first axis."""
    return v[0][rows], v[1][rows], v[2][rows]


def columns(rows: Tensor) -> Vector:
    """(..., 3) as a vector."""
    x, y, z = rows.unbind(-1)
    return x, y, z


def enter(kind: Kind, origin: Vector, direction: Vector, form: Vector) -> Tensor:
    """The first t >= 0 at which a ray is inside the shape, infinite where it misses; the origin may lie anywhere."""
    size = dot(direction, direction)
    nearest = -dot(origin, direction) / size
    centred = along(origin, nearest, direction)  # float32 forgets a small solid far from the origin
    if kind in _INTERVALS:
        near, far = _INTERVALS[kind](centred, direction, form)
        first = torch.maximum(near, -nearest)
        return torch.where(far > first, nearest + first, torch.inf)
    return nearest + _traced(kind, centred, direction, -nearest, torch.sqrt(size), form)


def normal(kind: Kind, point: Vector, form: Vector) -> Vector:
    """Gradient of the shape's field, not normalised, by four differences at the corners of a tetrahedron."""
    x, y, z = point
    e = 1e-3
    a = field(kind, (x + e, y - e, z - e), form)
    b = field(kind, (x - e, y - e, z + e), form)
    c = field(kind, (x - e, y + e, z - e), form)
    d = field(kind, (x + e, y + e, z + e), form)
    return a - b - c + d, -a - b + c + d, -a + b - c + d


def field(kind: Kind, point: Vector, form: Vector) -> Tensor:
    """Negative inside, zero on the surface; the distance itself for torus, blend, sphere and capsule."""
    x, y, z = point
    match kind:
        case "sphere":
            return torch.sqrt(dot(point, point)) - 1
        case "box":
            return torch.maximum(torch.maximum(x.abs(), y.abs()), z.abs()) - 1
        case "cylinder":
            return torch.maximum(_flat(point), z.abs()) - 1
        case "cone":
            return torch.maximum(_flat(point) - (1 - z) / 2, -z - 1)
        case "capsule":
            beyond = (z.abs() - form[0]).clamp(min=0)
            return torch.sqrt(x * x + y * y + beyond * beyond) - (1 - form[0])
        case "superellipsoid":
            return _quartic(point) - 1
        case "torus":
            ring = _flat(point) - (1 - form[0])
            return torch.sqrt(ring * ring + z * z) - form[0]
        case "blend":
            left, right = x + 1 - form[0], x - 1 + form[1]
            rest = y * y + z * z
            return _melted(
                torch.sqrt(left * left + rest) - form[0], torch.sqrt(right * right + rest) - form[1], form[2]
            )


def _flat(point: Vector) -> Tensor:
    return torch.sqrt(point[0] * point[0] + point[1] * point[1])


def _quartic(point: Vector) -> Tensor:
    x, y, z = (value * value for value in point)
    return x * x + y * y + z * z


def _melted(a: Tensor, b: Tensor, width: Tensor) -> Tensor:
    """Quilez's polynomial smooth minimum."""
    share = (width - (a - b).abs()).clamp(min=0)
    return torch.minimum(a, b) - share * share / (4 * width)


def _between_roots(a: Tensor, b: Tensor, c: Tensor) -> Interval:
    """Where a t^2 + 2 b t + c <= 0, a > 0; empty (near > far) without roots."""
    inside = b * b - a * c
    root = torch.sqrt(inside.clamp(min=0))
    near, far = (-b - root) / a, (-b + root) / a
    return torch.where(inside > 0, near, torch.inf), torch.where(inside > 0, far, -torch.inf)


def _slab(origin: Tensor, direction: Tensor, half: Tensor | float = 1.0) -> Interval:
    """Where |origin + t direction| <= half."""
    safe = torch.where(direction.abs() < 1e-12, 1e-12, direction)
    a, b = (-half - origin) / safe, (half - origin) / safe
    return torch.minimum(a, b), torch.maximum(a, b)


def _both(a: Interval, b: Interval) -> Interval:
    return torch.maximum(a[0], b[0]), torch.minimum(a[1], b[1])


def _sphere(origin: Vector, direction: Vector, form: Vector) -> Interval:
    return _between_roots(dot(direction, direction), dot(origin, direction), dot(origin, origin) - 1)


def _box(origin: Vector, direction: Vector, form: Vector) -> Interval:
    x, y, z = (_slab(o, d) for o, d in zip(origin, direction, strict=True))
    return _both(_both(x, y), z)


def _tube(origin: Vector, direction: Vector, radius: Tensor | float = 1.0) -> Interval:
    """The endless cylinder about z."""
    (x, y, _), (dx, dy, _) = origin, direction
    return _between_roots((dx * dx + dy * dy).clamp(min=1e-12), x * dx + y * dy, x * x + y * y - radius * radius)


def _cylinder(origin: Vector, direction: Vector, form: Vector) -> Interval:
    return _both(_tube(origin, direction), _slab(origin[2], direction[2]))


def _cone(origin: Vector, direction: Vector, form: Vector) -> Interval:
    """x^2 + y^2 <= (1 - z)^2 / 4 below its tip at z = 1 and above its base at z = -1."""
    (x, y, z), (dx, dy, dz) = origin, direction
    w, dw = (1 - z) / 2, -dz / 2
    a, b, c = dx * dx + dy * dy - dw * dw, x * dx + y * dy - w * dw, x * x + y * y - w * w
    a = torch.where(a.abs() < 1e-9, 1e-9, a)
    root = torch.sqrt((b * b - a * c).clamp(min=0))
    near, far = torch.minimum((-b - root) / a, (-b + root) / a), torch.maximum((-b - root) / a, (-b + root) / a)
    crossed = (a > 0) & (b * b - a * c > 0)
    # Steeper than its side a ray is inside the cone beyond one root, and inside its mirror image before the other.
    falls = dz < 0
    first = torch.where(a > 0, torch.where(crossed, near, torch.inf), torch.where(falls, far, -torch.inf))
    last = torch.where(a > 0, torch.where(crossed, far, -torch.inf), torch.where(falls, torch.inf, near))
    return _both((first, last), _slab(z, dz))


def _capsule(origin: Vector, direction: Vector, form: Vector) -> Interval:
    x, y, z = origin
    radius, size = 1 - form[0], dot(direction, direction)
    near, far = _both(_tube(origin, direction, radius), _slab(z, direction[2], form[0]))
    near, far = torch.where(near < far, near, torch.inf), torch.where(near < far, far, -torch.inf)
    for end in (form[0], -form[0]):
        ball = (x, y, z - end)
        one = _between_roots(size, dot(ball, direction), dot(ball, ball) - radius * radius)
        near, far = torch.minimum(near, one[0]), torch.maximum(far, one[1])
    return near, far


def _superellipsoid(origin: Vector, direction: Vector, form: Vector) -> Interval:
    """x^4 + y^4 + z^4 <= 1: along a ray a convex function, whose least value says whether it meets."""
    squares = (direction[0] * direction[0], direction[1] * direction[1], direction[2] * direction[2])
    lowest = torch.zeros_like(origin[0])
    for _ in range(_NEWTON):
        point = along(origin, lowest, direction)
        lowest = lowest - _slope(point, direction) / (12 * dot(squares, _squared(point)) + 1e-9)
    met = _quartic(along(origin, lowest, direction)) < 1
    reach = 1.4 / torch.sqrt(dot(direction, direction))  # the shape lies within 3 ** 0.25 of its centre
    ends = []
    for t in (-reach, reach):
        for _ in range(_NEWTON):  # from outside Newton's method comes nearer with every step and never crosses
            point = along(origin, t, direction)
            slope = _slope(point, direction)
            t = t - (_quartic(point) - 1) / torch.where(slope.abs() < 1e-9, 1e-9, slope)
        ends.append(t)
    return torch.where(met, ends[0], torch.inf), torch.where(met, ends[1], -torch.inf)


def _squared(point: Vector) -> Vector:
    return point[0] * point[0], point[1] * point[1], point[2] * point[2]


def _slope(point: Vector, direction: Vector) -> Tensor:
    x, y, z = point
    return 4 * dot((x * x * x, y * y * y, z * z * z), direction)


def _traced(kind: Kind, origin: Vector, direction: Vector, start: Tensor, speed: Tensor, form: Vector) -> Tensor:
    """Walk by the distance to the surface; every traced shape lies within 1 of its centre."""
    t = torch.maximum(start, -1.05 / speed)
    distance = torch.full_like(t, torch.inf)
    for _ in range(_STEPS):
        distance = field(kind, along(origin, t, direction), form)
        t = t + distance.clamp(min=0) / speed
    return torch.where((distance < _NEAR) & (t * speed < 1.1), t, torch.inf)


_INTERVALS: dict[Kind, Callable[[Vector, Vector, Vector], Interval]] = {
    "sphere": _sphere,
    "box": _box,
    "cylinder": _cylinder,
    "cone": _cone,
    "capsule": _capsule,
    "superellipsoid": _superellipsoid,
}
