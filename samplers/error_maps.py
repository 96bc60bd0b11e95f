"""The error maps of the samplers that score tiles: reading them, and going on from one.

An error map is the relative loss of every tile, 1 is average, whatever a sampler keeps instead:
powers of it, products with the area, another order of the tiles. So it can be shown, and carried
over to other tiles (`resampling`).
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from . import mixed, multi_scale, pyramid, ranked_pool, spatial
from .masked_tiles import MaskedTiles
from .multi_scale import MultiScaleConfig
from .pixels import PixelIndex
from .ranked_pool import RankedPoolConfig
from .spatial import SpatialConfig
from .tiles import TileGrid

TILED = (SpatialConfig, mixed.MixedConfig, MultiScaleConfig, RankedPoolConfig)
"""Configs of samplers that have an error map."""


def tile_scores(config: Any, state: Any) -> Float[Array, "views tile_rows tile_cols"]:
    """Gives the relative loss of every tile; 1, average, where a mask leaves nothing to draw.

    Args:
      config: one of `TILED`.
      state: its state.
    """
    grid, areas = config.grid, MaskedTiles(config.grid, state.allowed).areas()
    if isinstance(config, RankedPoolConfig):
        score = pyramid.leaf_weights(state.scores, grid.num_tiles)
    elif isinstance(config, SpatialConfig):
        score = spatial.tile_scores(config, state).reshape(-1)
    elif isinstance(config, MultiScaleConfig):
        leaf = multi_scale.tile_number(config, _first_pixels(grid))
        score = _per_area(pyramid.read(state.weights, leaf), areas, grid)
    else:
        score = _per_area(pyramid.leaf_weights(state.weights, grid.num_tiles), areas, grid)
    return grid.as_map(jnp.where(areas > 0, score, 1.0))


def with_tile_scores(
    config: Any, state: Any, score: Float[Array, "views tile_rows tile_cols"]
) -> Any:
    """Replaces the error map of a state; pools are ranked anew once the warm-up is over.

    Args:
      config: one of `TILED`.
      state: its state, with the step that counts.
      score: not negative; what it says of tiles without a pixel to draw is ignored.
    """
    grid, tiles = config.grid, MaskedTiles(config.grid, state.allowed)
    areas, score = tiles.areas(), score.reshape(-1)
    share = areas / float(grid.tile**2)
    if isinstance(config, RankedPoolConfig):
        kept = pyramid.build(jnp.where(areas > 0, score, 0.0))
        pool = ranked_pool.rank_tiles(
            tiles,
            kept,
            ranked_pool.pool_fraction(config, state.step),
            is_hardest=config.is_hardest,
        )
        return state._replace(scores=kept, pool=_once_warm(config, state, pool))
    if isinstance(config, SpatialConfig):
        return state._replace(weights=pyramid.build(share * score**config.focus))
    if isinstance(config, MultiScaleConfig):
        leaf = multi_scale.tile_number(config, _first_pixels(grid))
        leaves = jnp.zeros(state.weights.leaves.size).at[leaf].set(share * score)
        return state._replace(weights=pyramid.build(leaves, fan_out=multi_scale.FAN))
    ranked = pyramid.build(jnp.where(areas > 0, score, 0.0))
    pool = ranked_pool.rank_tiles(tiles, ranked, config.pool_fraction, is_hardest=True)
    weights = pyramid.build(share * score)
    return state._replace(weights=weights, pool=_once_warm(config, state, pool))


def _first_pixels(grid: TileGrid) -> PixelIndex:
    view, row, col = grid.split(jnp.arange(grid.num_tiles, dtype=jnp.int32))
    return PixelIndex(view, row * grid.tile, col * grid.tile)


def _per_area(
    weights: Float[Array, " tiles"], areas: Float[Array, " tiles"], grid: TileGrid
) -> Float[Array, " tiles"]:
    return weights * float(grid.tile**2) / jnp.maximum(areas, 1.0)


def _once_warm(config: Any, state: Any, pool: pyramid.WeightPyramid) -> pyramid.WeightPyramid:
    return pool if int(state.step) >= config.warmup_steps else state.pool
