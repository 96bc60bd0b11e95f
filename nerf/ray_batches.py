"""Batches of rays for anybody's training loop, drawn where the last errors were high.

A thin object over the pure functions of `samplers`: it holds the sampler's state and a key, so a
loop of any framework can say

>>> import itertools
>>> from scenes.loading import load_scene
>>> scene = load_scene("synthetic:spheres", num_train=2, num_test=1, size=16)
>>> batches = RayBatches(scene.train, sampler="error_weighted", rays_per_batch=64)
>>> def render(origins, directions):  # stands for a field
...     return 0.5 + 0.5 * directions
>>> for batch in itertools.islice(batches, 3):
...     colors = render(batch.origins, batch.directions)
...     errors = jnp.mean(jnp.square(colors - batch.colors), axis=-1)
...     loss = jnp.mean(batch.weights * errors)  # what the field's step lowers
...     batches.update_error_map(errors)

`state` and `restore` keep what it has learned over a restart, as NumPy arrays by name:

>>> import tempfile
>>> with tempfile.TemporaryFile() as file:
...     np.savez(file, **batches.state())
...     _ = file.seek(0)
...     batches.restore(np.load(file))

The batches' arrays are JAX arrays on its default device. NumPy reads them with `np.asarray`,
PyTorch with `torch.from_dlpack`; `update_error_map` takes arrays of any of the three.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from samplers import pixels as sampler_pixels
from samplers import registry
from samplers.base import MAX_ITEMS, Draw, Feedback
from scenes import backgrounds, posed_images
from scenes.posed_images import PosedImages
from scenes.rays import camera_rays


class RayBatch(NamedTuple):
    """One batch; n rays.

    Attributes:
      index: flat index of each ray's pixel over (view, row, col), in C order.
      origins, directions: of the rays; directions have unit length.
      colors: premultiplied by alpha, in [0, 1].
      alpha: 1 for images without.
      depth: distance along the ray, NaN unknown; None when the images have none.
      weights: multiply the per-ray loss by these, then average: unbiased for the mean over all
        pixels, if the sampler is.
      draw: what the sampler drew.
    """

    index: Int[Array, " n"]
    origins: Float[Array, "n 3"]
    directions: Float[Array, "n 3"]
    colors: Float[Array, "n 3"]
    alpha: Float[Array, " n"]
    depth: Float[Array, " n"] | None
    weights: Float[Array, " n"]
    draw: Draw


class RayBatches:
    """An endless iterator of batches that learns from the errors it is told.

    Args:
      posed: the images. Pixels their masks leave out are never drawn.
      sampler: name of a ray sampler whose pixels do not move; see `samplers.registry`.
      options: settings of the sampler that differ from its defaults.
      num_batches: how many will be drawn, for samplers that end otherwise than they begin, as
        error_map does with uniform draws; None: nobody knows, and they go on as they are.
    Raises:
      ValueError: for unknown samplers or options, and for samplers that need gradients.
    """

    def __init__(
        self,
        posed: PosedImages,
        *,
        sampler: str = "error_weighted",
        rays_per_batch: int = 4096,
        seed: int = 0,
        options: Mapping[str, object] | None = None,
        num_batches: int | None = None,
    ):
        if posed.num_views * posed.rows * posed.cols > MAX_ITEMS:
            raise ValueError(
                f"batches number their pixels: {posed.num_views} x {posed.rows} x {posed.cols} "
                "are 2^31 or more"
            )
        self._sampler = registry.make_ray_sampler(
            sampler,
            num_views=posed.num_views,
            rows=posed.rows,
            cols=posed.cols,
            batch_size=rays_per_batch,
            options=options,
        )
        self._shape = posed.images.shape[:3]
        self._pixels = posed_images.to_device(posed)
        key = jax.random.key(seed)
        self._key = jax.random.fold_in(key, 1)
        needs = registry.ENTRIES[sampler].needs
        if set(needs) - {"images"}:
            raise ValueError(f"{sampler} needs {', '.join(needs)}, which images do not have")
        data = [self._pixels.images[..., :3]] if needs else []
        self._state = self._sampler.init(jax.random.fold_in(key, 0), *data, mask=self._pixels.masks)
        if num_batches is not None:
            self._state = self._sampler.plan(self._state, num_batches)
        self._draw = jax.jit(self._make_batch)
        self._learn = jax.jit(self._sampler.update)
        self._count = 0
        self._last: RayBatch | None = None
        example = jax.eval_shape(self._draw, self._key, self._state, self._pixels)
        if isinstance(example.draw.items, sampler_pixels.PixelCoord):
            raise ValueError(
                f"{sampler} moves its pixels along the slope of the loss, which a loop over "
                "batches does not tell; choose another"
            )

    def __iter__(self) -> Iterator[RayBatch]:
        """Never ends: stop by breaking out of the loop."""
        return self

    def __next__(self) -> RayBatch:
        """Draws the next batch."""
        key = jax.random.fold_in(self._key, self._count)
        self._count += 1
        batch: RayBatch = self._draw(key, self._state, self._pixels)
        self._last = batch
        return batch

    def update_error_map(
        self, errors: Any, *, valid: Any | None = None, batch: RayBatch | None = None
    ) -> None:
        """Tells how wrong each ray of a batch was.

        Args:
          errors: one non-negative number per ray, not multiplied by the weights; a JAX, NumPy or
            PyTorch array on any device this process shares. Rays with other values are ignored.
          valid: False for rays to ignore.
          batch: which batch they belong to; the latest one by default.
        Raises:
          ValueError: before the first batch, or for a wrong number of errors.
        """
        batch = self._last if batch is None else batch
        if batch is None:
            raise ValueError("update_error_map comes after a batch; none has been drawn yet")
        values = _array(errors)
        if values.shape != batch.weights.shape:
            raise ValueError(
                f"update_error_map needs one error per ray, {batch.weights.shape}, "
                f"got {values.shape}"
            )
        feedback = Feedback(
            value=values.astype(jnp.float32),
            valid=None if valid is None else _array(valid).astype(bool),
        )
        self._state = self._learn(self._state, batch.draw, feedback)

    def state(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """What the next batches depend on: the sampler's state, the key and the count, by name.

        Take it after a batch's errors were told: which batch was the latest is not part of it.
        """
        kept = {"key": jax.random.key_data(self._key), "count": np.int64(self._count)}
        return {name: np.asarray(leaf) for name, leaf in kept.items()} | {
            name: np.asarray(leaf) for name, leaf in self._named_leaves()
        }

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken, batch for batch and bit for bit.

        Args:
          tree: of `state`, from batches of the same images, sampler, options and size; the seed
            is the tree's.
        Raises:
          ValueError: naming the leaf, where one is missing, unknown, or of another shape or type;
            nothing is changed then.
        """
        expected = self.state()
        if differing := sorted(set(expected) ^ set(tree)):
            where = "is missing" if differing[0] in expected else "is unknown"
            raise ValueError(
                f"state {differing[0]} {where}: it is of another sampler; here are "
                + ", ".join(expected)
            )
        found = {name: np.asarray(tree[name]) for name in expected}
        for name, leaf in expected.items():
            got = found[name]
            if (got.shape, got.dtype) != (leaf.shape, leaf.dtype):
                raise ValueError(
                    f"state {name} must be {leaf.dtype} of shape {leaf.shape}, got {got.dtype} of "
                    f"shape {got.shape}"
                )
        if found["count"] < 0:
            raise ValueError(f"state count must not be negative, got {found['count']}")
        # copies: the caller's arrays stay the caller's
        leaves = [jnp.array(found[name]) for name, _ in self._named_leaves()]
        self._state = jax.tree.unflatten(jax.tree.structure(self._state), leaves)
        self._key = jax.random.wrap_key_data(jnp.array(found["key"]))
        self._count = int(found["count"])
        self._last = None

    def _named_leaves(self) -> list[tuple[str, Array]]:
        leaves, _ = jax.tree_util.tree_flatten_with_path(self._state)
        return [("sampler" + jax.tree_util.keystr(path), leaf) for path, leaf in leaves]

    def error_map(self) -> Float[np.ndarray, "views rows cols"]:
        """How much likelier than on average each pixel is to be drawn; mean 1.

        Raises:
          ValueError: for a sampler without probabilities per pixel.
        """
        if self._sampler.probabilities is None:
            raise ValueError("this sampler has no probabilities per pixel")
        probabilities = np.asarray(self._sampler.probabilities(self._state), np.float64)
        return (probabilities * probabilities.size).reshape(self._shape)

    def _make_batch(self, key, state, pixels) -> RayBatch:
        rows, cols = self._shape[1:]
        draw = self._sampler.sample(key, state)
        view, xy = sampler_pixels.pixel_centres(draw.items, rows, cols)
        rays = camera_rays(pixels.cameras, view, xy)
        stored = backgrounds.premultiply(posed_images.gather_at(pixels.images, view, xy))
        known = pixels.depth is not None
        return RayBatch(
            index=sampler_pixels.index_from_pixels(
                sampler_pixels.pixel_indices(draw.items, rows, cols), rows, cols
            ),
            origins=rays.origins,
            directions=rays.directions,
            colors=stored[:, :3],
            alpha=stored[:, 3],
            depth=posed_images.gather_at(pixels.depth, view, xy) if known else None,
            weights=draw.weights,
            draw=draw,
        )


def _array(values: Any) -> Float[Array, "..."] | Bool[Array, "..."] | Int[Array, "..."]:
    """Reads a JAX, NumPy or PyTorch array; a tensor with a gradient is cut off from it."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return jnp.asarray(values)
