"""How a sampler's settings move over training: pure functions of the step.

All return values in [0, 1] blend between two settings; the uniform fraction is what most samplers
schedule: 1 while warming up, its floor in between, 1 again after hand-back.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .base import check_at_least, check_fraction


def ramp(step: Int[Array, ""], *, start: int | float, length: int | float) -> Float[Array, ""]:
    """Rises linearly from 0 at `start` to 1 at `start + length`; a step when the length is 0."""
    return jnp.clip((step - start + (length == 0)) / max(length, 1), 0.0, 1.0)


def uniform_fraction(
    step: Int[Array, ""],
    *,
    floor: float,
    warmup_steps: int = 0,
    ramp_steps: int = 0,
    handback_from: float | None = None,
    handback_over: float = 0.0,
    run_length: float | Float[Array, ""] = jnp.inf,
) -> Float[Array, ""]:
    """Schedules the share of uniform draws: 1, down to the floor, and back to 1 at the end.

    Args:
      floor: the share in the middle of training.
      warmup_steps: steps with share 1 while scores are collected.
      ramp_steps: steps over which the share then falls to the floor ("progressive").
      handback_from: share of the run after which it begins to rise again; None: never.
      handback_over: share of the run it takes to return to 1.
      run_length: steps of the run; infinite where nobody knows, and then it never returns.
    """
    focus = ramp(step, start=warmup_steps, length=ramp_steps)
    if handback_from is not None:
        done = step / run_length - handback_from
        back = jnp.clip(done / handback_over, 0.0, 1.0) if handback_over > 0 else done >= 0
        focus = focus * (1.0 - back)
    return 1.0 - (1.0 - floor) * focus


def check_handback(handback_from: float | int | None, handback_over: float | int) -> None:
    """Raises ValueError unless the return begins within the run and has a length of 0 to 1."""
    if handback_from is not None:
        check_fraction("handback_from", handback_from, is_open_at_zero=True)
    check_fraction("handback_over", handback_over)


def set_run_length(state: Any, num_steps: int | float) -> Any:
    """Writes how many steps the run will have into a state that has a field for it.

    Raises:
      ValueError: unless there is at least one.
    """
    check_at_least("num_steps", num_steps, 1)
    return state._replace(run_length=jnp.full_like(state.run_length, num_steps))


def anneal(step: Int[Array, ""], *, first: float, last: float, length: int) -> Float[Array, ""]:
    """Moves linearly from `first` at step 0 to `last` at step `length` and stays there."""
    return first + (last - first) * ramp(step, start=0, length=length)
