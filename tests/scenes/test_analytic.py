import jax
import numpy as np
import pytest

from scenes import analytic
from scenes.rays import view_rays
from scenes.solids import Solid, distance, intersect, outward_normal

rays_of_view = jax.jit(view_rays, static_argnums=(2, 3))


def random_rays(num, seed):
    rng = np.random.default_rng(seed)
    origins = rng.normal(size=(num, 3))
    origins = 4.0 * origins / np.linalg.norm(origins, axis=1, keepdims=True)
    targets = rng.uniform(-0.9, 0.9, (num, 3))
    ahead = targets - origins
    return origins, ahead / np.linalg.norm(ahead, axis=1, keepdims=True)


def inside(solid, points):
    """Membership straight from the definition; points are rows."""
    offset = points - np.array(solid.center)
    if solid.kind == "sphere":
        return np.sum(offset**2, axis=1) < solid.size[0] ** 2
    cos, sin = np.cos(solid.turn), np.sin(solid.turn)
    x, y = cos * offset[:, 0] + sin * offset[:, 1], -sin * offset[:, 0] + cos * offset[:, 1]
    return np.all(np.abs(np.stack([x, y, offset[:, 2]], 1)) < solid.size, axis=1)


@pytest.mark.parametrize(
    "solid",
    [
        Solid("sphere", (0.2, -0.1, 0.3), (0.5, 0, 0), (1, 1, 1)),
        Solid("box", (0.2, -0.1, 0.3), (0.5, 0.2, 0.4), (1, 1, 1), turn=0.7),
    ],
)
def test_distance_is_where_marching_enters(solid):
    origins, directions = random_rays(300, 0)
    depth = distance(solid, origins.T, directions.T)
    steps = np.linspace(2.0, 6.0, 2001)
    points = origins[:, None] + steps[:, None] * directions[:, None]
    member = inside(solid, points.reshape(-1, 3)).reshape(300, -1)
    marched = np.where(member.any(axis=1), steps[np.argmax(member, axis=1)], np.inf)
    grazes = (marched == np.inf) != (depth == np.inf)
    assert grazes.sum() <= 3
    hit = np.isfinite(depth) & ~grazes
    assert 20 < hit.sum() < 280
    np.testing.assert_allclose(depth[hit], marched[hit], atol=2.1e-3)


def test_disc_is_a_flat_circle():
    disc = Solid("disc", (0.0, 0.0, -0.5), (1.0, 0, 0), (1, 1, 1))
    origins = np.array([[0.0, 0.0, 2.0], [0.99, 0.0, 2.0], [1.01, 0.0, 2.0], [0.0, 0.0, -2.0]])
    down = np.tile([[0.0, 0.0, -1.0]], (4, 1))
    np.testing.assert_array_equal(distance(disc, origins.T, down.T), [2.5, 2.5, np.inf, np.inf])
    level = distance(disc, np.array([[-3.0, 0.0, 0.0]]).T, np.array([[1.0, 0.0, 0.0]]).T)
    assert level == np.inf


def test_rays_from_inside_see_the_far_wall():
    box = Solid("box", (0.0, 0.0, 0.0), (1.0, 2.0, 3.0), (1, 1, 1))
    ball = Solid("sphere", (0.0, 0.0, 0.0), (2.0, 0, 0), (1, 1, 1))
    up = np.array([[0.0], [0.0], [1.0]])
    assert distance(box, np.zeros((3, 1)), up) == 3.0
    assert distance(ball, np.zeros((3, 1)), up) == 2.0


@pytest.mark.parametrize("name", analytic.names())
def test_the_nearest_solid_wins_and_normals_face_the_ray(name):
    origins, directions = random_rays(2000, 1)
    origins[:, 2] = np.abs(origins[:, 2])
    directions = -origins / 4.0 + 0.1 * directions
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    scene = analytic.solids(name)
    all_depths = np.stack([distance(solid, origins.T, directions.T) for solid in scene])
    hit = intersect(scene, origins.T, directions.T)
    seen = np.isfinite(all_depths.min(axis=0))
    np.testing.assert_array_equal(hit.solid[seen], all_depths.argmin(axis=0)[seen])
    surface = analytic.trace(name, origins, directions)
    np.testing.assert_array_equal(surface.alpha, seen)
    np.testing.assert_allclose(surface.depth[seen], all_depths.min(axis=0)[seen])
    assert np.isnan(surface.depth[~seen]).all()
    np.testing.assert_allclose(np.linalg.norm(surface.normal[seen], axis=1), 1.0)
    assert np.all(np.sum(surface.normal[seen] * directions[seen], axis=1) < 1e-9)
    assert surface.color.min() >= 0
    assert surface.color.max() <= 1


def test_normals_are_the_slope_of_depth():
    """Moving the eye sideways by e changes the depth by -e.n / d.n on a flat face."""
    for solid in (s for name in analytic.names() for s in analytic.solids(name) if s.kind == "box"):
        direction = np.array([[0.3], [-0.5], [-0.8]]) / np.sqrt(0.98)
        origin = np.array(solid.center)[:, None] - 3.0 * direction
        depth = distance(solid, origin, direction)
        normal = outward_normal(solid, origin + depth * direction)
        shift = 1e-4 * np.array([[0.2], [0.7], [-0.4]])
        moved = distance(solid, origin + shift, direction) - depth
        expected = -np.sum(shift * normal) / np.sum(direction * normal)
        np.testing.assert_allclose(moved, expected, atol=1e-12)


@pytest.mark.parametrize("name", analytic.names())
def test_stored_depth_lies_on_the_surface(name):
    split = analytic.posed_images(name, num_train=2, num_test=1, size=20, supersampling=2)
    posed = split.train
    for view in range(2):
        rays = rays_of_view(posed.cameras, view, 20, 20)
        surface = analytic.trace(
            name,
            np.reshape(np.float64(rays.origins), (-1, 3)),
            np.reshape(np.float64(rays.directions), (-1, 3)),
        )
        depth = posed.depth[view].reshape(-1)
        agree = np.isnan(depth) == np.isnan(surface.depth)
        assert agree.mean() > 0.99
        known = agree & np.isfinite(depth)
        errors = np.abs(depth[known] - surface.depth[known])
        assert np.quantile(errors, 0.99) < 1e-4
        ends = rays.origins + posed.depth[view][..., None] * rays.directions
        points = np.asarray(ends).reshape(-1, 3)
        assert np.nanmin(points - analytic.AABB[0]) > 0
        assert np.nanmax(points - analytic.AABB[1]) < 0
        assert analytic.NEAR < np.nanmin(depth) < np.nanmax(depth) < analytic.FAR


def test_supersampling_is_the_mean_of_fine_pixels():
    fine = analytic.posed_images("spheres", num_train=1, num_test=1, size=60, supersampling=1)
    coarse = analytic.posed_images("spheres", num_train=1, num_test=1, size=20, supersampling=3)
    values = fine.train.images[0].astype(np.float64)
    values[..., :3] *= values[..., 3:] / 255
    expected = values.reshape(20, 3, 20, 3, 4).mean(axis=(1, 3))
    got = coarse.train.images[0].astype(np.float64)
    got[..., :3] *= got[..., 3:] / 255
    assert np.max(np.abs(got - expected)) < 1.1


def test_the_same_arguments_give_the_same_bytes(tiny):
    again = analytic.posed_images("blocks", num_train=3, num_test=2, num_val=2, size=24, seed=5)
    np.testing.assert_array_equal(again.train.images, tiny.train.images)
    other = analytic.posed_images("blocks", num_train=3, num_test=2, num_val=2, size=24, seed=6)
    assert not np.array_equal(other.train.images, tiny.train.images)
    assert not np.array_equal(tiny.train.images[:2], tiny.test.images)


def test_cameras_stand_on_the_upper_hemisphere():
    poses = analytic.hemisphere(64, seed=3)
    origins = poses[:, :3, 3]
    np.testing.assert_allclose(np.linalg.norm(origins, axis=1), analytic.RADIUS)
    assert origins[:, 2].min() > 0
    np.testing.assert_allclose(-poses[:, :3, 2], -origins / analytic.RADIUS, atol=1e-12)
    azimuth = np.arctan2(origins[:, 1], origins[:, 0])
    assert np.all(np.histogram(azimuth, bins=4, range=(-np.pi, np.pi))[0] >= 12)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="spheres, blocks, detail"):
        analytic.posed_images("lego")
    with pytest.raises(ValueError, match="num_test must be at least 1, got 0"):
        analytic.posed_images("spheres", num_test=0)
    with pytest.raises(ValueError, match="num_val must not be negative, got -1"):
        analytic.posed_images("spheres", num_val=-1)
    with pytest.raises(ValueError, match="supersampling must be at least 1, got 0"):
        analytic.posed_images("spheres", supersampling=0)
