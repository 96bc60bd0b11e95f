"""An accelerator gives what the CPU gives: `make test-gpu`, on a machine that has one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from motion.robots import humanoid_robot
from motion.tree_kinematics import bodies_at, tree_of
from samplers import pyramid, pyramid_write
from samplers.masked_tiles import MaskedTiles, allow
from samplers.tiles import TileGrid
from scenes.cameras import Cameras
from scenes.rays import view_rays
from tests.voxels.examples import EYES, pinhole, random_cells
from voxels.rendering.first_hit import HitConfig, find_hits
from voxels.rendering.images import ON_ACCELERATORS
from voxels.rendering.ray_march import MarchConfig, composite_march

pytestmark = pytest.mark.gpu
SHAPE = (9, 6, 7)


@pytest.fixture(autouse=True)
def accelerator():
    if jax.default_backend() == "cpu":
        pytest.skip("JAX finds no accelerator")


def on_both(function, *arguments):
    """What a function gives on the default device and on the CPU."""
    results = []
    for device in (jax.devices()[0], jax.devices("cpu")[0]):
        with jax.default_device(device):
            placed = jax.device_put(arguments, device)
            results.append(jax.device_get(jax.jit(function)(*placed)))
    return results


def view_of_cells():
    logits, probs, lit = random_cells(2, SHAPE)
    eye, centre = EYES["outside"]
    _, _, directions = pinhole(eye, centre, 24, 28, 24.0)
    return [jnp.asarray(x, jnp.float32) for x in (logits, probs, lit, np.array(eye), directions)]


def test_draws_and_writes_of_a_pyramid():
    weights = np.random.default_rng(0).random(5000).astype(np.float32)

    def step(weights, key):
        tree = pyramid.build(weights, fan_out=16)
        index, probs = pyramid.draw(key, tree, 4096)
        tree = pyramid_write.write(tree, index, jnp.ones(4096))
        return index, probs, pyramid.total(tree)

    (index, probs, total), (wanted, wanted_probs, wanted_total) = on_both(
        step, weights, jax.random.key(1)
    )
    same = index == wanted  # sums of another order may move a draw to its neighbour
    assert same.mean() > 0.995
    np.testing.assert_allclose(probs[same], wanted_probs[same], rtol=1e-5)
    np.testing.assert_allclose(total, wanted_total, rtol=1e-2)


def test_counts_of_masked_tiles_are_whole_numbers():
    grid = TileGrid(num_views=2, rows=300, cols=260, tile=64)
    mask = np.random.default_rng(0).random((2, 300, 260)) < 0.7
    number = jnp.tile(jnp.arange(grid.num_tiles), 50)
    words = jax.random.bits(jax.random.key(1), (2, number.size), jnp.uint32)

    def pixels(mask, number, words):
        return MaskedTiles(grid, allow(grid, mask)).pixel_inside(number, words)

    got, wanted = on_both(pixels, jnp.asarray(mask), number, words)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", ["solid", "beer"])
def test_images_and_slopes_of_fogs(mode):
    march = functools.partial(composite_march, MarchConfig(mode=mode, **ON_ACCELERATORS))

    def both(logits, probs, lit, eye, directions):
        def loss(logits, probs, lit):
            out = march(logits, probs, lit, eye, directions)
            return jnp.sum(out.features**2) + jnp.sum(out.depth), out.features

        return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(logits, probs, lit)

    ((_, image), slopes), ((_, wanted), wanted_slopes) = on_both(both, *view_of_cells())
    np.testing.assert_allclose(image, wanted, atol=1e-5)
    for a, b in zip(slopes, wanted_slopes, strict=True):
        assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(b)


def test_first_hits():
    logits, _, _, eye, directions = view_of_cells()
    search = functools.partial(find_hits, HitConfig(shape=SHAPE, **ON_ACCELERATORS))
    hits, wanted = on_both(search, logits > 0, eye, directions)
    same = hits.cell == wanted.cell  # rays within rounding of an edge may show either face
    assert same.mean() > 0.99
    np.testing.assert_allclose(hits.t_in[same], wanted.t_in[same], rtol=1e-4, atol=1e-4)


def test_rays_of_cameras():
    pose = np.eye(4, dtype=np.float32)[None]
    pose[0, :3, :3] = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    cameras = Cameras(
        camera_to_world=pose,
        focal=np.array([[700.0, 710.0]], np.float32),
        principal=np.array([[320.0, 240.0]], np.float32),
        distortion=np.zeros((1, 8), np.float32),
    )

    def directions(cameras):
        return view_rays(cameras, 0, 480, 640).directions

    got, wanted = on_both(directions, cameras)
    np.testing.assert_allclose(got, wanted, atol=2e-6)  # a pixel is 1.4e-3


def test_bodies_of_robots():
    robot = humanoid_robot()
    random = np.random.default_rng(0)
    qpos = random.normal(size=(64, robot.model.nq)).astype(np.float32)
    qvel = random.normal(size=(64, robot.model.nv)).astype(np.float32)
    got, wanted = on_both(functools.partial(bodies_at, tree_of(robot)), qpos, qvel)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
