"""Carrying what a sampler learned over to another resolution, tile size or bin count.

Also the check that a restored state fits a sampler. Runs on the host, between steps.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from . import error_maps, error_weighted, failure_bins, pyramid
from .base import Sampler
from .error_weighted import ErrorWeightedConfig
from .failure_bins import FailureBinsConfig
from .soft_mining import SoftMiningConfig


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
    data: Sequence[Any] = (),
    mask: Bool[Array, "..."] | None = None,
    old_shape: tuple[int, int, int] | None = None,
    new_shape: tuple[int, int, int] | None = None,
) -> Any:
    """Carries what was learned over from one sampler to another of the same kind and other sizes.

    Maps are interpolated linearly over the image, bins shared out by overlap, slots of soft mining
    stay where they are; means, shares and step counts go on as they were. Pools are ranked anew. A
    bin is closed where an old one was that may not be started in; what was given by hand is shared
    out over the open ones.

    Args:
      old: the sampler the state is from.
      state: what it learned.
      new: the sampler to continue with.
      data: what `new.init` takes after the key, of the new size: images for a prior.
      mask: of the new size; needed when the old state has one.
      old_shape: (views, rows, cols) of the old items; needed by `error_weighted` only.
      new_shape: the same for the new ones.
    Raises:
      ValueError: for kinds of sampler that differ or keep nothing to carry over, for another
        number of views, slots or clips, when data, a mask or shapes are needed or do not match, and
        when no bin stays open.
    """
    kind = type(old.config)
    if kind is not type(new.config) or kind not in (
        *error_maps.TILED,
        ErrorWeightedConfig,
        SoftMiningConfig,
        FailureBinsConfig,
    ):
        raise ValueError(f"cannot carry {kind.__name__} over to {type(new.config).__name__}")
    if kind is FailureBinsConfig:
        return _resample_bins(old.config, state, new)
    if state.allowed is not None and mask is None:
        raise ValueError("the state has a mask: give the mask of the new size")
    fresh = new.init(jax.random.key(0), *data, mask=mask)
    if kind is ErrorWeightedConfig:
        return _resample_items(old.config, state, new.config, fresh, old_shape, new_shape)
    if old.config.num_views != new.config.num_views:
        raise ValueError(
            f"needs {old.config.num_views} views as before, got {new.config.num_views}"
        )
    if kind is SoftMiningConfig:
        return _keep_slots(state, fresh)
    grid = new.config.grid
    score = error_maps.tile_scores(old.config, state)
    score = resample_map(score, grid.tile_rows, grid.tile_cols)
    kept = ("mean", "step", "run_length", "shares")
    fresh = fresh._replace(**{name: getattr(state, name) for name in kept if hasattr(state, name)})
    return error_maps.with_tile_scores(new.config, fresh, score)


def resample_map(
    values: Float[Array, "views rows cols"], rows: int, cols: int
) -> Float[Array, "views {rows} {cols}"]:
    """Interpolates maps linearly to another size, averaging when it shrinks."""
    return jax.image.resize(values, (values.shape[0], rows, cols), "linear")


def _resample_items(
    config: ErrorWeightedConfig,
    state: Any,
    new: ErrorWeightedConfig,
    fresh: Any,
    old_shape: tuple[int, int, int] | None,
    new_shape: tuple[int, int, int] | None,
) -> Any:
    for name, shape, wanted in (
        ("old_shape", old_shape, config.num_items),
        ("new_shape", new_shape, new.num_items),
    ):
        if shape is None or shape[0] * shape[1] * shape[2] != wanted:
            raise ValueError(f"{name} must name (views, rows, cols) of {wanted} items, got {shape}")
    assert old_shape is not None
    assert new_shape is not None
    if old_shape[0] != new_shape[0]:
        raise ValueError(f"needs {old_shape[0]} views as before, got {new_shape[0]}")
    score = error_weighted.item_scores(config, state).reshape(old_shape)
    score = resample_map(score, new_shape[1], new_shape[2]).reshape(-1)
    start = pyramid.leaf_weights(fresh.weights, new.num_items)
    weights = pyramid.build(start * score**new.focus)
    return fresh._replace(
        weights=weights, mean=state.mean, step=state.step, run_length=state.run_length
    )


def _keep_slots(state: Any, fresh: Any) -> Any:
    """Places are relative to the image, so slots stay; the edges they respawn on are new."""
    if state.uv.shape != fresh.uv.shape:
        raise ValueError(f"needs {state.uv.shape[0]} slots as before, got {fresh.uv.shape[0]}")
    kept = ("view", "uv", "loss", "drift", "step")
    return fresh._replace(**{name: getattr(state, name) for name in kept})


def _resample_bins(config: FailureBinsConfig, state: Any, new: Sampler) -> Any:
    if config.clip_frames != new.config.clip_frames:
        raise ValueError(
            f"needs the clips as before, {config.clip_frames} frames, got {new.config.clip_frames}"
        )
    fresh, before = new.init(jax.random.key(0)), failure_bins.init(config, jax.random.key(0))
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
    is_forbidden = before.valid & ~state.valid
    valid = fresh.valid & ~jnp.any(is_forbidden[:, None] & (overlap > 0), axis=0)
    if not isinstance(valid, Tracer) and not bool(jnp.any(valid)):
        raise ValueError("every bin of the new size holds a part that may not be started in")
    override = jnp.matmul(state.override, of_old, precision="highest")
    return fresh._replace(
        failures=jnp.matmul(state.failures, of_old, precision="highest"),
        exposure=jnp.matmul(state.exposure, exposure_share, precision="highest"),
        trend=jnp.matmul(state.trend, of_new, precision="highest"),
        valid=valid,
        override=jnp.where(valid, override, 0.0),
        step=state.step,
    )
