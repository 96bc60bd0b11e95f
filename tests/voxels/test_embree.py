"""Hard renders against Embree: every pixel, but those where the ray meets an edge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from voxels.palette import daylight, lit_colors, terrain_palette
from voxels.procedural import WorldConfig, make_world
from voxels.rendering.first_hit import HitConfig, composite_hard, find_hits

from .examples import pinhole
from .oracles import embree_first_hits

LIT = np.asarray(lit_colors(terrain_palette(), daylight()))
SKY = np.reshape(daylight().sky, (1, 1, 3)).astype(np.float32)


def random_eyes(random, block_map, count):
    """Eyes over, in, on the planes of, and far from a world; never inside a block."""
    size, found = np.array(block_map.materials.shape), []
    while len(found) < count:
        kind = len(found) % 4
        eye = size * random.random(3)
        if kind == 0:
            eye = size * (random.random(3) * 1.6 - 0.3) + np.array([0, size[1], 0])
        elif kind == 2:
            axis = random.integers(3)
            eye[axis] = np.floor(eye[axis])
        elif kind == 3:
            eye = size / 2 + random.normal(size=3) * size * 3
            eye[1] = abs(eye[1])
        around = [np.floor(eye + shift).astype(int) for shift in (-1e-3, 1e-3)]
        cells = [c for c in around if ((c >= 0) & (c < size)).all()]
        if not any(block_map.is_solid[tuple(c)] for c in cells):
            found.append(eye.astype(np.float32))
    return found


def compare(shape, seed, count, pixels):
    """Pixels that differ, and of those how far in cells the hit is from an edge; all pixels."""
    random = np.random.default_rng(seed)
    block_map = make_world(WorldConfig(shape=shape, num_houses=3, num_towers=2), seed)
    config = HitConfig(shape=shape, near=0.01)
    logits = jnp.where(block_map.is_solid, 1.0, -1.0).reshape(-1)
    probs = jax.nn.one_hot(block_map.materials.reshape(-1) - 1, len(LIT))

    @jax.jit
    def draw(logits, probs, eye, directions):
        drawn = composite_hard(config, None, logits, probs, jnp.asarray(LIT), eye, directions)
        hits = find_hits(config, logits.reshape(shape) > 0, eye, directions)
        return drawn.features + drawn.transmittance[..., None] * SKY, hits.t_in

    num_different, edges = 0, []
    for number, eye in enumerate(random_eyes(random, block_map, count)):
        centre = np.array(shape) * random.random(3) * [1, 0.5, 1]
        if number % 5 == 0:  # along an axis
            centre = eye + np.eye(3)[number % 3] * (1 if number % 2 else -1)
        focal = pixels / 2 / np.tan(np.radians(30))
        directions = pinhole(eye, centre, pixels, pixels, focal)[2].astype(np.float32)
        ours, t_in = jax.device_get(draw(logits, probs, jnp.asarray(eye), jnp.asarray(directions)))
        face, material, distance = embree_first_hits(block_map.materials, eye, directions)
        theirs = np.where((face >= 0)[..., None], LIT[material - 1, face], SKY)
        is_different = np.abs(ours - theirs).max(-1) > 1e-3
        num_different += int(is_different.sum())
        for pixel in np.argwhere(is_different):
            nearest = min(t_in[tuple(pixel)], distance[tuple(pixel)])
            point = np.float64(eye) + nearest * np.float64(directions[tuple(pixel)])
            edges.append(np.sort(np.abs(point - np.round(point)))[1])
    return num_different, edges, count * pixels * pixels


def test_a_few_views_equal_embree_on_every_pixel():
    pytest.importorskip("embreex")
    num_different, edges, _ = compare((24, 16, 20), 1, 8, 96)
    assert num_different == 0, edges


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "seed"), [((64, 48, 64), 0), ((32, 32, 32), 1), ((48, 24, 80), 2)]
)
def test_twenty_views_equal_embree_where_float32_can_tell(shape, seed):
    """Two programs in float32 may only differ where the ray passes within rounding of an edge."""
    pytest.importorskip("embreex")
    num_different, edges, num_pixels = compare(shape, seed, 20, 512)
    assert num_different <= 4e-6 * num_pixels
    assert max(edges, default=0.0) < 2e-4
