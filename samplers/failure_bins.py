"""`failure_bins`: where in a set of motions to start, by how often each part fails.

Clips are cut into bins. Rows of feedback are environment steps: where they were and whether they
failed there. Per bin the sampler keeps failures F and exposure N (passes through the bin), both
forgetting, counted per environment so that their number does not matter. Starts are drawn by

    h = (F + b r) / (N + b)         failures per pass; r is the same over all bins
    x = 1 - exp(-h)                 the chance to fail in one pass
    z_s ~ Σ_{u < K} ρ^u x_{s+u}     look-back: bins before a failing one gain, never across clips
    q = cap((1 - λ) z / Σz) + λ / S exact floor and cap together, over valid bins only.

A guard holds back bins that nearly always fail and do not improve, which otherwise swallow the
training: together they get at most a share of its environment steps, so that a bin no one can
learn costs the others little, and one that is learned late is not given up. Starts there end soon,
so a small share of the steps is many starts (see `survival`). Progress is the relative difference
of the rate and its slow average.

The presets in `failure_bins_presets` reproduce published rules within the same settings.

Source: BeyondMimic (Liao et al. 2025), SONIC (Luo et al. 2025), TextOp; learning progress after
Oudeyer et al. 2007; the cap by water-filling.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from . import corrections, draws, scores, targets
from .base import (
    Draw,
    Feedback,
    Sampler,
    bind,
    check_at_least,
    check_fraction,
    check_mask,
    multiply_high,
)
from .motion_bins import RULES, BinLayout, MotionTime, bin_of, cut_into_bins
from .survival import expected_frames

STATISTICS = ("rate", "counts", "smoothed_ratio")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FailureBinsConfig:
    """Settings of `failure_bins`.

    Attributes:
      clip_frames: frames of each clip.
      batch_size: starts per draw (environments).
      frames_per_bin: target length of a bin.
      bin_rule: how bins are counted, see `motion_bins.count_bins`.
      statistic: "rate" of failures over exposure; "counts" of failures alone; "smoothed_ratio", a
        moving average of total failures over total rows.
      decay: what failures and exposure keep at each update.
      gain: what a new failure adds (1 - decay for a moving average, 1 for a decaying sum).
      is_per_environment: divide new counts by the number of rows.
      is_exposure_in_passes: divide exposure by the bin's length, so it counts passes.
      prior_failures: added to F; None: prior_exposure times the rate over all bins.
      prior_exposure: added to N.
      is_probability: turn failures per pass h into the chance to fail in a pass, 1 - exp(-h).
      is_per_clip: pool failures and exposure over each clip.
      rate_cap: rates are clipped at this multiple of their mean; None: off.
      exponent: power of the rate.
      kernel_size: bins of the look-back kernel; 1: off.
      kernel_decay: ratio of one kernel weight to the one before.
      kernel_edge: "stop" or "replicate" at the end of a clip.
      prior_ratio: added to every bin before the kernel, as a share of 1 / S (not a true floor).
      uniform_fraction: λ, the exact floor.
      cap: largest probability as a multiple of uniform; None: off.
      is_length_weighted: weigh bins by their frames that may be started at, after the floor.
      is_clip_balanced: divide by the number of bins of the clip after the floor.
      stuck_share: largest share of the environment steps, before look-back and floor, for starts
        in all bins together that nearly always fail without progress; 1: no guard.
      horizon_frames: frames after which an episode ends, for `stuck_share`; None: at the end of
        its clip.
      progress_scale: relative progress from which a bin counts in full.
      impossible_rate: failure rate above which the guard looks at a bin.
      trend_decay: decay of the slow average.
      look_back_frames: starts are moved back by up to this many frames, within the clip.
      end_margin: frames at the end of every clip in which nothing starts; the first of a clip is
        always among those that may be started in.
      is_edge_map: pick frames by floor((s + U) / S * (T - 1)), as published.
      correction: exponent of the weights; 0 leaves the preference.
      axis_name: mapped axis over which counts are summed; None: one device.
    """

    clip_frames: tuple[int, ...]
    batch_size: int
    frames_per_bin: float = 50.0
    bin_rule: str = "ceil"
    statistic: str = "rate"
    decay: float = 0.999
    gain: float = 1.0
    is_per_environment: bool = True
    is_exposure_in_passes: bool = True
    prior_failures: float | None = None
    prior_exposure: float = 0.02
    is_probability: bool = True
    is_per_clip: bool = False
    rate_cap: float | None = None
    exponent: float = 1.0
    kernel_size: int = 3
    kernel_decay: float = 0.8
    kernel_edge: str = "stop"
    prior_ratio: float = 0.0
    uniform_fraction: float = 0.1
    cap: float | None = 20.0
    is_length_weighted: bool = False
    is_clip_balanced: bool = False
    stuck_share: float = 0.15
    horizon_frames: float | None = None
    progress_scale: float = 0.05
    impossible_rate: float = 0.9
    trend_decay: float = 0.999
    look_back_frames: int = 0
    end_margin: int = 0
    is_edge_map: bool = False
    correction: float = 0.0
    axis_name: str | None = None

    def __post_init__(self) -> None:
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("kernel_size", self.kernel_size, 1)
        for name in ("decay", "gain", "kernel_decay", "uniform_fraction", "stuck_share"):
            check_fraction(name, getattr(self, name))
        for name in ("correction", "trend_decay"):
            check_fraction(name, getattr(self, name))
        for name in ("prior_exposure", "prior_ratio", "exponent", "look_back_frames", "end_margin"):
            check_at_least(name, getattr(self, name), 0)
        for name in ("cap", "rate_cap", "horizon_frames"):
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), 1)
        if self.statistic not in STATISTICS or self.bin_rule not in RULES:
            raise ValueError(
                f"statistic must be one of {STATISTICS} and bin_rule of {RULES}, "
                f"got {self.statistic!r} and {self.bin_rule!r}"
            )
        if self.kernel_edge not in ("stop", "replicate"):
            raise ValueError(f"kernel_edge must be stop or replicate, got {self.kernel_edge!r}")
        cut_into_bins(self.clip_frames, self.frames_per_bin, self.bin_rule)


class FailureBinsState(NamedTuple):
    """What `failure_bins` remembers.

    Attributes:
      failures: F per bin.
      exposure: N per bin.
      trend: slow average of the failure rate per bin; with "smoothed_ratio" the average itself.
      valid: bins that may be started in.
      override: probabilities to use instead, for tests; all 0: none.
      layout: where the bins lie.
      step: updates seen.
    """

    failures: Float[Array, " bins"]
    exposure: Float[Array, " bins"]
    trend: Float[Array, " bins"]
    valid: Bool[Array, " bins"]
    override: Float[Array, " bins"]
    layout: BinLayout
    step: Int[Array, ""]


def init(
    config: FailureBinsConfig,
    key: Key[Array, ""],
    valid: Bool[Array, " bins"] | None = None,
) -> FailureBinsState:
    """Starts without failures or exposure: uniform.

    Args:
      valid: bins that may be started in; None: all.
    Raises:
      ValueError: unless there is one value per bin and, where known, one True.
    """
    del key
    layout = cut_into_bins(config.clip_frames, config.frames_per_bin, config.bin_rule)
    num_bins = layout.clip.shape[0]
    if valid is not None:
        check_mask(valid, num_bins)
    is_open = layout.first_frame < _startable(config, layout)[layout.clip]
    # a buffer of its own for each field, so that the state can be donated
    return FailureBinsState(
        failures=jnp.zeros(num_bins, jnp.float32),
        exposure=jnp.zeros(num_bins, jnp.float32),
        trend=jnp.zeros(num_bins, jnp.float32),
        valid=is_open if valid is None else valid & is_open,  # a new array either way
        override=jnp.zeros(num_bins, jnp.float32),
        layout=layout,
        step=jnp.zeros((), jnp.int32),
    )


def failure_rates(config: FailureBinsConfig, state: FailureBinsState) -> Float[Array, " bins"]:
    """Gives the statistic x of every bin, before look-back, guard and floor."""
    if config.statistic == "counts":
        return state.failures
    if config.statistic == "smoothed_ratio":
        return state.trend
    rate = _failures_over_exposure(config, state)
    if config.is_probability:
        rate = -jnp.expm1(-rate)
    if config.rate_cap is not None:
        rate = jnp.minimum(rate, config.rate_cap * jnp.mean(rate))
    return rate


def probabilities(config: FailureBinsConfig, state: FailureBinsState) -> Float[Array, " bins"]:
    """Gives the probability of starting in each bin."""
    num_bins = state.failures.shape[0]
    rate = failure_rates(config, state)
    if config.exponent != 1.0:
        rate = targets.power(rate, config.exponent)
    if config.stuck_share < 1.0:
        rate = _hold_back_stuck(config, state, rate)
    rate = targets.look_back(
        rate + config.prior_ratio / num_bins,
        state.layout.last_bin,
        size=config.kernel_size,
        decay=config.kernel_decay,
        edge=config.kernel_edge,
    )
    probs = targets.normalise(rate, state.valid)
    if config.is_length_weighted or config.is_clip_balanced:
        probs = targets.mix_uniform(probs, config.uniform_fraction, state.valid)
        if config.is_length_weighted:
            probs = probs * _open_frames(config, state.layout)
        if config.is_clip_balanced:
            probs = probs / state.layout.num_bins_of[state.layout.clip]
        probs = targets.normalise(probs, state.valid)
        if config.cap is not None:
            num_valid = jnp.maximum(jnp.sum(state.valid), 1)
            probs = targets.cap_probabilities(probs, config.cap / num_valid, state.valid)
    else:
        probs = targets.floor_and_cap(
            probs, fraction=config.uniform_fraction, cap=config.cap, mask=state.valid
        )
    has_override = jnp.sum(state.override) > 0
    return jnp.where(has_override, targets.normalise(state.override), probs)


def sample(config: FailureBinsConfig, key: Key[Array, ""], state: FailureBinsState) -> Draw:
    """Draws starts: a bin by probability, a frame uniformly inside, then the look-back.

    `probs` are those of the bins drawn. A look-back, or the rounding of `is_edge_map`, that would
    end in a bin that may not be started in is not made.
    """
    key_bin, key_frame = jax.random.split(key)
    probs = probabilities(config, state)
    index = draws.draw_items(key_bin, probs, config.batch_size)
    words = jax.random.bits(key_frame, (2, config.batch_size), jnp.uint32)
    layout = state.layout
    clip = layout.clip[index]
    last = layout.first_frame[index] + layout.num_frames[index] - 1
    if config.end_margin:
        last = jnp.minimum(last, _startable(config, layout)[clip] - 1)
    if config.is_edge_map:
        inside = (words[0] >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)
        place = (index - layout.first_bin_of[clip] + inside) / layout.num_bins_of[clip]
        frame = jnp.floor(place * (layout.frames_of[clip] - 1)).astype(jnp.int32)
    else:
        length = (last - layout.first_frame[index] + 1).astype(jnp.uint32)
        frame = layout.first_frame[index] + multiply_high(words[0], length).astype(jnp.int32)
    if config.look_back_frames:
        back = multiply_high(words[1], jnp.uint32(config.look_back_frames))
        frame = jnp.maximum(frame - back.astype(jnp.int32), 0)
    is_allowed = state.valid[bin_of(layout, MotionTime(clip, frame))]
    if config.end_margin:
        is_allowed = is_allowed & (frame < _startable(config, layout)[clip])
    frame = jnp.where(is_allowed, frame, jnp.clip(frame, layout.first_frame[index], last))
    drawn = probs[index]
    num_valid = jnp.maximum(jnp.sum(state.valid), 1)
    weights = corrections.importance_weights(drawn, num_valid, exponent=config.correction)
    return Draw(items=MotionTime(clip, frame), probs=drawn, weights=weights)


def update(
    config: FailureBinsConfig, state: FailureBinsState, draw: Draw, feedback: Feedback
) -> FailureBinsState:
    """Counts failures and exposure.

    Args:
      draw: its `items` say where each row was: the current moments of the environments (or, for
        rules that blame the start, where the episodes started).
      feedback: value 1 failed here, 0 not; valid False leaves the row out.
    Bad input: non-finite values leave their row out.
    """
    index = bin_of(state.layout, draw.items)
    is_counted = jnp.isfinite(feedback.value)
    if feedback.valid is not None:
        is_counted = is_counted & feedback.valid
    zeros = jnp.zeros_like(state.failures)
    failed = jnp.where(is_counted, jnp.clip(feedback.value, 0.0, 1.0), 0.0)
    new_failures = zeros.at[index].add(failed)
    new_exposure = zeros.at[index].add(is_counted.astype(jnp.float32))
    rows = jnp.asarray(index.shape[0], jnp.float32)
    if config.axis_name is not None:
        new_failures, new_exposure, rows = jax.lax.psum(
            (new_failures, new_exposure, rows), config.axis_name
        )
    if config.is_exposure_in_passes:
        new_exposure = new_exposure / state.layout.num_frames
    if config.is_per_environment:
        new_failures, new_exposure = new_failures / rows, new_exposure / rows
    failures = config.decay * state.failures + config.gain * new_failures
    exposure = config.decay * state.exposure + config.gain * new_exposure
    after = state._replace(failures=failures, exposure=exposure, step=state.step + 1)
    if config.statistic == "smoothed_ratio":
        target = failures / jnp.maximum(exposure, 1.0)
    else:
        target = failure_rates(config, after)
    trend = scores.moving_average(state.trend, target, config.trend_decay)
    return after._replace(trend=trend)


def with_override(state: FailureBinsState, probs: Float[Array, " bins"] | None) -> FailureBinsState:
    """Fixes the distribution by hand; None returns to the sampler's.

    Raises:
      ValueError: unless there is one number per bin.
    """
    if probs is not None and jnp.shape(probs) != state.override.shape:
        raise ValueError(f"needs {state.override.shape[0]} numbers, got {jnp.shape(probs)}")
    override = jnp.zeros_like(state.override) if probs is None else probs
    return state._replace(override=override)


def make(config: FailureBinsConfig) -> Sampler[FailureBinsState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities)


def _startable(config: FailureBinsConfig, layout: BinLayout) -> Int[Array, " clips"]:
    """Gives how many frames of each clip may be started in, from its first on."""
    return jnp.maximum(layout.frames_of - config.end_margin, 1)


def _open_frames(config: FailureBinsConfig, layout: BinLayout) -> Int[Array, " bins"]:
    """Gives how many frames of each bin may be started at."""
    left = _startable(config, layout)[layout.clip] - layout.first_frame
    return jnp.clip(left, 0, layout.num_frames)


def _failures_over_exposure(
    config: FailureBinsConfig, state: FailureBinsState
) -> Float[Array, " bins"]:
    """Gives h, failures per pass or per row."""
    failures, exposure = state.failures, state.exposure
    if config.is_per_clip:
        failures, exposure = _per_clip(state, failures), _per_clip(state, exposure)
    prior = config.prior_failures
    if prior is None:
        seen = jnp.sum(state.exposure)
        overall = jnp.sum(state.failures) / jnp.where(seen > 0, seen, 1.0)
        prior = config.prior_exposure * jnp.where(seen > 0, overall, 1.0)
    return scores.failure_rate(
        failures, exposure, prior_failures=prior, prior_exposure=config.prior_exposure
    )


def _per_clip(state: FailureBinsState, values: Float[Array, " bins"]) -> Float[Array, " bins"]:
    clip = state.layout.clip
    sums = jnp.zeros(state.layout.frames_of.shape[0], jnp.float32).at[clip].add(values)
    return sums[clip]


def _hold_back_stuck(
    config: FailureBinsConfig, state: FailureBinsState, weight: Float[Array, " bins"]
) -> Float[Array, " bins"]:
    """Scales the weights of bins that nearly always fail without learning progress."""
    rate = failure_rates(config, state)
    bias = 1.0 - config.trend_decay ** state.step.astype(jnp.float32)
    slow = state.trend / jnp.maximum(bias, 1e-6)
    progress = jnp.abs(rate - slow) / jnp.maximum(rate + slow, 1e-9) / config.progress_scale
    is_known = (state.exposure > config.prior_exposure) & (state.step > 0)
    is_failing = is_known & state.valid & (rate > config.impossible_rate)
    stuck = jnp.where(is_failing, 1.0 - jnp.minimum(progress, 1.0), 0.0)
    frames = jnp.where(state.valid, weight * _frames_per_start(config, state), 0.0)
    held, others = jnp.sum(stuck * frames), jnp.sum((1.0 - stuck) * frames)
    most = config.stuck_share / (1.0 - config.stuck_share) * others
    return weight * (1.0 - stuck * (1.0 - jnp.minimum(most / jnp.maximum(held, 1e-9), 1.0)))


def _frames_per_start(config: FailureBinsConfig, state: FailureBinsState) -> Float[Array, " bins"]:
    """Gives what a start costs, in environment steps."""
    per_pass = _failures_over_exposure(config, state)
    if not config.is_exposure_in_passes:
        per_pass = per_pass * state.layout.num_frames
    return expected_frames(state.layout, per_pass, config.horizon_frames)
