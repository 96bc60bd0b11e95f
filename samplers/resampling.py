"""Carrying what a sampler learned over to another resolution, tile size or bin count.

Also the check that a restored state fits a sampler. Runs on the host, between steps.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import error_weighted, failure_bins, pyramid, scores, spatial
from .base import Sampler


def check_state(expected: Any, got: Any) -> None:
    """Refuses a state that does not fit, before it is used.

    Args:
      expected: a fresh state of the sampler, or its `jax.eval_shape`.
      got: the state to check, for instance read from a checkpoint.
    Raises:
      ValueError: naming the first field whose shape, dtype or presence differs.
    """
    wanted, found = (jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (expected, got))
    names = [{jax.tree_util.keystr(path) for path, _ in side} for side in (wanted, found)]
    if names[0] != names[1]:
        differing = sorted(names[0] ^ names[1])
        raise ValueError(f"sampler state does not fit: fields {', '.join(differing)} differ")
    for (path, want), (_, have) in zip(wanted, found, strict=True):
        if want.shape != have.shape or want.dtype != have.dtype:
            raise ValueError(
                f"sampler state does not fit: {jax.tree_util.keystr(path)} needs "
                f"{want.dtype}{list(want.shape)}, got {have.dtype}{list(have.shape)}; "
                "was it saved with other settings? resample_state carries it over"
            )


def resample_state(
    old: Sampler,
    state: Any,
    new: Sampler,
    *,
    old_shape: tuple[int, int, int] | None = None,
    new_shape: tuple[int, int, int] | None = None,
) -> Any:
    """Carries scores over from one sampler to another of the same kind and other sizes.

    Maps are interpolated linearly over the image, bins shared out by overlap; means and step counts
    go on as they were.

    Args:
      old: the sampler the state is from.
      state: what it learned.
      new: the sampler to continue with.
      old_shape: (views, rows, cols) of the old items; needed by `error_weighted` only.
      new_shape: the same for the new ones.
    Raises:
      ValueError: for kinds of sampler that differ or keep nothing to carry over, for another
        number of views or clips, and when shapes are needed or do not match.
    """
    pair = (old.config, new.config)
    if all(isinstance(config, spatial.SpatialConfig) for config in pair):
        return _resample_tiles(old.config, state, new)
    if all(isinstance(config, error_weighted.ErrorWeightedConfig) for config in pair):
        return _resample_items(old.config, state, new, old_shape, new_shape)
    if all(isinstance(config, failure_bins.FailureBinsConfig) for config in pair):
        return _resample_bins(old.config, state, new)
    raise ValueError(
        f"cannot carry {type(old.config).__name__} over to {type(new.config).__name__}"
    )


def resample_map(
    values: Float[Array, "views rows cols"], rows: int, cols: int
) -> Float[Array, "views {rows} {cols}"]:
    """Interpolates maps linearly to another size, averaging when it shrinks."""
    return jax.image.resize(values, (values.shape[0], rows, cols), "linear")


def _resample_tiles(config: spatial.SpatialConfig, state: Any, new: Sampler) -> Any:
    grid = new.config.grid
    if config.num_views != grid.num_views:
        raise ValueError(f"needs {config.num_views} views as before, got {grid.num_views}")
    if state.prior is not None or new.config.prior != "none":
        raise ValueError("a prior from images is not resampled: init anew with the new images")
    if state.allowed is not None:
        raise ValueError("a mask is not resampled: init anew with the new mask")
    score = resample_map(spatial.tile_scores(config, state), grid.tile_rows, grid.tile_cols)
    fresh = new.init(jax.random.key(0))
    area = grid.areas() / float(grid.tile**2)
    weights = area * score.reshape(-1) ** new.config.focus
    return fresh._replace(weights=pyramid.build(weights), mean=state.mean, step=state.step)


def _resample_items(
    config: error_weighted.ErrorWeightedConfig,
    state: Any,
    new: Sampler,
    old_shape: tuple[int, int, int] | None,
    new_shape: tuple[int, int, int] | None,
) -> Any:
    for name, shape, wanted in (
        ("old_shape", old_shape, config.num_items),
        ("new_shape", new_shape, new.config.num_items),
    ):
        if shape is None or shape[0] * shape[1] * shape[2] != wanted:
            raise ValueError(f"{name} must name (views, rows, cols) of {wanted} items, got {shape}")
    assert old_shape is not None
    assert new_shape is not None
    if old_shape[0] != new_shape[0]:
        raise ValueError(f"needs {old_shape[0]} views as before, got {new_shape[0]}")
    raw = pyramid.leaf_weights(state.weights, config.num_items)
    score = scores.power_inverse(raw, config.focus).reshape(old_shape)
    score = resample_map(score, new_shape[1], new_shape[2]).reshape(-1)
    weights = pyramid.build(score**new.config.focus)
    return state._replace(weights=weights)


def _resample_bins(config: failure_bins.FailureBinsConfig, state: Any, new: Sampler) -> Any:
    if config.clip_frames != new.config.clip_frames:
        raise ValueError(
            f"needs the clips as before, {config.clip_frames} frames, got {new.config.clip_frames}"
        )
    fresh = new.init(jax.random.key(0))
    a, b = state.layout, fresh.layout
    start = jnp.maximum(a.first_frame[:, None], b.first_frame[None])
    stop = jnp.minimum(
        (a.first_frame + a.num_frames)[:, None], (b.first_frame + b.num_frames)[None]
    )
    overlap = jnp.where(a.clip[:, None] == b.clip[None], jnp.maximum(stop - start, 0), 0)
    of_old = overlap / a.num_frames[:, None].astype(jnp.float32)
    of_new = overlap / b.num_frames[None].astype(jnp.float32)
    # Failures are shared out; exposure in passes is a density, so a split bin keeps it.
    exposure_share = of_new if config.is_exposure_in_passes else of_old
    return fresh._replace(
        failures=state.failures @ of_old,
        exposure=state.exposure @ exposure_share,
        trend=state.trend @ of_new,
        valid=(state.valid.astype(jnp.float32) @ overlap.astype(jnp.float32)) > 0,
        step=state.step,
    )
