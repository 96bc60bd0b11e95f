"""Robots: their description, the built-in humanoid, and what the G1 needs besides its file."""

from .description import Motor, Robot, RobotDescription, build_robot, tuned_motor
from .humanoid import humanoid_robot

__all__ = [
    "Motor",
    "Robot",
    "RobotDescription",
    "build_robot",
    "humanoid_robot",
    "tuned_motor",
]
