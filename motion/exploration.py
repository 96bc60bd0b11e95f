"""Temporally correlated exploration noise: neighbouring control steps share it.

To find a jump, many joints have to push together for a tenth of a second. Noise that is drawn anew
in every step averages out over such a time; behind soft motors, a robot hardly moves for it. Here
it is the mean of the last draws, scaled back to variance 1, so neighbouring steps have most of it
in common.

Over all steps, every action still has the distribution the policy says, which is what PPO's ratios
take it to be. Given what the policy sees, its last action among it, noise is partly known; that is
ignored, as in the paper.

Draws are known by their place in time and made again when they are needed, so there is no state,
and a resumed run goes on with the same noise.

Source: correlated noise in proximal policy optimisation is Hollenstein et al. 2024's, who find it
better than independent noise on average, and more correlation better with more copies. Theirs has
a spectrum that is a power of the frequency; a moving average is the simplest that needs no state.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


def shared_normal(
    key: Key[Array, ""], step: Int[Array, ""] | int, shape: tuple[int, ...], window: int
) -> Float[Array, "..."]:
    """Draws standard normal numbers that `window` consecutive steps share.

    Numbers of steps n apart have a correlation of 1 - n / window, none from `window` on.

    Args:
      key: the same for all steps.
      step: counted from 0 over the whole run.
      shape: of the numbers of one step, all of them independent.
      window: steps, at least 1; 1: every step has its own.
    """
    draws = jax.vmap(lambda place: jax.random.normal(jax.random.fold_in(key, place), shape))
    return jnp.sum(draws(step + jnp.arange(window)), axis=0) / math.sqrt(window)
