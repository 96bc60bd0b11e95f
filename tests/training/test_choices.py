"""Commands spell choices out, to show their help without JAX: each flag offers what there is."""

import typing

import pytest

from motion.formats.npz_clip import JointOrder
from motion.physics import PhysicsName
from motion.quaternion_order import Order
from nerf import depth
from scenes.backgrounds import BACKGROUNDS
from training import motion_command, motion_tasks, nerf_command, voxels_command
from training.nerf_presets import PresetName
from training.view_command import ViewCommand
from training.voxels_config import GuidanceName


def words(choice):
    """The words of a Literal, which may be annotated and optional."""
    if typing.get_origin(choice) is typing.Literal:
        return set(typing.get_args(choice))
    parts = typing.get_args(choice)
    return set().union(*(words(part) for part in parts if typing.get_args(part)))


@pytest.mark.parametrize(
    ("choice", "owned"),
    [
        (nerf_command.BackgroundChoice, BACKGROUNDS),
        (nerf_command.PresetChoice, ("auto", *typing.get_args(PresetName))),
        (nerf_command.DepthChoice, depth.PRESETS),
        (motion_command.TaskChoice, motion_tasks.TASKS),
        (motion_command.PhysicsChoice, typing.get_args(PhysicsName)),
        (motion_command.OrderChoice, typing.get_args(Order)),
        (motion_command.JointOrderChoice, typing.get_args(JointOrder)),
        (voxels_command.GuidanceChoice, typing.get_args(GuidanceName)),
    ],
)
def test_a_flag_offers_what_there_is(choice, owned):
    assert words(choice) == set(owned)


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        (nerf_command.NerfCommand, ("background", "preset", "depth")),
        (
            motion_command.MotionCommand,
            ("task", "physics", "quaternion_order", "joint_order"),
        ),
        (voxels_command.VoxelsCommand, ("guidance",)),
        (ViewCommand, ("picture", "cameras")),
    ],
)
def test_the_help_shows_the_words_a_flag_takes(command, fields):
    hints = typing.get_type_hints(command, include_extras=True)
    for field in fields:
        shown = typing.get_args(hints[field])[1].metavar
        assert set(shown.strip("{}").split(",")) == words(hints[field]), field
