"""`edges` and `semantic`: pixels in proportion to a fixed prior from images or labels. Unbiased.

    q = (1 - λ) prior / Σ prior + λ / N,   weights (1 / (N q))^correction.

The prior costs one byte per pixel. It knows nothing of the training; it wins in the first steps and
on scenes whose detail sits on edges or rare classes, and loses as soon as the errors are elsewhere.

Source: edge-guided selection (EGRA; Gai et al. 2023) as a draw with exact probabilities.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from . import corrections, priors, pyramid
from .base import Draw, Feedback, Sampler, bind, check_at_least, check_fraction, check_items
from .pyramid import WeightPyramid

KINDS = ("edges", "boundaries", "classes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorWeightedConfig:
    """Settings of `edges` and `semantic`.

    Attributes:
      num_views: images.
      rows: their height in pixels.
      cols: their width.
      batch_size: pixels per draw.
      kind: "edges" of images, "boundaries" between labels, or "classes" of equal total weight.
      num_classes: labels are below this; for kind "classes".
      uniform_fraction: λ; in (0, 1].
      correction: exponent of the weights; 1 is unbiased.
      leaf_format: how the prior is stored, see `codecs`.
    """

    num_views: int
    rows: int
    cols: int
    batch_size: int
    kind: str = "edges"
    num_classes: int = 256
    uniform_fraction: float = 0.5
    correction: float = 1.0
    leaf_format: str = "uint8"

    def __post_init__(self) -> None:
        check_items(self.num_items, self.batch_size)
        check_fraction("uniform_fraction", self.uniform_fraction, is_open_at_zero=True)
        check_fraction("correction", self.correction)
        check_at_least("num_classes", self.num_classes, 1)
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {self.kind!r}")

    @property
    def num_items(self) -> int:
        """Pixels of all views."""
        return self.num_views * self.rows * self.cols


class PriorWeightedState(NamedTuple):
    """The prior per pixel, the number of updates seen, and the pixels a mask allows (None: all)."""

    weights: WeightPyramid
    step: Int[Array, ""]
    allowed: WeightPyramid | None = None


def init(
    config: PriorWeightedConfig,
    key: Key[Array, ""],
    data: Shaped[Array, "..."],
    *,
    mask: Bool[Array, "..."] | None = None,
) -> PriorWeightedState:
    """Computes the prior.

    Args:
      data: uint8 images [views, rows, cols, channels] for edges, else labels [views, rows, cols].
      mask: False marks pixels that are never drawn.
    Raises:
      ValueError: when the data or the mask have another size, or nothing may be drawn.
    """
    del key
    expected = (config.num_views, config.rows, config.cols)
    if data.shape[:3] != expected:
        raise ValueError(f"{config.kind} needs data of shape {expected}, got {data.shape}")
    if config.kind == "edges":
        strength = priors.edge_strength(data)
    elif config.kind == "boundaries":
        strength = priors.label_boundaries(data)
    else:
        strength = priors.class_balance(data, config.num_classes)
    strength, allowed = strength.reshape(-1), None
    if mask is not None:
        allowed = pyramid.build_mask(mask, config.num_items)
        strength = jnp.where(mask.reshape(-1), strength, 0.0)
    return PriorWeightedState(
        weights=pyramid.build(strength, leaf_format=config.leaf_format),
        step=jnp.zeros((), jnp.int32),
        allowed=allowed,
    )


def probabilities(config: PriorWeightedConfig, state: PriorWeightedState) -> Float[Array, " items"]:
    """Gives the exact probability of every pixel, in O(N)."""
    index = jnp.arange(config.num_items, dtype=jnp.int32)
    return pyramid.mixture_probability(state.weights, index, config.uniform_fraction, state.allowed)


def sample(config: PriorWeightedConfig, key: Key[Array, ""], state: PriorWeightedState) -> Draw:
    """Draws pixels (flat index) independently from the mixture of prior and uniform."""
    items, probs = pyramid.draw(
        key,
        state.weights,
        config.batch_size,
        uniform_fraction=config.uniform_fraction,
        prior=state.allowed,
    )
    count = pyramid.num_allowed(state.allowed, config.num_items)
    weights = corrections.importance_weights(probs, count, exponent=config.correction)
    return Draw(items=items, probs=probs, weights=weights)


def update(
    config: PriorWeightedConfig, state: PriorWeightedState, draw: Draw, feedback: Feedback
) -> PriorWeightedState:
    """Counts the step; feedback changes nothing."""
    del config, draw, feedback
    return state._replace(step=state.step + 1)


def make(config: PriorWeightedConfig) -> Sampler[PriorWeightedState]:
    """Binds the config."""
    return bind(config, init, sample, update, probabilities)
