"""How the field is moved: Adam, its rate over the run, and what decays."""

import dataclasses

import jax
import optax

from . import view_corrections
from .view_corrections import CorrectionConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam with a warm-up and an exponential fall of the learning rate over the last part of the
    run."""

    learning_rate: float = 1e-2
    final_fraction: float = 0.03
    """Learning rate at the last step, as a share of the peak."""
    decay_start: float = 0.3
    """Share of the run after which the learning rate begins to fall."""
    warmup_steps: int = 20
    beta2: float = 0.99
    epsilon: float = 1e-15
    network_weight_decay: float = 1e-6
    table_decay: float = 0.0
    """Pulls the features of the field's tables to zero, see `decay_tables`."""

    def __post_init__(self):
        """Refuses rates that cannot train."""
        if not 0.0 < self.learning_rate <= 1.0:
            raise ValueError(f"learning_rate must lie in (0, 1], got {self.learning_rate}")
        if not 0.0 < self.final_fraction <= 1.0 or not 0.0 <= self.decay_start < 1.0:
            raise ValueError(
                "final_fraction must lie in (0, 1] and decay_start in [0, 1), "
                f"got {self.final_fraction} and {self.decay_start}"
            )
        for name in ("warmup_steps", "network_weight_decay", "table_decay"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def learning_rate(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Builds the rate over a run of `num_steps`: linear warm-up, flat, exponential fall."""
    peak, final = config.learning_rate, config.learning_rate * config.final_fraction
    warmup = min(config.warmup_steps, num_steps)
    flat = max(warmup, int(num_steps * config.decay_start), 1)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.1 * peak if warmup else peak, peak, max(warmup, 1)),
            optax.constant_schedule(peak),
            optax.exponential_decay(peak, max(1, num_steps - flat), final / peak, end_value=final),
        ],
        [warmup, flat],
    )


def make_optimizer(
    config: OptimizerConfig, corrections: CorrectionConfig
) -> optax.GradientTransformation:
    """Builds Adam for a rate of 1; weight decay touches the networks only, and tables have one of
    their own."""

    def is_network(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: path[0].key == "params" and not _is_table(path), params
        )

    steps = [decay_tables(config.table_decay)] if config.table_decay > 0.0 else []
    steps += [
        optax.add_decayed_weights(config.network_weight_decay, mask=is_network),
        optax.adam(1.0, b2=config.beta2, eps=config.epsilon),
    ]
    if corrections.is_used:
        steps.append(view_corrections.scale_updates(corrections))
    return optax.chain(*steps)


def decay_tables(weight: float) -> optax.GradientTransformation:
    """Adds the slope of `weight` times the sum over tables of their mean square.

    An entry that no ray asks for falls to zero; one that rays agree about hardly moves. As a mean,
    it pulls each entry of a coarse level more.
    Source: Barron et al. 2023, "Zip-NeRF", which has a weight of 0.1 for photographs.
    """

    def add(gradients, params):
        def of_leaf(path, gradient, param):
            slope = (2.0 * weight / param.size) * param
            return gradient + slope if _is_table(path) else gradient

        return jax.tree_util.tree_map_with_path(of_leaf, gradients, params)

    return optax.stateless(add)


def _is_table(path):
    return "tables" in jax.tree_util.keystr(path)
