"""Where a ray crosses cells and how much each crossing hides: the meaning all backends share.

Everything is in cell units: cell (x, y, z) is the box [x, x+1] x [y, y+1] x [z, z+1], the eye is a
point in these units, directions have unit length, and t is a distance in cells.
  o, d    eye and direction;  inv = 1 / d, with |d| < 1e-30 (zero included) taken as +1e-30
  t(p)    where the ray meets the plane at integer coordinate p of an axis: (p - o) * inv.
          Every backend evaluates exactly this expression, so neighbouring cells agree bit for bit
          on their common face and each point of a ray belongs to exactly one cell.
  cell    crossed over [t_in, t_out], t_in = max over axes of the near planes, t_out = min of the
          far planes; it counts if t_in < t_out after clipping t_in to the near distance.
  face    the entry axis is the first axis (x before y before z) whose near plane is largest, also
          for a cell that holds the eye.
  a       hidden share of a crossing: `solid` sigmoid(logit), `beer` 1 - (1 - sigmoid(logit))^chord,
          `hard` 1 where logit > 0.
  w       weight T a of a crossing; T is what the crossings before it let through.
docs/voxels.md says this in full.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

AlphaMode = Literal["solid", "beer", "hard"]
_MIN_COMPONENT = 1e-30
_MOST_IN_A_PASS = 16


class Composite(NamedTuple):
    """What a ray gathers; distances in cells.

    Attributes:
      features: sum of w times the features of the entry face.
      transmittance: share of the ray that nothing hides.
      axis_weight: sum of w over the crossings entered through each axis.
      depth: sum of w t_in.
      median: t_in of the crossing at which T first falls to half or less; infinite where it
        does not. Not differentiable.
    """

    features: Float[Array, "*rays f"]
    transmittance: Float[Array, "*rays"]
    axis_weight: Float[Array, "*rays 3"]
    depth: Float[Array, "*rays"]
    median: Float[Array, "*rays"]


class Start(NamedTuple):
    """First cell of each ray, by axis.

    Attributes:
      inverse: 1 / d.
      cell: index of the cell, clipped into the grid.
      t_in, t_out: where the ray enters the cell, and where it leaves the grid.
      axis: entry axis of the cell.
      is_eye_cell: the cell is the one that floor(eye) names.
    """

    inverse: Float[Array, "*rays 3"]
    cell: Int[Array, "*rays 3"]
    t_in: Float[Array, "*rays"]
    t_out: Float[Array, "*rays"]
    axis: Int[Array, "*rays"]
    is_eye_cell: Bool[Array, "*rays"]


def inverse_direction(directions: Float[Array, "*rays"]) -> Float[Array, "*rays"]:
    """1 / d, finite: components smaller than 1e-30 in size count as +1e-30."""
    is_flat = jnp.abs(directions) < _MIN_COMPONENT
    return 1.0 / jnp.where(is_flat, _MIN_COMPONENT, directions)


def product(a: Float[Array, "*n k"], b: Float[Array, "k *m"]) -> Float[Array, "..."]:
    """Matrix product in full float32; accelerators otherwise keep 8 to 11 bits of factors."""
    return jnp.matmul(a, b, precision="highest")


def eye_cell(eye: Float[Array, " 3"]) -> Int[Array, " 3"]:
    """The cell the eye is in, unclamped; a point on a face belongs to the cell above it."""
    return jnp.floor(eye).astype(jnp.int32)


def start(
    shape: tuple[int, int, int],
    near: float,
    eye: Float[Array, " 3"],
    directions: Float[Array, "*rays 3"],
) -> Start:
    """Finds the first cell of each ray at or beyond distance `near`.

    Rays that miss the grid, or leave it before `near`, have t_in >= t_out.
    """
    dtype = directions.dtype
    inverse = inverse_direction(directions)
    lead = (1,) * (directions.ndim - 1)
    size, eye = jnp.array(shape, dtype).reshape(*lead, 3), eye.reshape(*lead, 3)
    is_up = inverse > 0
    low, high = (0.0 - eye) * inverse, (size - eye) * inverse
    enter = jnp.max(jnp.minimum(low, high), axis=-1)
    leave = jnp.min(jnp.maximum(low, high), axis=-1)
    t_in = jnp.maximum(enter, jnp.asarray(near, dtype))
    # floor of the entry point is right up to one cell; the planes decide
    cell = jnp.clip(jnp.floor(eye + t_in[..., None] * directions), 0, size - 1)
    cell = snap(cell, is_up, inverse, eye, t_in[..., None])
    cell = jnp.clip(cell, 0, size - 1)
    near_planes = (cell + ~is_up - eye) * inverse
    return Start(
        inverse=inverse,
        cell=cell.astype(jnp.int32),
        t_in=t_in,
        t_out=leave,
        axis=jnp.argmax(near_planes, axis=-1).astype(jnp.int32),
        is_eye_cell=jnp.all(cell == jnp.floor(eye), axis=-1),
    )


def snap(
    cell: Float[Array, "*rays"],
    is_up: Bool[Array, "*rays"],
    inverse: Float[Array, "*#rays"],
    eye: Float[Array, "*#rays"],
    t: Float[Array, "*#rays"],
) -> Float[Array, "*rays"]:
    """Moves an index along one axis by at most one so that near plane <= t < far plane."""
    sign = jnp.where(is_up, 1.0, -1.0).astype(cell.dtype)
    is_early = (cell + ~is_up - eye) * inverse > t
    is_late = (cell + is_up - eye) * inverse <= t
    return cell + jnp.where(is_early, -sign, jnp.where(is_late, sign, 0.0))


def strength(mode: AlphaMode, logits: Float[Array, "*cells"]) -> Float[Array, "*cells"]:
    """What a backend looks up per cell: a for `solid` and `hard`, optical density for `beer`."""
    if mode == "solid":
        return jax.nn.sigmoid(logits)
    if mode == "beer":
        return jax.nn.softplus(logits)
    return (logits > 0).astype(logits.dtype)


def alpha(
    mode: AlphaMode, strengths: Float[Array, "*#rays"], chord: Float[Array, "*#rays"]
) -> Float[Array, "*#rays"]:
    """Hidden share of a crossing of length `chord` cells."""
    return -jnp.expm1(-chord * strengths) if mode == "beer" else strengths


def alpha_slope(
    mode: AlphaMode, strengths: Float[Array, "*#rays"], chord: Float[Array, "*#rays"]
) -> Float[Array, "*#rays"]:
    """(d a / d logit) / (1 - a): it makes gradients without ever dividing by 1 - a."""
    return chord * -jnp.expm1(-strengths) if mode == "beer" else strengths


def axis_features(
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 f"],
    eye: Float[Array, " 3"],
) -> Float[Array, "x y z 3 f"]:
    """Features of each cell as seen from the eye, by entry axis.

    A cell above the eye's index along an axis can be entered through that axis only on its lower
    face, a cell below it only on its upper face; this leaves one face an axis. Only the eye's own
    cell can be entered through both, see `eye_features`.
    """
    here = eye_cell(eye)
    is_below = [
        (jnp.arange(size) < here[axis]).reshape([-1 if k == axis else 1 for k in range(3)])
        for axis, size in enumerate(probs.shape[:3])
    ]
    return _facing(probs, lit, jnp.stack(jnp.broadcast_arrays(*is_below), axis=-1))


def listed_features(
    probs: Float[Array, "cells materials"],
    cells: Int[Array, "cells 3"],
    lit: Float[Array, "materials 6 f"],
    eye: Float[Array, " 3"],
) -> Float[Array, "cells 3 f"]:
    """`axis_features` of listed cells, given their indices along x, y, z."""
    return _facing(probs, lit, cells < eye_cell(eye)[None])


@jax.custom_vjp
def _facing(
    probs: Float[Array, "*cells materials"],
    lit: Float[Array, "materials 6 f"],
    is_below: Bool[Array, "*cells 3"],
) -> Float[Array, "*cells 3 f"]:
    """Features by axis: of the upper face where a cell lies below the eye, else of the lower.

    By measurement on a CPU, 64 x 48 x 64 cells of 7 materials: the sums, which XLA makes in one
    pass, take 1 ms, a product for all faces 3 to 5, one for each face 6; for derivatives one
    product takes 4 ms, one for each face 20, the passes 120.
    """
    if lit.shape[0] > _MOST_IN_A_PASS:
        return _facing_by_product(probs, lit, is_below)
    shares = [probs[..., m, None] for m in range(lit.shape[0])]
    colors = jnp.expand_dims(lit, tuple(range(2, 1 + probs.ndim)))

    def shown(face: int) -> Array:
        return sum(share * colors[m, face] for m, share in enumerate(shares))  # pyright: ignore

    axes = [
        jnp.where(is_below[..., axis, None], shown(2 * axis), shown(2 * axis + 1))
        for axis in range(3)
    ]
    return jnp.stack(axes, axis=-2)


def _facing_by_product(probs: Array, lit: Array, is_below: Array) -> Array:
    materials, _, features = lit.shape
    faces = product(probs.reshape(-1, materials), lit.reshape(materials, -1))
    faces = faces.reshape(*probs.shape[:-1], 3, 2, features)
    return jnp.where(is_below[..., None], faces[..., 0, :], faces[..., 1, :])


def _pull_facing(saved: tuple[Array, Array, Array], cotangent: Array):
    probs, lit, is_below = saved
    _, pull = jax.vjp(lambda p, l: _facing_by_product(p, l, is_below), probs, lit)
    return *pull(cotangent), None


_facing.defvjp(lambda *inputs: (_facing(*inputs), inputs), _pull_facing)


def entry_face(
    axis: Int[Array, "*rays"], directions: Float[Array, "*rays 3"]
) -> Int[Array, "*rays"]:
    """Face 0..5 (+X -X +Y -Y +Z -Z) a ray enters through, given its axis."""
    d = jnp.take_along_axis(directions, axis[..., None], axis=-1)[..., 0]
    return 2 * axis + (inverse_direction(d) > 0)
