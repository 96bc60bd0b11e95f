"""Pure functions that turn a sampler's state into arrays to look at; plotting is done elsewhere."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import error_maps, error_weighted, failure_bins
from .base import Sampler
from .corrections import effective_items, normalised_entropy
from .pixels import PixelCoord, PixelIndex, pixel_indices


class Concentration(NamedTuple):
    """How unevenly a sampler draws.

    Attributes:
      entropy: normalised, 1 for uniform.
      effective_items: 1 / sum of squared probabilities.
      highest: largest probability as a multiple of the uniform one.
      lowest: smallest as a multiple of the uniform one.
      top: the most likely item.
    """

    entropy: Float[Array, ""]
    effective_items: Float[Array, ""]
    highest: Float[Array, ""]
    lowest: Float[Array, ""]
    top: Int[Array, ""]


class BinTable(NamedTuple):
    """The bins of a motion sampler, one entry per bin."""

    clip: Int[Array, " bins"]
    first_frame: Int[Array, " bins"]
    num_frames: Int[Array, " bins"]
    failure_rate: Float[Array, " bins"]
    exposure: Float[Array, " bins"]
    probability: Float[Array, " bins"]


def concentration(probs: Float[Array, "..."]) -> Concentration:
    """Measures how far a distribution is from uniform."""
    flat = probs.reshape(-1)
    n = flat.shape[0]
    return Concentration(
        entropy=normalised_entropy(flat),
        effective_items=effective_items(flat),
        highest=jnp.max(flat) * n,
        lowest=jnp.min(flat) * n,
        top=jnp.argmax(flat).astype(jnp.int32),
    )


def sampling_density(
    sampler: Sampler, state: Any, num_views: int, rows: int, cols: int
) -> Float[Array, "views rows cols"]:
    """Gives each pixel's probability as a multiple of the uniform one.

    Raises:
      ValueError: for a sampler without a finite set of items, or of another size.
    """
    if sampler.probabilities is None:
        raise ValueError(f"{type(sampler.config).__name__} has no probabilities to show")
    probs = sampler.probabilities(state)
    if probs.size != num_views * rows * cols:
        raise ValueError(f"needs {num_views} x {rows} x {cols} items, got {probs.size}")
    return probs.reshape(num_views, rows, cols) * float(probs.size)


def error_map(sampler: Sampler, state: Any) -> Float[Array, "views tile_rows tile_cols"]:
    """Gives the relative loss per tile of a sampler that scores tiles; 1 is average.

    Raises:
      ValueError: for other samplers.
    """
    if not isinstance(sampler.config, error_maps.TILED):
        raise ValueError(f"no error map in {type(sampler.config).__name__}")
    return error_maps.tile_scores(sampler.config, state)


def pixel_scores(
    sampler: Sampler, state: Any, num_views: int, rows: int, cols: int
) -> Float[Array, "views rows cols"]:
    """Gives the relative loss a sampler remembers of each pixel, or of its tile; 1 is average.

    Raises:
      ValueError: for samplers that remember no such thing, and for another number of items.
    """
    config = sampler.config
    if isinstance(config, error_maps.TILED):
        return config.grid.to_pixels(error_maps.tile_scores(config, state).reshape(-1))
    if not isinstance(config, error_weighted.ErrorWeightedConfig):
        raise ValueError(f"no loss per pixel in {type(config).__name__}")
    if config.num_items != num_views * rows * cols:
        raise ValueError(f"needs {num_views} x {rows} x {cols} items, got {config.num_items}")
    score = error_weighted.item_scores(config, state)
    return score.reshape(num_views, rows, cols)


def add_visits(
    counts: Int[Array, "views rows cols"], items: Int[Array, " n"] | PixelIndex | PixelCoord
) -> Int[Array, "views rows cols"]:
    """Counts the pixels of a draw; start from zeros."""
    pixels = pixel_indices(items, *counts.shape[1:])
    return counts.at[pixels.view, pixels.row, pixels.col].add(1)


def coverage(counts: Int[Array, "views rows cols"]) -> Float[Array, " views"]:
    """Gives the share of each view's pixels drawn at least once."""
    return jnp.mean((counts > 0).astype(jnp.float32), axis=(1, 2))


def bin_table(
    config: failure_bins.FailureBinsConfig, state: failure_bins.FailureBinsState
) -> BinTable:
    """Lists the bins of a motion sampler with their rates and probabilities."""
    return BinTable(
        clip=state.layout.clip,
        first_frame=state.layout.first_frame,
        num_frames=state.layout.num_frames,
        failure_rate=failure_bins.failure_rates(config, state),
        exposure=state.exposure,
        probability=failure_bins.probabilities(config, state),
    )
