"""What the environment asks of a physics back-end.

A back-end's state holds exactly what the future depends on, so it can be stored and resumed. What
it tells of a state (`Physical`) always belongs to that state: positions, velocities and kinematics
of the same moment, also right after a robot was moved.
"""

from typing import Any, Literal, Protocol, get_args, runtime_checkable

from jaxtyping import Array, Bool, Float

from motion.perturbations import Randomisation
from motion.robots import Robot
from motion.tracking import Physical

PhysicsName = Literal["c", "mjx", "warp"]


@runtime_checkable
class Physics(Protocol):
    """A back-end for a fixed robot.

    Attributes:
      name: as on the command line.
      is_jittable: its functions may be traced; otherwise they run on the host and keep a simulator
        as scratch space, so that only one caller at a time may use them.
    """

    name: str
    is_jittable: bool

    def init(
        self,
        qpos: Float[Array, "envs nq"],
        qvel: Float[Array, "envs nv"],
        randomisation: Randomisation,
    ) -> tuple[Any, Physical]:
        """Starts all environments."""
        ...

    def place(
        self,
        state: Any,
        mask: Bool[Array, " envs"],
        qpos: Float[Array, "envs nq"],
        qvel: Float[Array, "envs nv"],
        randomisation: Randomisation,
    ) -> tuple[Any, Physical]:
        """Moves the environments of `mask`, leaves the others as they are; tells of all."""
        ...

    def advance(
        self,
        state: Any,
        control: Float[Array, "envs joints"],
        push: Float[Array, "envs 6"],
        randomisation: Randomisation,
    ) -> tuple[Any, Physical]:
        """Adds `push` to the root's velocity, then simulates one control step.

        Args:
          control: target angles of the joints, held during the step.
        """
        ...


def make_physics(name: str, robot: Robot, num_envs: int) -> Physics:
    """Makes a back-end by name.

    Raises:
      ValueError: for another name, a robot the back-end cannot simulate, a missing package, or MJX
        on a CPU where it would hang, see `mjx_engine.refuse_waiting_for_ever`.
    """
    if name == "c":
        from .c_engine import CEngine

        return CEngine(robot, num_envs)
    if name == "mjx":
        from .mjx_engine import MjxEngine, refuse_waiting_for_ever

        refuse_waiting_for_ever(robot, num_envs)
        return MjxEngine(robot)
    if name == "warp":
        from .warp_engine import WarpEngine

        return WarpEngine(robot, num_envs)
    names = ", ".join(get_args(PhysicsName))
    raise ValueError(f"physics must be one of {names}, got {name!r}")
