"""The built-in humanoid: 23 hinges, the mass and proportions of a person of 1.70 m and 62 kg.

Segment lengths are shares of stature (Winter 2009, table 4.1), segment masses shares of body mass
(de Leva 1996, men). Joints have the names, axes and order of the Unitree G1 without its wrists, so
that a motion made of joint curves fits both. Ankles are about as stiff as those of a standing
person: enough to stand still by itself, not enough to be pushed.
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

from typing import NamedTuple

import mujoco

from .description import CollisionSet, Motor, Robot, RobotDescription, build_robot

Vector = tuple[float | int, float | int, float | int]
STATURE = 1.70
MASS = 62.0

_SIDES = (("left", 1.0), ("right", -1.0))
_X, _Y, _Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


class _Joint(NamedTuple):
    name: str
    axis: Vector
    low: float
    high: float


_HIP = (
    _Joint("hip_pitch", _Y, -2.2, 0.7),
    _Joint("hip_roll", _X, -0.5, 0.9),
    _Joint("hip_yaw", _Z, -0.9, 0.9),
)
_KNEE = (_Joint("knee", _Y, -0.05, 2.5),)
_ANKLE = (_Joint("ankle_pitch", _Y, -0.9, 0.7), _Joint("ankle_roll", _X, -0.4, 0.4))
_WAIST = (
    _Joint("waist_yaw", _Z, -1.0, 1.0),
    _Joint("waist_roll", _X, -0.5, 0.5),
    _Joint("waist_pitch", _Y, -0.4, 1.0),
)
_SHOULDER = (
    _Joint("shoulder_pitch", _Y, -3.0, 1.2),
    _Joint("shoulder_roll", _X, -0.4, 3.0),
    _Joint("shoulder_yaw", _Z, -1.5, 1.5),
)
_ELBOW = (_Joint("elbow", _Y, -2.4, 0.1),)

DESCRIPTION = RobotDescription(
    name="humanoid",
    tracked_bodies=(
        "pelvis",
        *(f"{side}_{part}" for side, _ in _SIDES for part in ("thigh", "shin", "foot")),
        "torso",
        *(f"{side}_{part}" for side, _ in _SIDES for part in ("upper_arm", "forearm", "hand")),
    ),
    anchor="torso",
    end_effectors=("left_foot", "right_foot", "left_hand", "right_hand"),
    feet=("left_foot", "right_foot"),
    motors=(
        ("*hip*", Motor(stiffness=400.0, damping=25.0, effort=200.0, armature=0.06)),
        ("*knee*", Motor(stiffness=400.0, damping=25.0, effort=220.0, armature=0.06)),
        ("*ankle_pitch*", Motor(stiffness=450.0, damping=25.0, effort=140.0, armature=0.05)),
        ("*ankle_roll*", Motor(stiffness=300.0, damping=20.0, effort=90.0, armature=0.05)),
        ("waist*", Motor(stiffness=400.0, damping=25.0, effort=180.0, armature=0.06)),
        ("*shoulder*", Motor(stiffness=60.0, damping=4.5, effort=60.0, armature=0.015)),
        ("*elbow*", Motor(stiffness=45.0, damping=3.5, effort=45.0, armature=0.01)),
    ),
    default_pose=(
        ("*hip_pitch*", -0.2),
        ("*knee*", 0.4),
        ("*ankle_pitch*", -0.2),
        ("waist_pitch*", 0.06),
        ("left_shoulder_roll*", 0.15),
        ("right_shoulder_roll*", -0.15),
        ("*elbow*", -0.4),
    ),
)


def humanoid_robot(*, collision: CollisionSet = "feet") -> Robot:
    """Makes the built-in humanoid."""
    return build_robot(humanoid_spec(), DESCRIPTION, collision=collision)


def humanoid_spec() -> mujoco.MjSpec:
    """Builds the body model; the root's frame lies between the hips, 4 cm above them."""
    spec = mujoco.MjSpec()
    spec.modelname = "humanoid"
    spec.compiler.degree = False
    spec.worldbody.add_light(pos=[0, -2, 4], dir=[0, 0.4, -1], castshadow=True)
    pelvis = spec.worldbody.add_body(name="pelvis", pos=[0, 0, 0.53 * STATURE + 0.04])
    pelvis.add_freejoint(name="root")
    _capsule(pelvis, (0, -0.07, 0.0), (0, 0.07, 0.0), 0.09, 0.1117)
    for side, sign in _SIDES:
        _add_leg(pelvis, side, sign)
    torso = _body(pelvis, "torso", (0, 0, 0.10), _WAIST, "")
    _capsule(torso, (0, -0.05, 0.06), (0, 0.05, 0.06), 0.10, 0.1633)
    _capsule(torso, (0, -0.09, 0.25), (0, 0.09, 0.25), 0.11, 0.1596)
    torso.add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        pos=[0, 0, 0.51],
        size=[0.105, 0, 0],
        mass=0.0694 * MASS,
        rgba=_SKIN,
        group=3,
    )
    for side, sign in _SIDES:
        _add_arm(torso, side, sign)
    return spec


_SKIN = [0.75, 0.55, 0.42, 1.0]


def _add_leg(pelvis: mujoco.MjsBody, side: str, sign: float) -> None:
    thigh_length, shin_length = 0.245 * STATURE, 0.246 * STATURE
    thigh = _body(pelvis, f"{side}_thigh", (0, sign * 0.09, -0.04), _HIP, side)
    _capsule(thigh, (0, 0, -0.03), (0, 0, -thigh_length + 0.03), 0.065, 0.1416)
    shin = _body(thigh, f"{side}_shin", (0, 0, -thigh_length), _KNEE, side)
    _capsule(shin, (0, 0, -0.02), (0, 0, -shin_length + 0.04), 0.045, 0.0433)
    foot = _body(shin, f"{side}_foot", (0, 0, -shin_length), _ANKLE, side)
    sole, half_height = 0.039 * STATURE, 0.02
    foot.add_geom(
        name=f"{side}_sole",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[0.06, 0, half_height - sole],
        size=[0.125, 0.045, half_height],
        mass=0.0137 * MASS,
        rgba=_SKIN,
        group=3,
    )


def _add_arm(torso: mujoco.MjsBody, side: str, sign: float) -> None:
    upper_length, fore_length = 0.186 * STATURE, 0.146 * STATURE
    upper = _body(torso, f"{side}_upper_arm", (0, sign * 0.20, 0.33), _SHOULDER, side)
    _capsule(upper, (0, 0, -0.03), (0, 0, -upper_length + 0.02), 0.042, 0.0271)
    fore = _body(upper, f"{side}_forearm", (0, 0, -upper_length), _ELBOW, side)
    _capsule(fore, (0, 0, -0.02), (0, 0, -fore_length + 0.02), 0.034, 0.0162)
    hand = _body(fore, f"{side}_hand", (0, 0, -fore_length), (), side)
    _capsule(hand, (0, 0, -0.03), (0, 0, -0.10), 0.032, 0.0061)


def _body(
    parent: mujoco.MjsBody,
    name: str,
    pos: Vector,
    joints: tuple[_Joint, ...],
    side: str,
) -> mujoco.MjsBody:
    """Adds a body; sideways and turning joints of the right side are mirrored by their range."""
    body = parent.add_body(name=name, pos=list(pos))
    for joint in joints:
        low, high = joint.low, joint.high
        if side == "right" and joint.axis is not _Y:
            low, high = -high, -low
        prefix = f"{side}_" if side else ""
        body.add_joint(
            name=f"{prefix}{joint.name}_joint",
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=list(joint.axis),
            range=[low, high],
            limited=True,
        )
    return body


def _capsule(
    body: mujoco.MjsBody,
    start: Vector,
    end: Vector,
    radius: float,
    share: float,
) -> None:
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=[*start, *end],
        size=[radius, 0, 0],
        mass=share * MASS,
        rgba=_SKIN,
        group=3,
    )
