"""What a robot is to the tracking task, and how a body model becomes one.

A `RobotDescription` names bodies and gives joints their motors; `build_robot` puts it together
with a body model: one position-controlled motor per hinge, the floor contacts of the chosen set,
and the same solver settings whatever the file said, with a dense constraint Jacobian.

Source: the motor model (stiffness and damping of a 10 Hz, overdamped second-order system on the
reflected inertia, action scale a quarter of effort over stiffness) is BeyondMimic's, Liao et al.
2025.
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

import dataclasses
import fnmatch
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float, Int

from . import contacts

CollisionSet = Literal["feet", "floor", "file"]
SOFT_LIMIT = 0.9
NATURAL_FREQUENCY = 2.0 * math.pi * 10.0
DAMPING_RATIO = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Motor:
    """The motor of a joint, geared down to the joint.

    Attributes:
      stiffness: Nm/rad of the position control.
      damping: Nm s/rad.
      effort: largest torque, Nm; infinite where the file gives none.
      armature: reflected inertia, kg m^2.
    """

    stiffness: float
    damping: float
    effort: float
    armature: float

    def __post_init__(self) -> None:
        for name in ("stiffness", "damping", "armature"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {self}")
        if not (self.effort > 0 and self.stiffness > 0):
            raise ValueError(f"effort and stiffness must be positive, got {self}")


def tuned_motor(armature: float, effort: float, count: int = 1) -> Motor:
    """Gives the motor whose control is a 10 Hz, overdamped system on its own inertia.

    Args:
      count: motors in parallel.

    Examples:
      >>> round(tuned_motor(0.01017752004, 88.0).stiffness, 1)
      40.2
    """
    inertia = armature * count
    return Motor(
        stiffness=inertia * NATURAL_FREQUENCY**2,
        damping=2.0 * DAMPING_RATIO * inertia * NATURAL_FREQUENCY,
        effort=effort * count,
        armature=inertia,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobotDescription:
    """What the tracking task needs to know beyond the body model.

    Attributes:
      tracked_bodies: bodies compared with the reference; the first is the root.
      anchor: the tracked body whose place and heading the others are compared relative to.
      end_effectors: tracked bodies that may touch and whose height ends an episode.
      feet: the end effectors to stand on.
      motors: (pattern of joint names, motor), first match wins.
      default_pose: (pattern of joint names, radians), first match wins, 0 otherwise.
    """

    name: str
    tracked_bodies: tuple[str, ...]
    anchor: str
    end_effectors: tuple[str, ...]
    feet: tuple[str, ...]
    motors: tuple[tuple[str, Motor], ...]
    default_pose: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        tracked = set(self.tracked_bodies)
        if len(tracked) != len(self.tracked_bodies) or not tracked:
            raise ValueError(f"{self.name}: tracked_bodies must be distinct, at least one")
        for role, names in (
            ("anchor", (self.anchor,)),
            ("end_effectors", self.end_effectors),
        ):
            if not set(names) <= tracked:
                raise ValueError(f"{self.name}: {role} {names} must be among the tracked bodies")
        if not self.feet or not set(self.feet) <= set(self.end_effectors):
            raise ValueError(f"{self.name}: feet {self.feet} must be among the end effectors")


class ContactSpheres(NamedTuple):
    """Spheres that stand for the shape of tracked bodies that must not touch the floor.

    Attributes:
      body: which tracked body.
      offset: centre in the body's frame, metres.
      radius: metres.
    """

    body: Int[np.ndarray, " spheres"]
    offset: Float[np.ndarray, "spheres 3"]
    radius: Float[np.ndarray, " spheres"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Robot:
    """A robot ready to be simulated and compared with a motion.

    Joints are the hinges, in the order of `qpos[7:]`, `qvel[6:]` and the controls, which are target
    angles. All arrays over joints have that order; all indices of bodies count `tracked_bodies`
    except `tracked_ids`, which are those of the model.

    Attributes:
      model: without meshes, with a dense Jacobian; time step `1 / control_rate / num_substeps`.
      default_root_height: height of the root at which the feet touch the floor in the default pose.
      action_scale: radians per unit of action, a quarter of effort over stiffness.
      soft_lower: limits within which no penalty is paid, 90 % of the range.
      contact_spheres: shapes of the bodies that are not end effectors.
      pair_ids: contact pairs whose friction is randomised.
    """

    name: str
    model: mujoco.MjModel
    joint_names: tuple[str, ...]
    tracked_bodies: tuple[str, ...]
    tracked_ids: tuple[int, ...]
    anchor: int
    end_effectors: tuple[int, ...]
    feet: tuple[int, ...]
    default_joint_position: Float[np.ndarray, " joints"]
    default_root_height: float
    stiffness: Float[np.ndarray, " joints"]
    damping: Float[np.ndarray, " joints"]
    effort_limit: Float[np.ndarray, " joints"]
    action_scale: Float[np.ndarray, " joints"]
    lower: Float[np.ndarray, " joints"]
    upper: Float[np.ndarray, " joints"]
    soft_lower: Float[np.ndarray, " joints"]
    soft_upper: Float[np.ndarray, " joints"]
    contact_spheres: ContactSpheres
    pair_ids: tuple[int, ...]
    control_rate: float
    num_substeps: int

    @property
    def num_joints(self) -> int:
        """Hinges, which is also the number of controls."""
        return len(self.joint_names)

    @property
    def default_qpos(self) -> Float[np.ndarray, " nq"]:
        """Standing on the floor in the default pose."""
        root = (0.0, 0.0, self.default_root_height, 1.0, 0.0, 0.0, 0.0)
        return np.concatenate([root, self.default_joint_position])


def build_robot(
    spec: mujoco.MjSpec,
    description: RobotDescription,
    *,
    collision: CollisionSet = "feet",
    control_rate: float = 50.0,
    num_substeps: int = 4,
    iterations: int = 6,
    ls_iterations: int = 10,
) -> Robot:
    """Makes a robot of a body model; `spec` is changed.

    Args:
      spec: one tree that hangs on a free joint, all other joints hinges, no meshes left.
      collision: "feet" against the floor only, every shape against the "floor", or what the "file"
        says.
      iterations: of the solver, with `ls_iterations` of its line search.
    Raises:
      ValueError: for bodies or joints that are not there, a joint without a motor, feet without a
        shape, or a body model of another kind.
    """
    hinges = _hinges(spec, description.name)
    _set_options(spec, 1.0 / control_rate / num_substeps, iterations, ls_iterations)
    _check_bodies(spec, description)
    motors = [_match(description.motors, joint.name) for joint in hinges]
    bare = [joint.name for joint, motor in zip(hinges, motors, strict=True) if motor is None]
    if bare:
        raise ValueError(f"{description.name}: no motor is given for joints {', '.join(bare)}")
    known = [motor for motor in motors if motor is not None]
    _set_motors(spec, hinges, known)  # pyright: ignore[reportArgumentType]
    contacts.set_floor_contacts(spec, description.feet, collision)
    for key in list(spec.keys):
        spec.delete(key)
    model = spec.compile()
    default = np.array([_match(description.default_pose, j.name) or 0.0 for j in hinges])
    lower, upper = _limits(model, [joint.name for joint in hinges])
    half = (upper - lower) / 2
    is_limited = np.isfinite(half)
    middle = np.add(lower, upper, out=np.zeros_like(half), where=is_limited) / 2
    effort = np.array([motor.effort for motor in known])
    stiffness = np.array([motor.stiffness for motor in known])
    tracked_ids = tuple(model.body(name).id for name in description.tracked_bodies)
    place = {name: index for index, name in enumerate(description.tracked_bodies)}
    foot_ids = [model.body(name).id for name in description.feet]
    others = [
        (index, body)
        for index, body in enumerate(tracked_ids)
        if description.tracked_bodies[index] not in description.end_effectors
    ]
    return Robot(
        name=description.name,
        model=model,
        joint_names=tuple(joint.name for joint in hinges),
        tracked_bodies=description.tracked_bodies,
        tracked_ids=tracked_ids,
        anchor=place[description.anchor],
        end_effectors=tuple(place[name] for name in description.end_effectors),
        feet=tuple(place[name] for name in description.feet),
        default_joint_position=default,
        default_root_height=contacts.standing_height(model, default, foot_ids),
        stiffness=stiffness,
        damping=np.array([motor.damping for motor in known]),
        effort_limit=effort,
        action_scale=np.where(np.isfinite(effort), 0.25 * effort / stiffness, 0.25),
        lower=lower,
        upper=upper,
        soft_lower=np.where(is_limited, middle - SOFT_LIMIT * half, -np.inf),
        soft_upper=np.where(is_limited, middle + SOFT_LIMIT * half, np.inf),
        contact_spheres=ContactSpheres(*contacts.spheres_of(model, others)),
        pair_ids=tuple(range(model.npair)),
        control_rate=control_rate,
        num_substeps=num_substeps,
    )


def _match(table: Sequence[tuple[str, object]], name: str):
    return next((value for pattern, value in table if fnmatch.fnmatchcase(name, pattern)), None)


def _hinges(spec: mujoco.MjSpec, name: str) -> list[mujoco.MjsJoint]:
    joints = list(spec.joints)
    free = mujoco.mjtJoint.mjJNT_FREE
    count = sum(joint.type == free for joint in joints)
    if count != 1 or joints[0].type != free:
        raise ValueError(f"{name}: needs one free joint, the first of all, got {count}")
    others = joints[1:]
    wrong = [joint.name for joint in others if joint.type != mujoco.mjtJoint.mjJNT_HINGE]
    if wrong or not others:
        raise ValueError(f"{name}: joints below the root must be hinges; not so: {wrong or 'none'}")
    return others


def _check_bodies(spec: mujoco.MjSpec, description: RobotDescription) -> None:
    names = [body.name for body in spec.bodies]
    missing = [name for name in description.tracked_bodies if name not in names]
    if missing:
        raise ValueError(
            f"{description.name}: no body {', '.join(missing)}; bodies: {', '.join(names[1:])}"
        )


def _set_options(spec: mujoco.MjSpec, timestep: float, iterations: int, ls_iterations: int) -> None:
    option = spec.option
    option.timestep = timestep
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    option.iterations, option.ls_iterations = iterations, ls_iterations
    # A state that blew up must be seen, not be replaced by the model's own pose.
    option.disableflags = int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    option.enableflags = 0


def _set_motors(
    spec: mujoco.MjSpec, hinges: list[mujoco.MjsJoint], motors: Sequence[Motor]
) -> None:
    for actuator in list(spec.actuators):
        spec.delete(actuator)
    for joint, motor in zip(hinges, motors, strict=True):
        joint.damping = np.zeros_like(joint.damping)
        joint.frictionloss = 0.0
        joint.armature = motor.armature
        actuator = spec.add_actuator(
            name=joint.name,
            target=joint.name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            gaintype=mujoco.mjtGain.mjGAIN_FIXED,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        )
        # the file's own defaults for actuators come with a new one: gears, limits of controls
        actuator.gear = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        actuator.dyntype = mujoco.mjtDyn.mjDYN_NONE
        actuator.ctrllimited = actuator.actlimited = False
        actuator.gainprm[0] = motor.stiffness
        actuator.biasprm[1], actuator.biasprm[2] = -motor.stiffness, -motor.damping
        is_limited = math.isfinite(motor.effort)
        actuator.forcelimited = is_limited
        if is_limited:
            actuator.forcerange = [-motor.effort, motor.effort]


def _limits(
    model: mujoco.MjModel, names: Sequence[str]
) -> tuple[Float[np.ndarray, " joints"], Float[np.ndarray, " joints"]]:
    ids = [model.joint(name).id for name in names]
    is_limited = model.jnt_limited[ids].astype(bool)
    low, high = model.jnt_range[ids].T
    return np.where(is_limited, low, -np.inf), np.where(is_limited, high, np.inf)
