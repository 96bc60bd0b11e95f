import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scenes.rotations import look_at, matrix_from_quaternion, nearest_rotation, rigid


def test_quaternions_are_w_x_y_z_and_any_length():
    quaternions = np.random.default_rng(0).normal(size=(20, 4))
    expected = Rotation.from_quat(quaternions[:, [1, 2, 3, 0]]).as_matrix()
    np.testing.assert_allclose(matrix_from_quaternion(quaternions), expected, atol=1e-12)
    np.testing.assert_allclose(matrix_from_quaternion(3.0 * quaternions), expected, atol=1e-12)


@pytest.mark.parametrize("bad", [np.zeros(4), np.array([np.nan, 0, 0, 1])])
def test_quaternions_without_direction_are_refused(bad):
    with pytest.raises(ValueError, match="quaternion"):
        matrix_from_quaternion(bad)


def test_nearest_rotation_repairs_noise_and_reflections():
    rotation = Rotation.from_rotvec([0.3, -1.0, 0.4]).as_matrix()
    noisy = rotation + np.random.default_rng(1).normal(0, 1e-3, (3, 3))
    np.testing.assert_allclose(nearest_rotation(noisy), rotation, atol=5e-3)
    for matrix in (noisy, -rotation):
        repaired = nearest_rotation(matrix)
        np.testing.assert_allclose(repaired.T @ repaired, np.eye(3), atol=1e-12)
        assert np.linalg.det(repaired) == pytest.approx(1.0)


def test_look_at_faces_its_target_upright():
    origins = np.array([[3.0, 0.0, 1.0], [0.0, -2.0, 0.0], [0.0, 0.0, 5.0]])
    target = np.array([0.0, 0.0, 0.5])
    poses = look_at(origins, target, np.array([0.0, 0.0, 1.0]))
    for origin, pose in zip(origins, poses, strict=True):
        ahead = (target - origin) / np.linalg.norm(target - origin)
        np.testing.assert_allclose(-pose[:3, 2], ahead, atol=1e-12)
        np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
        assert pose[2, 0] == pytest.approx(0.0)  # the image's rows are level
    assert np.all(poses[:2, 2, 1] > 0)
    with pytest.raises(ValueError, match="stands on"):
        look_at(target, target, np.array([0.0, 0.0, 1.0]))


def test_rigid_applies_rotation_then_translation():
    rotation = Rotation.from_rotvec([0.0, 0.0, np.pi / 2]).as_matrix()
    pose = rigid(rotation, np.array([10.0, 0.0, 0.0]))
    np.testing.assert_allclose(pose @ [1.0, 0.0, 0.0, 1.0], [10.0, 1.0, 0.0, 1.0], atol=1e-12)
