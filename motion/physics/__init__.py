"""Physics behind one interface: MuJoCo's batched C engine, and MJX."""

from .interface import Physics, make_physics

__all__ = ["Physics", "make_physics"]
