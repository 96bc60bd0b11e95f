"""The Unitree G1 with 29 joints: bodies, motors and default pose of the tracking task.

Source: BeyondMimic (Liao et al. 2025): armatures of the four motors, their effort limits, the
default pose and the 14 tracked bodies. Ankles and waist roll and pitch have two motors in parallel.
"""

from .description import RobotDescription, tuned_motor

_SMALL = tuned_motor(0.003609725, 25.0)
_MEDIUM = tuned_motor(0.01017752004, 88.0)
_LARGE = tuned_motor(0.025101925, 139.0)
_WRIST = tuned_motor(0.00425, 5.0)
_PAIR = tuned_motor(0.003609725, 25.0, count=2)

DESCRIPTION = RobotDescription(
    name="g1",
    tracked_bodies=(
        "pelvis",
        "left_hip_roll_link",
        "left_knee_link",
        "left_ankle_roll_link",
        "right_hip_roll_link",
        "right_knee_link",
        "right_ankle_roll_link",
        "torso_link",
        "left_shoulder_roll_link",
        "left_elbow_link",
        "left_wrist_yaw_link",
        "right_shoulder_roll_link",
        "right_elbow_link",
        "right_wrist_yaw_link",
    ),
    anchor="torso_link",
    end_effectors=(
        "left_ankle_roll_link",
        "right_ankle_roll_link",
        "left_wrist_yaw_link",
        "right_wrist_yaw_link",
    ),
    feet=("left_ankle_roll_link", "right_ankle_roll_link"),
    motors=(
        ("*_hip_pitch_joint", _MEDIUM),
        ("*_hip_yaw_joint", _MEDIUM),
        ("waist_yaw_joint", _MEDIUM),
        ("*_hip_roll_joint", _LARGE),
        ("*_knee_joint", _LARGE),
        ("*_ankle_*_joint", _PAIR),
        ("waist_*_joint", _PAIR),
        ("*_wrist_pitch_joint", _WRIST),
        ("*_wrist_yaw_joint", _WRIST),
        ("*_shoulder_*_joint", _SMALL),
        ("*_elbow_joint", _SMALL),
        ("*_wrist_roll_joint", _SMALL),
    ),
    default_pose=(
        ("*_hip_pitch_joint", -0.312),
        ("*_knee_joint", 0.669),
        ("*_ankle_pitch_joint", -0.363),
        ("*_elbow_joint", 0.6),
        ("left_shoulder_roll_joint", 0.2),
        ("right_shoulder_roll_joint", -0.2),
        ("*_shoulder_pitch_joint", 0.2),
    ),
)

LIMITS = {"right_hip_roll_joint": (-2.9671, 0.5236)}
"""Limits the model file has wrong: it gives the right hip the left one's, not mirrored."""
