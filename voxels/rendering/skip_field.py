"""How far one may jump from a cell without passing a cell of interest.

The field holds 0 at a cell of interest, else 1 + r where all cells within Chebyshev distance r
are of no interest (outside the grid counts as such). r is 0, 1, 3 or 7: what
lies within r, shifted by r + 1 both ways along each axis, covers what lies within 2 r + 1 (a larger
shift would need cells beyond the grid's border), so three rounds of three axes make the field.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, UInt8

_RADII = (1, 3, 7)


def skip_field(is_stop: Bool[Array, "x y z"]) -> UInt8[Array, "x y z"]:
    """Builds the field; rays that jump by it visit every cell of `is_stop` they cross.

    Examples:
      >>> import jax.numpy as jnp
      >>> is_stop = jnp.zeros((1, 1, 6), bool).at[0, 0, 0].set(True)
      >>> skip_field(is_stop)[0, 0]
      Array([0, 1, 2, 2, 4, 4], dtype=uint8)
    """
    field = jnp.where(is_stop, 0, 1).astype(jnp.uint8)
    near, radius = is_stop, 0
    for next_radius in _RADII:
        shift = next_radius - radius
        for axis in range(3):
            near = _spread(near, axis, shift)
        radius = next_radius
        field = jnp.where(near, field, jnp.uint8(1 + radius))
    return field


def _spread(mask: Array, axis: int, shift: int) -> Array:
    size = mask.shape[axis]
    if shift >= size:
        # a shift beyond the grid reaches everything that a shift to its ends does
        shift = size - 1
        if shift == 0:
            return mask
        return jnp.broadcast_to(jnp.any(mask, axis=axis, keepdims=True), mask.shape)
    pad = [(0, 0)] * 3
    pad[axis] = (shift, shift)
    padded = jnp.pad(mask, pad)

    def cut(start: int) -> Array:
        index = [slice(None)] * 3
        index[axis] = slice(start, start + size)
        return padded[tuple(index)]

    return mask | cut(0) | cut(2 * shift)
