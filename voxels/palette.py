"""Materials and light: which colour each face of each kind of block shows.

Faces are numbered 0..5 as +X, -X, +Y, -Y, +Z, -Z; a block has three colours, for its top (+Y), its
bottom (-Y) and its four sides. Axis-aligned faces see only six different amounts of light, so the
lit colours are one constant table [materials, 6 faces, RGB], and a pixel is linear in the
material probabilities. Air is not a material: it is the absence of one.
Colours are display-referred, in [0, 1], without gamma.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

AIR = "Air"
NUM_FACES = 6
FACE_NAMES = ("+X", "-X", "+Y", "-Y", "+Z", "-Z")
FACE_NORMALS = np.array(
    [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32
)
SLOT_OF_FACE = np.array([2, 2, 0, 1, 2, 2])
"""Which of a material's colours each face has: 0 top, 1 bottom, 2 side."""

_TERRAIN = {
    "Grass": ((0.34, 0.68, 0.36), (0.40, 0.30, 0.16), (0.45, 0.58, 0.30)),
    "Dirt": ((0.42, 0.32, 0.20), (0.38, 0.26, 0.16), (0.40, 0.30, 0.18)),
    "Stone": ((0.58, 0.60, 0.64), (0.55, 0.57, 0.60), (0.56, 0.58, 0.62)),
    "Plank": ((0.78, 0.68, 0.50), (0.72, 0.60, 0.42), (0.74, 0.63, 0.45)),
    "Snow": ((0.92, 0.94, 0.96), (0.90, 0.92, 0.94), (0.88, 0.90, 0.93)),
    "Sand": ((0.88, 0.82, 0.60), (0.86, 0.78, 0.56), (0.87, 0.80, 0.58)),
    "Water": ((0.22, 0.40, 0.66), (0.20, 0.34, 0.60), (0.20, 0.38, 0.64)),
}


class Palette(NamedTuple):
    """Solid materials in the order of the material logits.

    Attributes:
      names: one name per material; "Air" may not be among them.
      colors: top, bottom and side colour of each.
    """

    names: tuple[str, ...]
    colors: Float[Array | np.ndarray, "materials 3 3"]


class Lighting(NamedTuple):
    """A sun, an ambient gradient from horizon to sky, and the sky behind everything.

    Attributes:
      sun: direction the light travels in; any length but zero.
      sun_color: RGB of light that falls straight onto a face.
      sky: RGB of the background, and of ambient light on faces that look up.
      horizon: RGB of ambient light on faces that look down.
      ambient: share of the ambient light.
    """

    sun: Float[Array | np.ndarray, " 3"]
    sun_color: Float[Array | np.ndarray, " 3"]
    sky: Float[Array | np.ndarray, " 3"]
    horizon: Float[Array | np.ndarray, " 3"]
    ambient: Float[Array | np.ndarray, ""]


def make_palette(colors: dict[str, tuple[tuple[float, float, float], ...]]) -> Palette:
    """Builds a palette from name -> (top, bottom, side) RGB in [0, 1].

    Raises:
      ValueError: no materials, "Air" among them, or a colour that is not 3 x 3 within [0, 1].
    """
    if not colors:
        raise ValueError("a palette needs at least one material")
    if AIR in colors:
        raise ValueError('"Air" is the absence of a block and cannot be a material')
    table = np.array(list(colors.values()), np.float32)
    if table.shape[1:] != (3, 3) or not ((table >= 0) & (table <= 1)).all():
        raise ValueError("each material needs (top, bottom, side), each RGB within [0, 1]")
    return Palette(tuple(colors), table)


def terrain_palette() -> Palette:
    """The seven default materials: grass, dirt, stone, plank, snow, sand, water.

    Examples:
      >>> terrain_palette().names
      ('Grass', 'Dirt', 'Stone', 'Plank', 'Snow', 'Sand', 'Water')
    """
    return make_palette(_TERRAIN)


def daylight() -> Lighting:
    """A high sun from +X +Y +Z over a light blue sky."""
    return Lighting(
        sun=np.array([-0.4, -0.85, -0.5], np.float32),
        sun_color=np.array([1.0, 0.97, 0.9], np.float32),
        sky=np.array([0.53, 0.81, 0.92], np.float32),
        horizon=np.array([0.18, 0.16, 0.12], np.float32),
        ambient=np.array(0.55, np.float32),
    )


def light_factors(lighting: Lighting) -> Float[Array, "6 3"]:
    """Amount of light on each face: ambient by how far it looks up, plus the sun's cosine."""
    normals = jnp.asarray(FACE_NORMALS)
    sun = jnp.asarray(lighting.sun)
    towards_sun = -sun / jnp.sqrt(jnp.sum(sun * sun))
    cosine = jnp.maximum(jnp.sum(normals * towards_sun[None], axis=1), 0.0)
    up = jnp.clip(normals[:, 1:2] * 0.5 + 0.5, 0.0, 1.0)
    horizon, sky = jnp.asarray(lighting.horizon)[None], jnp.asarray(lighting.sky)[None]
    ambient = jnp.asarray(lighting.ambient) * (horizon + (sky - horizon) * up)
    return ambient + cosine[:, None] * jnp.asarray(lighting.sun_color)[None]


def lit_colors(palette: Palette, lighting: Lighting) -> Float[Array, "materials 6 3"]:
    """Colours as seen, per material and face, clamped to [0, 1].

    The clamp is on this constant table, never on a pixel, so it takes no gradient from the grid.
    Differentiable in the palette and the lighting where the clamp does not bind.
    """
    base = jnp.asarray(palette.colors)[:, SLOT_OF_FACE]
    return jnp.clip(base * light_factors(lighting)[None], 0.0, 1.0)
