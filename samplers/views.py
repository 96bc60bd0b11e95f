"""`views`: which cameras to look through next. Unbiased with method "independent".

Every view has the log weight

    a log(relative loss) + s log(1 + age) - c log(1 + visits)

with age the updates since it was last drawn. Methods:
* "independent": draws with replacement from softmax mixed with λ / N; exact probabilities.
* "rounds": without replacement, every view once before any comes twice; the weights order the
  round. Coverage is perfect and no weights are needed over a round.
* "farthest": like rounds, but each pick is the view farthest from those already in the round, which
  spreads the cameras of a batch (farthest-point order).

Source: staleness as in prioritised level replay (Jiang et al. 2021); farthest-point sampling
(Eldar et al. 1997).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from . import corrections, draws, scores, targets
from .base import Draw, Feedback, Sampler, bind, check_at_least, check_fraction, usable_rows
from .scores import MeanLoss

METHODS = ("independent", "rounds", "farthest")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """Settings of `views`.

    Attributes:
      num_views: cameras.
      batch_size: cameras per draw.
      method: "independent", "rounds" or "farthest"; the last two need batch_size <= num_views.
      loss_exponent: a, the preference for high loss.
      staleness_exponent: s, the preference for views not seen for long.
      coverage_exponent: c, the preference for views seen seldom, for method "independent".
      uniform_fraction: λ, for method "independent"; in (0, 1].
      correction: exponent of the weights for method "independent"; 1 is unbiased.
      decay: how much of a view's old score survives a visit.
      mean_decay: decay of the running mean loss that scores are relative to.
    """

    num_views: int
    batch_size: int
    method: str = "independent"
    loss_exponent: float = 0.5
    staleness_exponent: float = 0.5
    coverage_exponent: float = 0.0
    uniform_fraction: float = 0.2
    correction: float = 1.0
    decay: float = 0.7
    mean_decay: float = 0.9

    def __post_init__(self) -> None:
        check_at_least("num_views", self.num_views, 1)
        check_at_least("batch_size", self.batch_size, 1)
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, got {self.method!r}")
        if self.method != "independent" and self.batch_size > self.num_views:
            raise ValueError(
                f"{self.method} draws without replacement: batch_size {self.batch_size} "
                f"exceeds num_views {self.num_views}"
            )
        check_fraction("uniform_fraction", self.uniform_fraction, is_open_at_zero=True)
        for name in ("correction", "decay", "mean_decay"):
            check_fraction(name, getattr(self, name))
        check_at_least("staleness_exponent", self.staleness_exponent, 0)
        check_at_least("loss_exponent", self.loss_exponent, 0)
        check_at_least("coverage_exponent", self.coverage_exponent, 0)


class ViewsState(NamedTuple):
    """What `views` remembers.

    Attributes:
      score: relative loss per view.
      visits: how often each was drawn.
      last: update at which it was last drawn.
      centres: camera centres, for "farthest".
      mean: running mean loss over all views.
      step: updates seen.
    """

    score: Float[Array, " views"]
    visits: Int[Array, " views"]
    last: Int[Array, " views"]
    centres: Float[Array, "views 3"]
    mean: MeanLoss
    step: Int[Array, ""]


def init(
    config: ViewsConfig, key: Key[Array, ""], centres: Float[Array, "views 3"] | None = None
) -> ViewsState:
    """Starts with all views average and unseen.

    Args:
      centres: camera centres; needed by method "farthest".
    Raises:
      ValueError: when they are missing there, or not one per view.
    """
    del key
    n = config.num_views
    if centres is None:
        if config.method == "farthest":
            raise ValueError("method farthest needs the camera centres at init")
        centres = jnp.zeros((n, 3), jnp.float32)
    if centres.shape[0] != n:
        raise ValueError(f"needs {n} camera centres, got {centres.shape[0]}")
    return ViewsState(
        score=jnp.ones(n, jnp.float32),
        visits=jnp.zeros(n, jnp.int32),
        last=jnp.zeros(n, jnp.int32),
        centres=jnp.array(centres, copy=True),  # the caller's own may be donated with the state
        mean=scores.init_mean_loss(),
        step=jnp.zeros((), jnp.int32),
    )


def probabilities(config: ViewsConfig, state: ViewsState) -> Float[Array, " views"]:
    """Gives the probability of each view for one draw (over many rounds: 1 / N)."""
    if config.method != "independent":
        return jnp.full(config.num_views, 1.0 / config.num_views, jnp.float32)
    return targets.mix_uniform(jax.nn.softmax(_log_weights(config, state)), config.uniform_fraction)


def sample(config: ViewsConfig, key: Key[Array, ""], state: ViewsState) -> Draw:
    """Draws views (index)."""
    n, probs = config.batch_size, probabilities(config, state)
    if config.method == "independent":
        items = draws.draw_items(key, probs, n)
    else:
        noise = jax.random.gumbel(key, (config.num_views,))
        priority = _log_weights(config, state) + noise
        items = _fill_rounds(config, state, priority)
    drawn = probs[items]
    exponent = config.correction if config.method == "independent" else 0.0
    weights = corrections.importance_weights(drawn, config.num_views, exponent=exponent)
    return Draw(items=items, probs=drawn, weights=weights)


def update(config: ViewsConfig, state: ViewsState, draw: Draw, feedback: Feedback) -> ViewsState:
    """Counts visits, and moves the scores of the drawn views towards their relative loss."""
    usable = usable_rows(feedback)
    full = corrections.importance_weights(draw.probs, config.num_views)
    mean = scores.update_mean_loss(
        state.mean, feedback.value, full, usable, decay=config.mean_decay
    )
    relative = scores.relative_loss(jnp.where(usable, feedback.value, 0.0), scores.mean_loss(mean))
    zeros = jnp.zeros(config.num_views, jnp.float32)
    count = zeros.at[draw.items].add(usable.astype(jnp.float32))
    total = zeros.at[draw.items].add(jnp.where(usable, jnp.minimum(relative, 1e18), 0.0))
    new = scores.moving_average(state.score, total / jnp.maximum(count, 1.0), config.decay)
    step = state.step + 1
    return ViewsState(
        score=jnp.where(count > 0, new, state.score),
        visits=state.visits.at[draw.items].add(1),
        last=state.last.at[draw.items].set(step),
        centres=state.centres,
        mean=mean,
        step=step,
    )


def make(config: ViewsConfig) -> Sampler[ViewsState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities)


def _log_weights(config: ViewsConfig, state: ViewsState) -> Float[Array, " views"]:
    age = (state.step - state.last).astype(jnp.float32)
    loss = config.loss_exponent * jnp.log(jnp.maximum(state.score, 1e-3))
    seen = config.coverage_exponent * jnp.log1p(state.visits.astype(jnp.float32))
    return loss + config.staleness_exponent * jnp.log1p(age) - seen


def _fill_rounds(
    config: ViewsConfig, state: ViewsState, priority: Float[Array, " views"]
) -> Int[Array, " n"]:
    """Picks views one by one: fewest visits first, then distance or priority."""
    is_farthest = config.method == "farthest"

    def pick(
        carry: tuple[Int[Array, " views"], Float[Array, " views"]], _: None
    ) -> tuple[tuple[Int[Array, " views"], Float[Array, " views"]], Int[Array, ""]]:
        visits, distance = carry
        is_open = visits == jnp.min(visits)
        value = jnp.where(jnp.any(jnp.isfinite(distance)), distance, priority)
        value = value if is_farthest else priority
        best = jnp.argmax(jnp.where(is_open, value, -jnp.inf)).astype(jnp.int32)
        away = jnp.sum((state.centres - state.centres[best][None]) ** 2, axis=1)
        is_last_of_round = jnp.sum(is_open) == 1
        distance = jnp.where(is_last_of_round, jnp.inf, jnp.minimum(distance, away))
        return (visits.at[best].add(1), distance), best

    seen = state.visits > jnp.min(state.visits)
    gaps = jnp.sum((state.centres[:, None] - state.centres[None]) ** 2, axis=-1)
    distance = jnp.min(jnp.where(seen[None], gaps, jnp.inf), axis=1)
    _, items = jax.lax.scan(pick, (state.visits, distance), None, length=config.batch_size)
    return items
