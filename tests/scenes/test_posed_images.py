import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenes import posed_images as pi
from scenes.backgrounds import compose, composite
from scenes.rotations import nearest_rotation, rigid

gather = jax.jit(pi.gather)


def places(shape, num, seed):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, size, num).astype(np.int32) for size in shape[:3])


def test_gather_is_numpy_indexing_and_keeps_the_type(tiny):
    view, row, col = places(tiny.train.images.shape, 50, 0)
    got = gather(tiny.train.images, view, row, col)
    assert got.dtype == jnp.uint8
    np.testing.assert_array_equal(got, tiny.train.images[view, row, col])
    np.testing.assert_array_equal(
        gather(tiny.train.depth, view, row, col), tiny.train.depth[view, row, col]
    )


def test_where_one_split_has_alpha_all_get_it(tiny):
    opaque = tiny.train._replace(images=tiny.train.images[..., :3])
    assert tiny.test.images.shape[-1] == 4
    mixed = pi.validate_splits(tiny._replace(train=opaque))
    np.testing.assert_array_equal(mixed.train.images[..., :3], opaque.images)
    assert np.all(mixed.train.images[..., 3] == 255)
    np.testing.assert_array_equal(mixed.test.images, tiny.test.images)
    flat = pi.validate_splits(
        tiny._replace(
            train=opaque, test=tiny.test._replace(images=tiny.test.images[..., :3]), val=None
        )
    )
    assert flat.train is opaque


def test_gather_clamps_indices_to_the_border(tiny):
    images = tiny.train.images
    far = np.array([-5, 1000], np.int32)
    got = gather(images, far, far, far)
    np.testing.assert_array_equal(got, [images[0, 0, 0], images[-1, -1, -1]])


def test_gather_at_reads_the_pixel_that_contains_the_point(tiny):
    view, row, col = places(tiny.train.images.shape, 50, 1)
    inside = np.random.default_rng(2).uniform(0.01, 0.99, (50, 2))
    xy = (np.stack([col, row], axis=-1) + inside).astype(np.float32)
    got = pi.gather_at(jnp.asarray(tiny.train.images), jnp.asarray(view), jnp.asarray(xy))
    np.testing.assert_array_equal(got, tiny.train.images[view, row, col])


def test_sloped_value_is_that_of_the_pixel_anywhere_in_it(tiny):
    view, row, col = places(tiny.train.images.shape, 60, 4)
    inside = np.random.default_rng(3).uniform(0.01, 0.99, (60, 2))
    xy = (np.stack([col, row], axis=-1) + inside).astype(np.float32)
    color = jnp.array([0.1, 0.4, 0.8])
    got = compose(jax.jit(pi.gather_sloped)(tiny.train.images, view, xy), color)
    expected = composite(gather(tiny.train.images, view, row, col), color)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_slope_is_the_central_difference_of_the_premultiplied_picture(tiny):
    images = tiny.train.images[:1]
    color, alpha = images[0, ..., :3] / 255.0, images[0, ..., 3:] / 255.0
    picture = np.pad(
        np.concatenate([color * alpha, alpha], axis=-1), ((1, 1), (1, 1), (0, 0)), "edge"
    )
    expected_x = (picture[1:-1, 2:] - picture[1:-1, :-2]) / 2
    expected_y = (picture[2:, 1:-1] - picture[:-2, 1:-1]) / 2
    rows, cols = np.indices(images.shape[1:3]).reshape(2, -1)
    xy = jnp.asarray(np.stack([cols, rows], axis=-1) + 0.5, jnp.float32)
    view = jnp.zeros(len(xy), jnp.int32)
    slope = jax.vmap(jax.jacobian(lambda at, v: pi.gather_sloped(jnp.asarray(images), v, at)))(
        xy, view
    )
    np.testing.assert_allclose(slope[..., 0], expected_x[rows, cols], atol=1e-6)
    np.testing.assert_allclose(slope[..., 1], expected_y[rows, cols], atol=1e-6)


def test_pixels_stay_uint8_on_the_device(tiny):
    pixels = pi.to_device(tiny.train)
    assert pixels.images.dtype == jnp.uint8
    assert pixels.cameras.focal.dtype == jnp.float32
    assert pixels.masks is None
    assert pixels.depth is not None


def test_to_world_undoes_the_similarity(tiny):
    rotation = nearest_rotation(np.random.default_rng(5).normal(size=(3, 3)))
    transform = rigid(2.5 * rotation, np.array([1.0, -2.0, 3.0]))
    split = tiny._replace(world_from_scene=transform)
    points = np.random.default_rng(6).normal(size=(7, 3))
    expected = np.concatenate([points, np.ones((7, 1))], axis=1) @ transform.T
    np.testing.assert_allclose(pi.to_world(split, points), expected[:, :3], atol=1e-12)
    assert pi.world_scale(split) == pytest.approx(2.5)


def broken(field, value):
    def spoil(posed):
        return posed._replace(**{field: value(posed)})

    return spoil


def broken_camera(field, index, value):
    def spoil(posed):
        array = np.array(getattr(posed.cameras, field))
        array[index] = value
        return posed._replace(cameras=posed.cameras._replace(**{field: array}))

    return spoil


REFLECTED = np.diag([1.0, 1.0, -1.0, 1.0])
BAD = {
    "no views": (broken("images", lambda p: p.images[:0]), "scene: images must not be empty"),
    "no pixels": (broken("images", lambda p: p.images[:, :0]), "images must have pixels"),
    "floats": (broken("images", lambda p: p.images / 255.0), "images must be uint8, got float64"),
    "one channel": (broken("images", lambda p: p.images[..., :1]), "images must be RGB or RGBA"),
    "names": (broken("names", lambda p: p.names[:1]), "names must be 3, got 1"),
    "far": (broken("far", lambda p: p.near), "near, far must satisfy"),
    "nan near": (broken("near", lambda p: float("nan")), "near, far must satisfy"),
    "box": (broken("aabb", lambda p: p.aabb[::-1]), "aabb must have its lower corner"),
    "depth shape": (broken("depth", lambda p: p.depth[:, 1:]), "depth must be"),
    "depth sign": (broken("depth", lambda p: 0 * p.depth), "depth must be positive"),
    "mask shape": (broken("masks", lambda p: np.ones((3, 1, 1), bool)), "masks must be"),
    "mask empty": (broken("masks", lambda p: np.zeros((3, 24, 24), bool)), "masks leave no pixel"),
    "nan pose": (
        broken_camera("camera_to_world", (1, 0, 0), np.nan),
        "camera_to_world must be finite, view train/001",
    ),
    "scaled pose": (
        broken_camera("camera_to_world", (2, slice(3), 0), 0.3),
        "camera_to_world of train/002 must have an orthonormal rotation",
    ),
    "reflection": (broken_camera("camera_to_world", 0, REFLECTED), "must be right-handed"),
    "last row": (broken_camera("camera_to_world", (0, 3, 0), 0.5), "must end in the row 0 0 0 1"),
    "focal": (broken_camera("focal", (0, 1), 0.0), "focal must be positive"),
    "distortion": (broken_camera("distortion", (0, 0), np.inf), "distortion must be finite"),
}


@pytest.mark.parametrize("case", BAD)
def test_validation_names_scene_field_and_problem(tiny, case):
    spoil, message = BAD[case]
    train = spoil(tiny.train)
    check = inspect.unwrap(pi.validate)  # without the run-time types of the tests
    with pytest.raises(ValueError, match=message) as caught:
        check(train, "scene")
    assert str(caught.value).startswith("scene: ")


def test_validation_of_splits_names_the_split(tiny):
    spoiled = tiny._replace(val=tiny.val._replace(far=0.0))
    with pytest.raises(ValueError, match="synthetic:blocks: val: near, far"):
        pi.validate_splits(spoiled)
    assert pi.validate_splits(tiny).train is tiny.train
