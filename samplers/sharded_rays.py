"""Any sampler of rays with what it remembers split over the devices of a mesh axis.

H devices hold V / H neighbouring views each and draw n / H rows of them with a sampler of their
own: fixed shares, as `sharding.draw_fixed_share` has them. Nothing is gathered, so neither the
scores nor the images of one device have to fit another, and a step costs what the sampler of one
slice costs. All slices are equally large, so q = q_h / H, and weights that are unbiased for the
mean over a slice are, over the whole batch, unbiased for the mean over all pixels.

Shares are fixed: a device does not draw more because its views are harder. Where views come in an
order that makes them alike, shuffle them first. `sharding` has the pyramid with exact global draws.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Key

from .base import Draw, Feedback, Sampler, check_items
from .pixels import PixelCoord, PixelIndex
from .registry import make_ray_sampler


def make_sharded_ray_sampler(
    name: str,
    *,
    mesh: Mesh,
    axis: str,
    num_views: int,
    rows: int,
    cols: int,
    batch_size: int,
    options: Mapping[str, object] | None = None,
) -> Sampler:
    """Makes a ray sampler whose state is split over the devices of a mesh axis.

    Data given to `init` has one entry per view; it, the state (one sampler per device, stacked
    along axis 0) and the rows of a draw are split over the axis. Items are numbered as without
    devices, and feedback is split as the draw is.

    Args:
      name, num_views, rows, cols, batch_size, options: of the whole, as for `make_ray_sampler`.
    Raises:
      ValueError: when the devices do not divide views and batch, and as `make_ray_sampler` does;
        `init` for a mask, since slices would no longer be equally large.
    """
    count = mesh.shape[axis]
    for what, number in (("views", num_views), ("rows of a batch", batch_size)):
        if number % count:
            raise ValueError(f"cannot split {number} {what} over {count} devices")
    views = num_views // count
    own = make_ray_sampler(
        name,
        num_views=views,
        rows=rows,
        cols=cols,
        batch_size=batch_size // count,
        options=options,
    )
    if "num_items" in {field.name for field in dataclasses.fields(own.config)}:
        check_items(num_views * rows * cols, batch_size)  # items are numbered over all devices
    split, same = PartitionSpec(axis), PartitionSpec()

    def moved(items: Any, sign: int) -> Any:
        first = sign * views * jax.lax.axis_index(axis)
        if isinstance(items, PixelIndex | PixelCoord):
            return items._replace(view=items.view + first)
        return items + first * rows * cols

    def on_devices(body: Callable, in_specs: tuple) -> Callable:
        return jax.shard_map(body, mesh=mesh, in_specs=in_specs, out_specs=split, check_vma=False)

    def own_key(key: Key[Array, ""]) -> Key[Array, ""]:
        return jax.random.fold_in(key, jax.lax.axis_index(axis))

    def init(key: Key[Array, ""], *data: Any, mask: Bool[Array, "..."] | None = None) -> Any:
        if mask is not None:
            raise ValueError(f"the sampler of {type(own.config).__name__} takes no mask if sharded")

        def one(key: Key[Array, ""], *data: Any) -> Any:
            return _stacked(own.init(own_key(key), *data))

        return on_devices(one, (same, *[split] * len(data)))(key, *data)

    def sample(key: Key[Array, ""], state: Any) -> Draw:
        def one(key: Key[Array, ""], state: Any) -> Draw:
            draw = own.sample(own_key(key), _alone(state))
            return draw._replace(items=moved(draw.items, 1), probs=draw.probs / count)

        return on_devices(one, (same, split))(key, state)

    def update(state: Any, draw: Draw, feedback: Feedback) -> Any:
        def one(state: Any, draw: Draw, feedback: Feedback) -> Any:
            draw = draw._replace(items=moved(draw.items, -1), probs=draw.probs * count)
            return _stacked(own.update(_alone(state), draw, feedback))

        return on_devices(one, (split, split, split))(state, draw, feedback)

    def reweigh(state: Any, draw: Draw, errors: Float[Array, " n"]) -> Float[Array, " n"]:
        assert own.reweigh is not None
        fn = own.reweigh

        def one(state: Any, draw: Draw, errors: Float[Array, " h"]) -> Float[Array, " h"]:
            draw = draw._replace(items=moved(draw.items, -1), probs=draw.probs * count)
            return fn(_alone(state), draw, errors)

        return on_devices(one, (split, split, split))(state, draw, errors)

    def probabilities(state: Any) -> Float[Array, "..."]:
        assert own.probabilities is not None
        fn = own.probabilities
        return on_devices(lambda state: fn(_alone(state)) / count, (split,))(state)

    return Sampler(
        init=init,
        sample=sample,
        update=update,
        probabilities=None if own.probabilities is None else probabilities,
        config=own.config,
        takes_mask=False,
        plan=own.plan,
        reweigh=None if own.reweigh is None else reweigh,
    )


def _stacked(state: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[None], state)


def _alone(state: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], state)
