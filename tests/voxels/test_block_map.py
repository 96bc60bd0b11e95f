"""Maps on the host: faces, counts, differences."""

import numpy as np
import pytest

from voxels.block_map import compare_maps, exposed_faces, make_map, map_statistics, origin
from voxels.procedural import WorldConfig, look_at, make_world, orbit_cameras


def test_exposed_faces_of_two_touching_blocks():
    blocks = np.zeros((3, 1, 1), int)
    blocks[:2] = 1
    faces = exposed_faces(blocks)
    assert faces.sum() == 10
    assert not faces[0, 0, 0, 0]  # the shared face, from below
    assert not faces[1, 0, 0, 1]  # and from above
    assert not faces[2].any()


def test_statistics_of_a_solid_cube_count_its_shell():
    numbers = map_statistics(make_map(np.ones((4, 4, 4), int), ("Stone", "Dirt")))
    assert numbers == (64, 1.0, 64 - 8, {"Stone": 1.0, "Dirt": 0.0})


def test_comparison_counts_every_kind_of_change():
    before = make_map(np.array([0, 1, 1, 2]).reshape(4, 1, 1), ("Stone", "Dirt"))
    after = make_map(np.array([1, 0, 2, 2]).reshape(4, 1, 1), ("Stone", "Dirt"))
    difference = compare_maps(before, after)
    assert difference[:3] == (1, 1, 1)
    assert difference.solid_iou == 0.5
    assert compare_maps(before, before).solid_iou == 1.0
    with pytest.raises(ValueError, match="same size"):
        compare_maps(before, make_map(np.zeros((1, 1, 1), int), ("Stone", "Dirt")))


def test_worlds_stand_on_the_ground_centred():
    np.testing.assert_array_equal(origin((4, 9, 6), 2.0), [-4, 0, -6])


@pytest.mark.parametrize(
    ("materials", "scale"), [(np.full((1, 1, 1), 9), 1.0), (np.zeros((1, 1, 1), int), 0.0)]
)
def test_impossible_maps_are_refused(materials, scale):
    with pytest.raises(ValueError, match="must"):
        make_map(materials, ("Stone",), scale)


def test_procedural_worlds_repeat_and_hold_what_was_asked_for():
    config = WorldConfig(shape=(16, 12, 20), num_houses=2, num_towers=1)
    world = make_world(config, 3)
    np.testing.assert_array_equal(world.materials, make_world(config, 3).materials)
    assert (world.materials != make_world(config, 4).materials).any()
    assert {"Plank", "Stone", "Water"} <= {
        name for name, share in map_statistics(world).material_share.items() if share > 0
    }
    with pytest.raises(ValueError, match="4 cells"):
        WorldConfig(shape=(2, 8, 8))


def test_orbit_cameras_see_the_whole_world():
    from scenes.cameras import project

    config = WorldConfig(shape=(8, 6, 10), scale=1.5)
    cameras = orbit_cameras(config, 6, 40, 50, seed=0)
    corners = np.array(
        [[x, y, z] for x in (-6, 6) for y in (0, 9) for z in (-7.5, 7.5)], np.float32
    )
    for view in range(6):
        xy, depth = project(cameras, np.full(8, view), corners)
        assert (np.asarray(depth) > 0).all()
        assert (np.asarray(xy) > -1).all()
        assert (np.asarray(xy) < [51, 41]).all()


def test_cameras_stand_upright_and_look_down_with_minus_z_up():
    level = look_at(np.array([0.0, 1.0, 4.0]), np.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(level[:3, :3], np.eye(3), atol=1e-12)
    down = look_at(np.array([2.0, 5.0, 1.0]), np.array([2.0, 0.0, 1.0]))
    np.testing.assert_allclose(-down[:3, 2], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(down[:3, 1], [0, 0, -1], atol=1e-12)
    with pytest.raises(ValueError, match="stands on"):
        look_at(np.ones(3), np.ones(3))
