"""How temperature and noise change over a run: functions of progress, which goes from 0 to 1."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def geometric(start: float, end: float, progress: float | Float[Array, ""]) -> Float[Array, ""]:
    """From start to end by equal ratios; both must be positive. Progress is clipped to [0, 1].

    Examples:
      >>> float(geometric(4.0, 1.0, 0.5))
      2.0
    """
    share = jnp.clip(progress, 0.0, 1.0)
    return start * (end / start) ** share


def linear(start: float, end: float, progress: float | Float[Array, ""]) -> Float[Array, ""]:
    """From start to end by equal steps. Progress is clipped to [0, 1]."""
    return start + (end - start) * jnp.clip(progress, 0.0, 1.0)
