"""A description for a robot that came without one, from its names, tree and actuators."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

import fnmatch
import math

import mujoco
import numpy as np

from .description import Motor, RobotDescription, tuned_motor

_TRACKED = ("hip_roll", "knee", "ankle_roll", "torso", "shoulder_roll", "elbow", "wrist_yaw")
_FEWEST_TRACKED, _MOST_TRACKED = 6, 32
_FEET = ("*foot*", "*ankle_roll*", "*ankle*", "*toe*")
_ANCHORS = ("*torso*", "*chest*", "*trunk*", "*waist*")
_STANDING_KEYS = ("home", "stand", "default", "knees_bent")
_OR_DESCRIBE = "or describe the robot from Python: load_robot(description=...)"


def infer_description(spec: mujoco.MjSpec, name: str) -> RobotDescription:
    """Describes a robot by its file alone.

    Feet are bodies so named at the ends of the tree, end effectors the other ends as well (a head
    apart), the anchor is the torso or else the root. Motors take stiffness and damping from
    position actuators, else from the joint's armature; effort from the joint's, the actuator's or
    the motor's range. The default pose is the keyframe called home or stand, else the first.
    Tracked are bodies named as those of a humanoid usually are, or all with joints where few are.
    Raises:
      ValueError: when feet, or a joint's stiffness, cannot be found, or too many bodies would be
        tracked; says which, and what to change in the file.
    """
    bodies = _tree(spec)
    names = [body.name for body in bodies]
    ends = [body.name for body in bodies if not body.bodies and "head" not in body.name]
    feet = _first_match(_FEET, ends)
    if not feet:
        raise ValueError(
            f"cannot tell which bodies are feet: none of {', '.join(ends)} is called foot, ankle "
            f"or toe; name them so in the file, {_OR_DESCRIBE}"
        )
    tracked = [n for n in names if any(part in n.lower() for part in _TRACKED)]
    if len(tracked) < _FEWEST_TRACKED:
        tracked = [n for n, body in zip(names, bodies, strict=True) if body.joints]
    hands = [n for n in ends if n in tracked and n not in feet]
    chosen = {names[0], *feet, *tracked}
    order = tuple(n for n in names if n in chosen)
    if len(order) > _MOST_TRACKED:
        raise ValueError(
            f"{len(order)} bodies to track are more than {_MOST_TRACKED}; give {_FEWEST_TRACKED} "
            "or more in the file, and those alone, names with one of "
            f"{', '.join(_TRACKED)}, {_OR_DESCRIBE}"
        )
    anchors = _first_match(_ANCHORS, order)
    return RobotDescription(
        name=name,
        tracked_bodies=order,
        anchor=anchors[0] if anchors else names[0],
        end_effectors=(*feet, *hands),
        feet=tuple(feet),
        motors=tuple((j.name, _motor(spec, j)) for j in spec.joints if _is_hinge(j)),
        default_pose=_default_pose(spec),
    )


def _tree(spec: mujoco.MjSpec) -> list[mujoco.MjsBody]:
    """The bodies that hang on the free joint, parents first; a table beside them is scenery."""
    free = mujoco.mjtJoint.mjJNT_FREE
    roots = [body for body in spec.bodies if any(joint.type == free for joint in body.joints)]
    if not roots:
        raise ValueError("the file has no body with a free joint")
    return [roots[0], *roots[0].find_all(mujoco.mjtObj.mjOBJ_BODY)]


def _first_match(patterns: tuple[str, ...], names: list[str] | tuple[str, ...]) -> list[str]:
    for pattern in patterns:
        found = [name for name in names if fnmatch.fnmatchcase(name.lower(), pattern)]
        if found:
            return found
    return []


def _is_hinge(joint: mujoco.MjsJoint) -> bool:
    return joint.type == mujoco.mjtJoint.mjJNT_HINGE


def _motor(spec: mujoco.MjSpec, joint: mujoco.MjsJoint) -> Motor:
    actuator = next((a for a in spec.actuators if a.target == joint.name), None)
    effort = _largest(joint.actfrcrange)
    if actuator is not None:
        gear = abs(actuator.gear[0]) or 1.0
        if not math.isfinite(effort):
            effort = _largest(actuator.forcerange) * gear
        is_servo = actuator.biastype == mujoco.mjtBias.mjBIAS_AFFINE and actuator.biasprm[1] < 0
        if is_servo:
            # the length an actuator sees and the force it exerts are both multiplied by the gear
            stiffness = float(actuator.gainprm[0]) * gear**2
            damping = _servo_damping(spec, actuator) * gear**2 + float(np.max(joint.damping))
            if stiffness > 0:
                return Motor(
                    stiffness=stiffness,
                    damping=damping,
                    effort=effort,
                    armature=float(joint.armature),
                )
        elif not math.isfinite(effort):
            effort = _largest(actuator.ctrlrange) * float(actuator.gainprm[0]) * gear
    if joint.armature > 0:
        return tuned_motor(float(joint.armature), effort)
    raise ValueError(
        f"joint {joint.name} has neither a position actuator nor an armature, so its stiffness is "
        f"unknown; give it a <position> actuator with kp and kv, or an armature, {_OR_DESCRIBE}"
    )


def _servo_damping(spec: mujoco.MjSpec, actuator: mujoco.MjsActuator) -> float:
    """Damping of a position actuator; given as a ratio to the critical one, MuJoCo works it out."""
    if actuator.biasprm[2] <= 0:
        return -float(actuator.biasprm[2])
    try:
        model = spec.copy().compile()
    except ValueError as error:
        raise ValueError(
            f"actuator {actuator.name or actuator.target} has a dampratio, and the file does not "
            f"compile without its meshes ({error}); give it kv instead, {_OR_DESCRIBE}"
        ) from error
    number = [other.target for other in spec.actuators].index(actuator.target)
    return -float(model.actuator_biasprm[number][2])


def _largest(limits: np.ndarray) -> float:
    largest = float(np.max(np.abs(limits)))
    return largest if largest > 0 else math.inf


def _default_pose(spec: mujoco.MjSpec) -> tuple[tuple[str, float], ...]:
    keys = list(spec.keys)
    hinges = [joint.name for joint in spec.joints if _is_hinge(joint)]
    usable = [key for key in keys if len(key.qpos) == 7 + len(hinges)]
    named = [key for key in usable if key.name in _STANDING_KEYS]
    pose: tuple[tuple[str, float], ...] = ()
    for key in (named or usable)[:1]:
        pose = tuple((n, float(v)) for n, v in zip(hinges, list(key.qpos)[7:], strict=True))
    return pose
