"""A synthetic learner without physics: what a sampler of motion starts is worth, in seconds.

Notation: S bins of L frames. A learner that has practised bin s for P_s passes fails in a pass
through it with probability

    f_s = l_s + (f0_s - l_s) exp(-(P_s / τ_s)^k_s)

where l_s is what no practice removes; with k_s above 1 nothing seems to help at first, and then it
is learned at once, as the falls of real policies often are. Environments walk through their clips
frame by frame, fail with the hazard that makes f_s per pass, and restart where the sampler says; at
the end of a clip or after `horizon` frames they restart without having failed. Each frame spent in
a bin is 1 / (L envs) of a pass of practice, so the number of environments does not matter to the
learner. Bins marked `needs_previous` only learn as far as the bin before them has (a landing after
a jump).

This is a model of what matters to the choice of starts and not of reinforcement learning.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from samplers.base import Sampler
from samplers.motion_bins import BinLayout, MotionTime, bin_of, cut_into_bins

from .starts import count_outcomes

CLIP_BINS = (40, 15, 5)
IMPOSSIBLE = 0.95
"""Bins that no practice brings below this failure rate are called impossible."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestbedConfig:
    """Size of a run.

    Attributes:
      frames_per_bin: L.
      num_envs: environments.
      num_steps: environment steps of each.
      horizon: frames after which an episode ends.
      num_points: points of the curves.
    """

    __test__ = False

    frames_per_bin: int = 10
    num_envs: int = 128
    num_steps: int = 4000
    horizon: int = 60
    num_points: int = 200

    def __post_init__(self) -> None:
        values = (self.frames_per_bin, self.num_envs, self.horizon, self.num_points)
        if min(values) < 1 or self.num_steps % self.num_points:
            raise ValueError(
                "sizes must be at least 1 and num_steps a multiple of num_points, got "
                f"{values} and {self.num_steps}"
            )

    @property
    def clip_frames(self) -> tuple[int, ...]:
        """Frames of each clip."""
        return tuple(bins * self.frames_per_bin for bins in CLIP_BINS)


class Scenario(NamedTuple):
    """How hard each bin is.

    Attributes:
      first: f0, the failure rate before any practice.
      lowest: l, the failure rate after all practice.
      practice: τ, passes that remove 63 % of what can be removed.
      sharpness: k, how suddenly.
      needs_previous: learns only as far as the bin before it.
    """

    first: Float[Array, "*runs bins"]
    lowest: Float[Array, "*runs bins"]
    practice: Float[Array, "*runs bins"]
    sharpness: Float[Array, "*runs bins"]
    needs_previous: Bool[Array, "*runs bins"]


class Curves(NamedTuple):
    """What happened, at evenly spaced steps.

    Attributes:
      failure: mean failure rate over the bins that can be learned, beyond what must remain.
      worst: the largest of them.
      least_share: smallest starting probability times the number of bins.
      impossible_share: starting probability of the impossible bins together.
      impossible_time: share of all environment steps so far that were spent in them.
    """

    failure: Float[Array, " points"]
    worst: Float[Array, " points"]
    least_share: Float[Array, " points"]
    impossible_share: Float[Array, " points"]
    impossible_time: Float[Array, " points"]


def scenarios() -> dict[str, Scenario]:
    """The scenarios by name; the same bins in each, laid out by `CLIP_BINS`."""
    total = sum(CLIP_BINS)
    easy = dict(first=0.2, lowest=0.0, practice=0.7, sharpness=1.0)
    hard = dict(first=0.95, lowest=0.0, practice=14.0)
    steps = np.linspace(0, 1, total)

    def build(default: dict[str, float], **parts: object) -> Scenario:
        columns = {name: np.full(total, value, np.float32) for name, value in default.items()}
        needs = np.zeros(total, bool)
        for where, values in parts.values():  # type: ignore[misc]
            for name, value in values.items():
                if name == "needs_previous":
                    needs[list(where)] = value
                else:
                    columns[name][list(where)] = value
        return Scenario(*(jnp.asarray(columns[n]) for n in default), jnp.asarray(needs))  # pyright: ignore[reportCallIssue]

    even = dict(first=0.5, lowest=0.0, practice=2.0, sharpness=1.0)
    noise = dict(first=0.6, lowest=0.3, practice=1.0)
    never = dict(first=1.0 - 1e-4, lowest=1.0 - 1e-4, practice=1.0)
    stairs = build(even)._replace(
        first=jnp.asarray(0.1 + 0.85 * steps, jnp.float32),
        practice=jnp.asarray(0.5 + 9 * steps**3, jnp.float32),
    )
    return {
        "even": build(even),
        "one hard bin": build(easy, a=((23,), hard)),
        "five hard bins": build(easy, a=((7, 23, 24, 45, 57), hard | {"practice": 6.0})),
        "a staircase": stairs,
        "a sudden bin": build(easy, a=((23,), hard | {"sharpness": 5.0})),
        "noise that cannot be learned": build(easy, a=((23,), hard), b=(range(30, 36), noise)),
        "an impossible bin": build(easy, a=((12,), hard), b=((28,), never)),
        "impossible only": build(even, a=((28,), never)),
        "a chain": build(
            easy,
            a=((20, 21, 22, 23), hard | {"practice": 3.0}),
            b=((21, 22, 23), {"needs_previous": True}),
        ),
    }


def stack_scenarios(found: dict[str, Scenario]) -> Scenario:
    """Puts scenarios along a new first axis."""
    return jax.tree.map(lambda *parts: jnp.stack(parts), *found.values())


def failure_rates(scenario: Scenario, practised: Float[Array, " bins"]) -> Float[Array, " bins"]:
    """Chance to fail in one pass, f."""
    done = -jnp.expm1(-((practised / scenario.practice) ** scenario.sharpness))
    before = jnp.where(scenario.needs_previous, jnp.roll(done, 1), 1.0)
    done = done * before
    return scenario.first + (scenario.lowest - scenario.first) * done


class _Walk(NamedTuple):
    sampler: Any
    practised: Float[Array, " bins"]
    clip: Int[Array, " envs"]
    frame: Int[Array, " envs"]
    age: Int[Array, " envs"]
    start: MotionTime


def run(
    config: TestbedConfig,
    sampler: Sampler,
    rows: Literal["steps", "episodes"],
    key: Key[Array, ""],
    scenario: Scenario,
) -> Curves:
    """Lets the synthetic learner practise where the sampler sends it.

    Args:
      sampler: of motion starts, over `config.clip_frames`, drawing `config.num_envs` at once.
    """
    layout = cut_into_bins(config.clip_frames, float(config.frames_per_bin))
    state = sampler.init(jax.random.fold_in(key, 0))
    first = sampler.sample(jax.random.fold_in(key, 1), state).items
    zeros = jnp.zeros(config.num_envs, jnp.int32)
    practised = jnp.zeros(sum(CLIP_BINS), jnp.float32)
    walk = _Walk(state, practised, first.clip, first.frame, zeros, first)
    loop_key = jax.random.fold_in(key, 2)
    inner = config.num_steps // config.num_points

    def advance(walk: _Walk, step: Array) -> tuple[_Walk, None]:
        return _step(config, sampler, rows, layout, scenario, walk, loop_key, step), None

    def point(walk: _Walk, number: Array) -> tuple[_Walk, Curves]:
        walk, _ = jax.lax.scan(advance, walk, number * inner + jnp.arange(inner))
        return walk, _look(sampler, layout, scenario, walk)

    return jax.lax.scan(point, walk, jnp.arange(config.num_points))[1]


def _step(
    config: TestbedConfig,
    sampler: Sampler,
    rows: Literal["steps", "episodes"],
    layout: BinLayout,
    scenario: Scenario,
    walk: _Walk,
    key: Key[Array, ""],
    step: Int[Array, ""],
) -> _Walk:
    key = jax.random.fold_in(key, step)
    here = MotionTime(walk.clip, walk.frame)
    place = bin_of(layout, here)
    rate = jnp.clip(failure_rates(scenario, walk.practised), 0.0, 1.0 - 1e-6)
    hazard = -jnp.expm1(jnp.log1p(-rate) / config.frames_per_bin)
    failed = jax.random.uniform(jax.random.fold_in(key, 0), place.shape) < hazard[place]
    is_end = walk.frame + 1 >= layout.frames_of[walk.clip]
    is_over = failed | is_end | (walk.age + 1 >= config.horizon)
    counted = count_outcomes(
        sampler, rows, walk.sampler, here=here, start=walk.start, failed=failed, is_over=is_over
    )
    share = 1.0 / (config.frames_per_bin * config.num_envs)
    drawn = sampler.sample(jax.random.fold_in(key, 1), counted).items
    return _Walk(
        sampler=counted,
        practised=walk.practised.at[place].add(share),
        clip=jnp.where(is_over, drawn.clip, walk.clip),
        frame=jnp.where(is_over, drawn.frame, walk.frame + 1),
        age=jnp.where(is_over, 0, walk.age + 1),
        start=MotionTime(
            jnp.where(is_over, drawn.clip, walk.start.clip),
            jnp.where(is_over, drawn.frame, walk.start.frame),
        ),
    )


def _look(sampler: Sampler, layout: BinLayout, scenario: Scenario, walk: _Walk) -> Curves:
    assert sampler.probabilities is not None
    is_possible = scenario.lowest < IMPOSSIBLE
    excess = jnp.where(is_possible, failure_rates(scenario, walk.practised) - scenario.lowest, 0.0)
    probs = sampler.probabilities(walk.sampler)
    # the sampler may have cut the clips otherwise, so its bins are found by the frames of ours
    middle = MotionTime(layout.clip, layout.first_frame + layout.num_frames // 2)
    theirs = probs[bin_of(walk.sampler.layout, middle)]
    spent = jnp.sum(jnp.where(is_possible, 0.0, walk.practised))  # all bins are equally long
    return Curves(
        failure=jnp.sum(excess) / jnp.maximum(jnp.sum(is_possible), 1),
        worst=jnp.max(excess),
        least_share=jnp.min(probs) * probs.shape[0],
        impossible_share=jnp.sum(jnp.where(is_possible, 0.0, theirs)),
        impossible_time=spent / jnp.maximum(jnp.sum(walk.practised), 1e-9),
    )
