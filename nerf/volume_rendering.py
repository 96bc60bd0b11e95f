"""Volume rendering: from densities along a ray to weights, colour, opacity and depth.

Notation, per ray, samples in order of distance: tau_i = density_i * length_i is the optical depth
of sample i,

    T_i = exp(-sum_{j<i} tau_j)         transmittance up to the sample
    w_i = T_i (1 - exp(-tau_i))         weight: probability that the ray ends in the sample
    sum_i w_i + T_end = 1               what is not absorbed reaches the background

Every sum is a sum along one ray, so float32 holds for any batch; 1 - exp(-tau) is formed with
expm1, so thin fog keeps its digits. The weights have a derivative of their own, exact and finite
for every tau >= 0 including infinity:

    dL/dtau_i = g_i T_i exp(-tau_i) - sum_{j>i} g_j w_j          with g = dL/dw.

Samples of all rays lie end to end (`marching.PackedSamples`). Source: Max 1995, "Optical Models
for Direct Volume Rendering"; Mildenhall et al. 2020, eq. 3.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import segments


class RenderedRays(NamedTuple):
    """What a ray sees before a background is put behind it."""

    color: Float[Array, "rays 3"]
    """Sum of w_i color_i: premultiplied by the opacity."""
    opacity: Float[Array, " rays"]
    """Sum of w_i."""
    depth: Float[Array, " rays"]
    """Mean distance of the absorbed part, sum of w_i t_i / sum of w_i; 0 for a ray that sees
    nothing."""


def weights_packed(
    optical_depth: Float[Array, " n"], ray: Int[Array, " n"], *, longest: int
) -> Float[Array, " n"]:
    """Computes the weights of packed samples.

    Args:
      optical_depth: tau >= 0; unused slots must carry 0.
      ray: non-decreasing ray number of each sample.
      longest: static bound on the samples of one ray.
    Bad input: a negative or NaN tau counts as 0, an infinite one as opaque.
    """
    return _weights_packed(longest, optical_depth, ray)


def composite_packed(
    weights: Float[Array, " n"],
    colors: Float[Array, "n 3"],
    distance: Float[Array, " n"],
    ray: Int[Array, " n"],
    *,
    num_rays: int,
) -> RenderedRays:
    """Sums packed samples into rays."""
    columns = jnp.concatenate(
        [colors, distance[:, None], jnp.ones_like(distance)[:, None]], axis=-1
    )
    sums = jax.ops.segment_sum(
        weights[:, None] * columns, ray, num_segments=num_rays, indices_are_sorted=True
    )
    return _rendered(sums)


def over_background(
    rendered: RenderedRays, background: Float[Array, "#rays 3"]
) -> Float[Array, "rays 3"]:
    """Puts a background behind the rays: color + (1 - opacity) background."""
    return rendered.color + (1.0 - rendered.opacity)[:, None] * background


def _rendered(sums: Float[Array, "rays 5"]) -> RenderedRays:
    opacity = sums[:, 4]
    seen = opacity > 1e-10
    depth = jnp.where(seen, sums[:, 3] / jnp.where(seen, opacity, 1.0), 0.0)
    return RenderedRays(color=sums[:, :3], opacity=opacity, depth=depth)


def _clean(optical_depth):
    return jnp.where(optical_depth > 0.0, optical_depth, 0.0)  # NaN compares false


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _weights_packed(longest, optical_depth, ray):
    return _weights_packed_forward(longest, optical_depth, ray)[0]


def _weights_packed_forward(longest, optical_depth, ray):
    tau = _clean(optical_depth)
    before = segments.exclusive_sums(tau, ray, longest=longest)
    weights = jnp.exp(-before) * -jnp.expm1(-tau)
    return weights, (weights, jnp.exp(-(before + tau)), ray, optical_depth >= 0.0)


def _weights_packed_backward(longest, residuals, cotangent):
    weights, after, ray, is_valid = residuals
    behind = segments.exclusive_suffix_sums(cotangent * weights, ray, longest=longest)
    return jnp.where(is_valid, cotangent * after - behind, 0.0), None


_weights_packed.defvjp(_weights_packed_forward, _weights_packed_backward)
