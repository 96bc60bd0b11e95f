"""A figure has no holes: at every height from the floor to its head something is drawn."""

import mujoco
import numpy as np
import pytest

from motion.formats.mjcf import load_robot
from training.motion_pictures import Figure, beside


@pytest.mark.parametrize("name", ["humanoid", "g1"])
def test_figure_stands_on_the_floor_and_has_no_holes(name):
    try:
        robot = load_robot(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    pose = np.array(robot.model.qpos0)
    pose[2] = robot.default_root_height
    segments, radii = Figure(robot).segments(pose)
    heights = np.sort(segments[..., 2], axis=1) + np.stack([-radii, radii], axis=1)
    heights = heights[np.argsort(heights[:, 0])]
    top_so_far = np.maximum.accumulate(heights[:, 1])
    assert abs(heights[0, 0]) < 0.06
    assert np.all(heights[1:, 0] <= top_so_far[:-1] + 0.08)  # a neck is not drawn
    assert top_so_far[-1] > 1.3 * robot.default_root_height


@pytest.mark.parametrize("name", ["humanoid", "g1"])
def test_the_middle_of_every_heavy_body_is_drawn(name):
    try:
        robot = load_robot(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    model, data = robot.model, mujoco.MjData(robot.model)
    mujoco.mj_kinematics(model, data)
    segments, radii = Figure(robot).segments(np.array(data.qpos))
    along = segments[:, 1] - segments[:, 0]
    for body in np.flatnonzero(model.body_mass > 0.1 * model.body_mass.sum()):
        middle = data.xipos[body]
        place = np.sum((middle - segments[:, 0]) * along, axis=1)
        place = np.clip(place / np.maximum(np.sum(along**2, axis=1), 1e-12), 0, 1)
        nearest = segments[:, 0] + place[:, None] * along
        assert np.min(np.linalg.norm(nearest - middle, axis=1) - radii) < 0.01


@pytest.mark.parametrize("jump", [0.0, 0.9])
def test_a_film_shows_all_of_a_pose_however_high(jump):
    robot = load_robot("humanoid")
    poses = np.array(robot.model.qpos0)[None].repeat(2, axis=0)
    poses[:, 2] = robot.default_root_height
    poses[1, 2] += jump
    _, picture = beside(Figure(robot), poses, poses, [True, True])
    is_drawn = np.any(picture < 200, axis=(1, 2))
    assert not np.any(is_drawn[:4])
    assert np.argmax(is_drawn) < 120  # it does not shrink for nothing
