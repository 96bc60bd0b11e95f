"""The example that fits a picture: right slopes, and learning with samplers of any kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples import image_fitting as example
from nerf.hash_encoding import HashEncodingConfig
from samplers.pixels import PixelIndex
from scenes.metrics import psnr

TWO_LEVELS = HashEncodingConfig(num_levels=2, log2_table_size=14, finest_resolution=128)


def test_colours_are_those_of_the_pixels_and_slopes_their_differences():
    picture = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 8, 3)), jnp.float32)
    pixels = PixelIndex(*(jnp.array(part) for part in ([0, 0, 0], [3, 0, 7], [4, 0, 5])))
    xy = jnp.stack([pixels.col, pixels.row], axis=-1) + 0.5
    colors, slopes = jax.jvp(
        lambda xy: example.colors_at(picture, pixels, xy),
        (xy,),
        (jnp.tile(jnp.array([[1.0, 0.0]]), (3, 1)),),
    )
    np.testing.assert_array_equal(colors, picture[pixels.row, pixels.col])
    np.testing.assert_allclose(slopes[0], 0.5 * (picture[3, 5] - picture[3, 3]), rtol=1e-6)
    np.testing.assert_allclose(slopes[1], picture[0, 1] - picture[0, 0], rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["error_weighted", pytest.param("soft_mining", marks=pytest.mark.slow)]
)
def test_a_hundred_steps_beat_the_mean_colour(name, monkeypatch):
    for setting, value in (("ENCODING", TWO_LEVELS), ("LAYERS", (4, 8, 3)), ("BATCH", 512)):
        monkeypatch.setattr(example, setting, value)
    picture = example.make_picture()
    start, step = example.make_fit(picture, name)
    key = jax.random.key(1)

    @jax.jit
    def run(state):
        return jax.lax.fori_loop(0, 100, lambda _, state: step(state, picture, key), state)

    fitted = example.reconstruct(run(start(jax.random.key(0))).params)
    # no constant picture can do better than this one
    flat = jnp.broadcast_to(jnp.mean(picture, axis=(0, 1)), picture.shape)
    assert psnr(fitted, picture) > psnr(flat, picture)
