"""The slow plain renderer: every cell against every ray, sorted, composited by a running product.

It is what the words in docs/voxels.md say and nothing else: no traversal, no tables by axis, no
early stop, and plain automatic differentiation. Memory is rays x cells, so it is for small grids;
in float64 it is the oracle of the fast backends.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .crossings import (
    AlphaMode,
    Composite,
    alpha,
    entry_face,
    eye_cell,
    inverse_direction,
    strength,
)


def composite_reference(
    mode: AlphaMode,
    near: float,
    logits: Float[Array, "x y z"],
    probs: Float[Array, "x y z materials"],
    lit: Float[Array, "materials 6 f"],
    eye: Float[Array, " 3"],
    directions: Float[Array, "rows cols 3"],
    *,
    is_eye_cell_skipped: bool = False,
) -> Composite:
    """Composites every crossing of every ray, front to back.

    Args:
      near: distance in cells before which nothing is seen.
      lit: features of each material by face.
    """
    cells = jnp.stack(jnp.meshgrid(*(jnp.arange(n) for n in logits.shape), indexing="ij"), -1)
    cells = cells.reshape(1, 1, -1, 3).astype(directions.dtype)
    num_cells = cells.shape[2]
    here, eye = eye_cell(eye).reshape(1, 1, 1, 3), eye.reshape(1, 1, 1, 3)
    rays = directions[:, :, None, :]
    inverse = inverse_direction(rays)
    low, high = (cells - eye) * inverse, (cells + 1 - eye) * inverse
    near_planes, far_planes = jnp.minimum(low, high), jnp.maximum(low, high)
    axis = jnp.argmax(near_planes, axis=-1)
    t_in = jnp.maximum(jnp.max(near_planes, axis=-1), near)
    t_out = jnp.min(far_planes, axis=-1)
    is_crossed = t_in < t_out
    if is_eye_cell_skipped:
        is_crossed &= ~jnp.all(cells == here, axis=-1)

    chord = jnp.where(is_crossed, t_out - t_in, 0.0)
    hidden = alpha(mode, strength(mode, logits).reshape(1, 1, -1), chord)
    hidden = jnp.where(is_crossed, hidden, 0.0)
    order = jnp.argsort(jnp.where(is_crossed, t_in, jnp.inf), axis=-1)

    def front_to_back(values: Array) -> Array:
        return jnp.take_along_axis(values, order, axis=-1)

    passing = jnp.cumprod(1.0 - front_to_back(hidden), axis=-1)
    before = jnp.concatenate([jnp.ones_like(passing[..., :1]), passing[..., :-1]], axis=-1)
    weight = before * front_to_back(hidden)
    t_in, axis = front_to_back(t_in), front_to_back(axis)
    face = entry_face(axis, jnp.broadcast_to(rays, (*axis.shape, 3)))
    shown = jnp.einsum("cm,mkf->ckf", probs.reshape(num_cells, -1), lit, precision="highest")[
        order, face
    ]
    is_half = (before > 0.5) & (passing <= 0.5)
    return Composite(
        features=jnp.sum(weight[..., None] * shown, axis=-2),
        transmittance=passing[..., -1],
        axis_weight=jnp.stack([jnp.sum(weight * (axis == k), axis=-1) for k in range(3)], -1),
        depth=jnp.sum(weight * t_in, axis=-1),
        median=jnp.min(jnp.where(is_half, t_in, jnp.inf), axis=-1),
    )
