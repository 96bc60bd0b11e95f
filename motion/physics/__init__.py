"""Physics behind one interface: MuJoCo's batched C engine, MJX, and MuJoCo Warp."""

from .interface import Physics, PhysicsName, make_physics

__all__ = ["Physics", "PhysicsName", "make_physics"]
