"""Known depth in training: where samples go, and what a wrong depth costs.

Notation, all in the marching coordinate x of `spaces` (distance, in a bounded scene): D the known
depth of a ray, w_i the weight of sample i at x_i, [a_i, b_i] its interval, s = sigma.

    soft             (x̂ - D)^2             with x̂ = sum w_i x_i / sum w_i
    free_space       sum of w_i over b_i < D - 3 s: what is seen in front of the surface
    surface          |x̂ - D| + 0.1 var     with var = sum w_i (x_i - x̂)^2 / sum w_i
    termination_kl   - sum log(w_i + 1e-5) exp(-(x_i - D)^2 / 2 s^2) (b_i - a_i)
    line_of_sight    sum over [a_i, b_i] that meet D +- 3 s of (w_i - [F(b_i) - F(a_i)])^2, F the
                     normal distribution function around D, plus sum over b_i < D - 3 s of w_i^2

A sample counts by its whole interval: one wider than 6 s may hold D and have its centre before
D - 3 s, and its weight then is that of the surface.
Rays whose depth is unknown cost nothing. With `is_guided` every ray gets the same number of
samples: a share around its depth by `samplers.depth_guided`, the others in equal parts of what the
occupancy grid leaves of the ray or, with `marching.num_coarse`, where the field absorbs light. Both
live in the occupied length of the ray, so no sample is lost in empty space and the intervals of the
samples tile exactly what is occupied.

Source: soft, free_space, surface: common practice, here centred, normalised and masked.
termination_kl: Deng et al. 2022 (DS-NeRF), eq. 7. line_of_sight: Rematas et al. 2022 (Urban
Radiance Fields), eqs. 7 to 9, with the integral of the normal density over a sample instead of its
height, so that a weight is compared with a weight. Both bounds by intervals instead of centres are
ours.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import erf
from jaxtyping import Array, Bool, Float, Int, Key

from samplers import depth_guided
from samplers.depth_guided import DepthGuidedConfig, DepthGuidedState, RayQuery

from . import importance, marching
from .marching import Candidates, MarchingConfig, PackedSamples
from .spaces import SceneBounds

LOSSES = ("soft", "free_space", "surface", "termination_kl", "line_of_sight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthConfig:
    """What known depth is used for. All zero: nothing, and the step compiles without it."""

    is_guided: bool = False
    """Give every ray budget / rays_per_step samples, some of them around its depth."""
    guided_fraction: float = 0.5
    """Share of a ray's samples around its depth."""
    shape: Literal["interval", "normal"] = "interval"
    """Guided samples fill depth +- width, or follow a normal distribution of that deviation."""
    width: float = 0.15
    """Half width or deviation of the guided samples, in units of the coordinate rays are marched
    in (`spaces.coordinate`): scene units up to its knee, longer and longer ones beyond."""
    sigma: float = 0.02
    """Uncertainty of the depth in the losses, in the same units."""
    soft: float = 0.0
    free_space: float = 0.0
    surface: float = 0.0
    termination_kl: float = 0.0
    line_of_sight: float = 0.0
    keypoint_rays: int = 0
    """Extra rays per step through pixels whose depth is known, for sparse depth; they teach depth
    only."""

    def __post_init__(self):
        """Refuses impossible settings."""
        for name in (*LOSSES, "keypoint_rays"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"depth {name} must not be negative, got {getattr(self, name)}")
        if not 0.0 <= self.guided_fraction < 1.0:
            raise ValueError(f"guided_fraction must be in [0, 1), got {self.guided_fraction}")
        if not (self.width > 0 and self.sigma > 0):
            raise ValueError(
                f"depth width and sigma must be positive, got {self.width} and {self.sigma}"
            )

    @property
    def is_used(self) -> bool:
        """Whether training looks at depth at all."""
        return self.is_guided or any(getattr(self, name) for name in LOSSES)


PRESETS: dict[str, DepthConfig] = {
    "plain": DepthConfig(),
    "soft": DepthConfig(soft=0.1),
    "hard": DepthConfig(is_guided=True, guided_fraction=0.75, free_space=0.05, surface=0.05),
    "hybrid": DepthConfig(
        is_guided=True, guided_fraction=0.5, soft=0.1, free_space=0.05, surface=0.05
    ),
}
"""Named mixtures: no depth; a loss only; guided samples with losses about the surface; both."""


class Known(NamedTuple):
    """The known depth of rays, as a marching coordinate; 0 where `mask` is False."""

    x: Float[Array, " rays"]
    mask: Bool[Array, " rays"]


def guided_samples(
    config: DepthConfig,
    marching_config: MarchingConfig,
    key: Key[Array, ""],
    candidates: Candidates,
    bounds: SceneBounds,
    known: Known,
    edges: Float[Array, "rays edges"] | None = None,
) -> PackedSamples:
    """Places the same number of samples on every ray, a share of them around its known depth.

    Args:
      edges: distribution of the others over what is occupied, see `importance`; None: even.
    """
    num_rays = known.x.shape[0]
    settings = DepthGuidedConfig(
        num_samples=max(1, marching_config.budget // num_rays),
        guided_fraction=config.guided_fraction,
        shape=config.shape,
        min_sigma=config.width,
    )
    occupied = marching.num_samples(candidates) * candidates.step
    depth = marching.occupied_before(candidates, known.x)
    prior = DepthGuidedState(
        depth=jnp.where(known.mask, depth, jnp.nan), sigma=jnp.full((num_rays,), config.width)
    )
    query = RayQuery(pixel=jnp.arange(num_rays), near=jnp.zeros((num_rays,)), far=occupied)
    if edges is None:
        y = depth_guided.sample(settings, key, prior, query).items.t
    else:
        y = _guided_and_placed(settings, key, prior, query, known.mask, edges)
    return marching.fill_occupied(marching_config, candidates, bounds, y)


def loss(
    config: DepthConfig,
    weights: Float[Array, " n"],
    samples: PackedSamples,
    known: Known,
) -> Float[Array, " rays"]:
    """Weighted sum of the losses of each ray; 0 where its depth is unknown.

    Finite, value and gradient, for rays that see nothing.
    """
    num_rays = known.x.shape[0]
    ray, x = samples.ray, samples.place
    target = known.x[ray]
    total = jnp.zeros((num_rays,))
    if config.soft or config.surface:
        sums = _per_ray(weights[:, None] * jnp.stack([jnp.ones_like(x), x], -1), ray, num_rays)
        opacity = jnp.maximum(sums[:, 0], 1e-3)
        # what is not absorbed counts as seen at the true depth: it is colour's business
        offset = (sums[:, 1] - sums[:, 0] * known.x) / opacity
        if config.soft:
            total = total + config.soft * jnp.square(offset)
        if config.surface:
            spread = weights * jnp.square(x - target - offset[ray])
            variance = _per_ray(spread, ray, num_rays) / opacity
            total = total + config.surface * (jnp.abs(offset) + 0.1 * variance)
    half, reach = 0.5 * samples.width, 3.0 * config.sigma
    is_before = x + half < target - reach
    if config.free_space:
        seen = _per_ray(jnp.where(is_before, weights, 0.0), ray, num_rays)
        total = total + config.free_space * seen
    if config.termination_kl:
        near = jnp.exp(-0.5 * jnp.square((x - target) / config.sigma)) * samples.width
        terms = -jnp.log(jnp.maximum(weights, 0.0) + 1e-5) * near
        total = total + config.termination_kl * _per_ray(terms, ray, num_rays)
    if config.line_of_sight:
        mass = _normal_cdf((x + half - target) / config.sigma) - _normal_cdf(
            (x - half - target) / config.sigma
        )
        is_near = ~is_before & (x - half <= target + reach)
        terms = jnp.where(is_near, jnp.square(weights - mass), 0.0)
        terms = terms + jnp.where(is_before, jnp.square(weights), 0.0)
        total = total + config.line_of_sight * _per_ray(terms, ray, num_rays)
    return jnp.where(known.mask, total, 0.0)


def keypoints(
    key: Key[Array, ""], depth_pixels: Int[Array, " points"], count: int
) -> Int[Array, " count"]:
    """Draws pixels with known depth, with replacement."""
    return depth_pixels[jax.random.randint(key, (count,), 0, depth_pixels.shape[0])]


def _guided_and_placed(
    settings: DepthGuidedConfig,
    key: Key[Array, ""],
    prior: DepthGuidedState,
    query: RayQuery,
    mask: Bool[Array, " rays"],
    edges: Float[Array, "rays edges"],
) -> Float[Array, "rays samples"]:
    """Draws around the depth where it is known, and one anywhere; the others by `edges`."""
    num, num_guided = settings.num_samples, settings.num_guided
    key_guided, key_placed = jax.random.split(key)
    around = dataclasses.replace(
        settings, num_samples=num_guided + 1, guided_fraction=num_guided / (num_guided + 1)
    )
    guided = depth_guided.sample(around, key_guided, prior, query).items.t
    num_placed = num - num_guided - 1
    slot = jnp.arange(num)[None]
    random = jax.random.uniform(key_placed, (mask.shape[0], num))
    u = jnp.minimum((slot + random) / jnp.where(mask[:, None], max(num_placed, 1), num), 1.0)
    placed = query.far[:, None] * importance.invert(edges, u)
    guided = jnp.pad(guided, ((0, 0), (num_placed, 0)))
    return jnp.sort(jnp.where(mask[:, None] & (slot >= num_placed), guided, placed), axis=1)


def _per_ray(values: Array, ray: Array, num_rays: int) -> Array:
    return jax.ops.segment_sum(values, ray, num_segments=num_rays, indices_are_sorted=True)


def _normal_cdf(z: Array) -> Array:
    return 0.5 * (1.0 + erf(z * 2.0**-0.5))
