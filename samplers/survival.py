"""How long an episode lasts that starts in a bin of a motion, from the failures per pass.

Notation: bin s has L frames and h failures per pass, so a hazard of h / L per frame, constant
within the bin. With e(h) = (1 - exp(-h)) / h, the mean of exp(-h u) over u in [0, 1]:

    an episode that enters the bin at its first frame stays L e(h) frames and leaves with exp(-h);
    one that starts anywhere in it stays L (1 - e(h)) / h frames and leaves with e(h).

It ends at the end of its clip at the latest. A start is cheap where episodes fail at once, which
is what a sampler has to know that shares out environment steps and not starts.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .motion_bins import BinLayout

_SMALL = 1e-2


def expected_frames(
    layout: BinLayout,
    failures_per_pass: Float[Array, " bins"],
    horizon: float | None = None,
) -> Float[Array, " bins"]:
    """Computes the mean length in frames of an episode that starts uniformly within each bin.

    Args:
      failures_per_pass: h >= 0.
      horizon: frames after which episodes end; means are cut at it, which is exact where nothing
        fails before. None: episodes run to the end of their clip.
    """
    length = layout.num_frames.astype(failures_per_pass.dtype)
    stay, stay_from_inside = _mean_survival(failures_per_pass)
    is_last = jnp.arange(length.shape[0]) == layout.last_bin
    pass_on = jnp.where(is_last, 0.0, jnp.exp(-failures_per_pass))

    def join(later: tuple[Array, Array], earlier: tuple[Array, Array]) -> tuple[Array, Array]:
        # x -> frames + passed x, the later bins inside the earlier ones
        (later_frames, later_passed), (frames, passed) = later, earlier
        return frames + passed * later_frames, passed * later_passed

    from_first, _ = jax.lax.associative_scan(join, (length * stay, pass_on), reverse=True)
    following = jnp.where(is_last, 0.0, jnp.roll(from_first, -1))
    expected = length * stay_from_inside + stay * following
    return expected if horizon is None else jnp.minimum(expected, horizon)


def _mean_survival(h: Float[Array, " bins"]) -> tuple[Float[Array, " bins"], Float[Array, " bins"]]:
    """Gives e(h) and (1 - e(h)) / h, by their series where h is small."""
    safe = jnp.where(h > _SMALL, h, 1.0)
    mean = -jnp.expm1(-safe) / safe
    inside = (1.0 - mean) / safe
    series, series_inside = 1.0 - h / 2 + h * h / 6, 0.5 - h / 6 + h * h / 24
    return jnp.where(h > _SMALL, mean, series), jnp.where(h > _SMALL, inside, series_inside)
