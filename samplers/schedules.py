"""How a sampler's settings move over training: pure functions of the step.

All return values in [0, 1] blend between two settings; the uniform fraction is what most samplers
schedule: 1 while warming up, its floor in between, 1 again after hand-back.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def ramp(step: Int[Array, ""], *, start: int | float, length: int | float) -> Float[Array, ""]:
    """Rises linearly from 0 at `start` to 1 at `start + length`; a step when the length is 0."""
    return jnp.clip((step - start + (length == 0)) / max(length, 1), 0.0, 1.0)


def uniform_fraction(
    step: Int[Array, ""],
    *,
    floor: float,
    warmup_steps: int = 0,
    ramp_steps: int = 0,
    handback_start: int | None = None,
    handback_steps: int = 1,
) -> Float[Array, ""]:
    """Schedules the share of uniform draws: 1, down to the floor, and back to 1 at the end.

    Args:
      floor: the share in the middle of training.
      warmup_steps: steps with share 1 while scores are collected.
      ramp_steps: steps over which the share then falls to the floor ("progressive").
      handback_start: step at which it begins to rise again; None: never.
      handback_steps: steps it takes to return to 1.
    """
    focus = ramp(step, start=warmup_steps, length=ramp_steps)
    if handback_start is not None:
        focus = focus * (1.0 - ramp(step, start=handback_start, length=handback_steps))
    return 1.0 - (1.0 - floor) * focus


def anneal(step: Int[Array, ""], *, first: float, last: float, length: int) -> Float[Array, ""]:
    """Moves linearly from `first` at step 0 to `last` at step `length` and stays there."""
    return first + (last - first) * ramp(step, start=0, length=length)
