"""A robot small enough to compile in seconds, and a bank of made-up motion for it."""

import mujoco
import numpy as np

from motion.clips import Clip, build_clip_bank
from motion.robots import Motor, RobotDescription, build_robot

DESCRIPTION = RobotDescription(
    name="tiny",
    tracked_bodies=("base", "left_leg", "right_leg"),
    anchor="base",
    end_effectors=("left_leg", "right_leg"),
    feet=("left_leg", "right_leg"),
    motors=(("*", Motor(stiffness=40.0, damping=3.0, effort=30.0, armature=0.01)),),
    default_pose=(("left*", 0.1), ("right*", -0.1)),
)


def tiny_spec():
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    base = spec.worldbody.add_body(name="base", pos=[0, 0, 0.5])
    base.add_freejoint(name="root")
    base.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[0, -0.1, 0, 0, 0.1, 0.02], size=[0.06, 0, 0]
    )
    for side, sign in (("left", 1.0), ("right", -1.0)):
        leg = base.add_body(name=f"{side}_leg", pos=[0.01, sign * 0.12, -0.02])
        leg.add_joint(
            name=f"{side}_joint",
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[0, 1, 0],
            range=[-1.0, 1.0],
            limited=True,
        )
        leg.add_geom(
            name=f"{side}_foot",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            pos=[0.05, 0, -0.3],
            size=[0.05, 0, 0],
        )
    return spec


def tiny_robot(**options):
    return build_robot(tiny_spec(), DESCRIPTION, num_substeps=2, **options)


def swaying_clip(robot, name="sway", seconds=2.0, fps=50.0):
    """Stands and sways: every joint and the root move a little, smoothly."""
    time = np.arange(round(seconds * fps) + 1) / fps
    phase = 2 * np.pi * 0.5 * time
    root = np.stack([0.02 * np.sin(phase), 0.01 * np.cos(phase), np.zeros_like(time)], axis=1)
    root[:, 2] += robot.default_root_height
    yaw = 0.1 * np.sin(phase)
    quaternion = np.stack([np.cos(yaw / 2), 0 * yaw, 0 * yaw, np.sin(yaw / 2)], axis=1)
    joints = robot.default_joint_position + 0.1 * np.sin(
        phase[:, None] + np.arange(robot.num_joints)
    )
    return Clip(name, fps, robot.joint_names, root, quaternion, joints)


def tiny_bank(robot, seconds=(2.0, 1.0)):
    clips = [swaying_clip(robot, f"sway{i}", s) for i, s in enumerate(seconds)]
    return build_clip_bank(robot, clips, control_rate=robot.control_rate)


def random_physical(generator, robot, count):
    """Makes states of no particular robot: every field is independent, as terms must not care."""

    def unit(*shape):
        q = generator.normal(size=(*shape, 4))
        return q / np.linalg.norm(q, axis=-1, keepdims=True)

    bodies = len(robot.tracked_bodies)
    qpos = np.concatenate(
        [
            generator.normal(size=(count, 3)),
            unit(count),
            generator.normal(size=(count, robot.num_joints)),
        ],
        axis=1,
    )
    return {
        "qpos": qpos,
        "qvel": generator.normal(size=(count, 6 + robot.num_joints)),
        "position": generator.normal(size=(count, bodies, 3)) * 0.3,
        "quaternion": unit(count, bodies),
        "linear_velocity": generator.normal(size=(count, bodies, 3)),
        "angular_velocity": generator.normal(size=(count, bodies, 3)),
    }
