"""From a job to what its loop works on: the scene, the sampler, the first state.

Everything that can be wrong with the input is found here, before anything is compiled.
"""

import concurrent.futures
import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Key, UInt8

from nerf import train_step
from nerf.spaces import SceneBounds
from nerf.train_step import NerfConfig, StepMetrics, TrainData, TrainState
from samplers import masked_tiles, registry
from samplers.base import Sampler
from samplers.device_axis import axis_of
from samplers.spatial import SpatialConfig
from scenes import posed_images
from scenes.backgrounds import plain_color
from scenes.loading import load_scene
from scenes.posed_images import PosedImages, SplitImages

from . import devices
from .nerf_config import NerfJob, SceneConfig

CompiledStep = Callable[..., tuple[TrainState, StepMetrics]]

_SPARSE = 0.05
"""Depth known for a smaller share of the pixels than this gets rays of its own."""


class Setup(NamedTuple):
    """A job made ready."""

    job: NerfJob
    scene: SplitImages
    sampler: Sampler
    data: TrainData
    background: Float[np.ndarray, " 3"]
    """What held-out views are rendered over."""
    init_key: Key[Array, ""]
    run_key: Key[Array, ""]
    mesh: Mesh | None = None
    """Devices that share the steps; `data` and `run_key` are on all of them."""


def prepare(job: NerfJob, scene: SplitImages | None = None, mesh: Mesh | None = None) -> Setup:
    """Loads the scene, makes the sampler and puts the training pixels on the devices.

    The job that comes back knows what kind of scene it is.

    Args:
      scene: the job's scene if it is already loaded.
    Raises:
      FileNotFoundError, ValueError: naming the file and field, the sampler or its option, or the
        setting that cannot be split over the devices.
    """
    check_sampler_name(job.sampler.name)
    scene = load(job.scene) if scene is None else scene
    train = scene.train
    job = fitted(job, scene)
    train_step.check_shares(job.train, axis_of(mesh))
    sampler = registry.make_ray_sampler(
        job.sampler.name,
        num_views=train.num_views,
        rows=train.rows,
        cols=train.cols,
        batch_size=job.train.rays_per_step,
        options=job.sampler.as_dict(),
    )
    tiles = sampler.config
    if isinstance(tiles, SpatialConfig) and tiles.patch and train.masks is not None:
        # the first state is made in a compiled program, which could not say so
        masked_tiles.allow_whole(tiles.grid, jnp.asarray(train.masks))
    init_key, run_key = jax.random.split(jax.random.key(job.seed))
    return Setup(
        job=job,
        scene=scene,
        sampler=sampler,
        data=devices.spread(train_data(job.train, train), mesh),
        background=evaluation_background(job.train, scene),
        init_key=init_key,
        run_key=devices.spread(run_key, mesh),
        mesh=mesh,
    )


def load(config: SceneConfig) -> SplitImages:
    """Loads the images a job names."""
    scene = load_scene(
        config.data,
        downscale=config.downscale,
        longest_side=config.longest_side,
        with_depth=config.with_depth,
        depth_scale=config.depth_scale,
        holdout=config.holdout,
        num_train=config.num_train,
        num_test=config.num_test,
        size=config.size,
        seed=config.seed,
    )
    if config.train_views is None:
        return scene
    return scene._replace(train=posed_images.spread_views(scene.train, config.train_views))


def fitted(job: NerfJob, scene: SplitImages) -> NerfJob:
    """Fills in what a job leaves to its scene: the marcher's space, rays for sparse depth.

    Raises:
      ValueError: when the job wants depth and the scene has none.
    """
    train, posed = job.train, scene.train
    marching = dataclasses.replace(train.marching, space=posed.kind)
    train = dataclasses.replace(train, marching=marching)
    if train.depth.is_used:
        share = 0.0 if posed.depth is None else float(np.mean(_known_depth(posed)))
        if share == 0.0:
            raise ValueError(
                f"{scene.name}: --depth needs images with depth, or a COLMAP model's points; "
                "this scene has neither"
            )
        if share < _SPARSE and not train.depth.keypoint_rays:
            count = max(1, train.rays_per_step // 4)
            train = dataclasses.replace(
                train, depth=dataclasses.replace(train.depth, keypoint_rays=count)
            )
    elif train.depth.keypoint_rays:
        raise ValueError("depth.keypoint_rays are rays of known depth, which nothing uses: --depth")
    return dataclasses.replace(job, train=train)


def train_data(config: NerfConfig, posed: PosedImages) -> TrainData:
    """Puts what a run learns from on the device."""
    pixels = posed_images.to_device(posed if config.depth.is_used else posed._replace(depth=None))
    known = None
    if config.depth.keypoint_rays:
        assert posed.depth is not None
        known = jnp.asarray(np.flatnonzero(_known_depth(posed).reshape(-1)), jnp.int32)
    return TrainData(pixels=pixels, bounds=bounds(posed), depth_pixels=known)


def _known_depth(posed: PosedImages) -> Bool[np.ndarray, "views rows cols"]:
    """Pixels that count and whose depth is known."""
    assert posed.depth is not None
    is_known = np.isfinite(posed.depth)
    return is_known if posed.masks is None else is_known & posed.masks


def first_state(setup: Setup) -> TrainState:
    """Draws the state of step 0, as one compiled program instead of a hundred small ones."""
    # it runs once: half the time to compile, and hardly slower
    quickly = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    state = jax.jit(functools.partial(_init, setup), compiler_options=quickly)(
        setup.init_key, _sampler_mask(setup), *_sampler_data(setup)
    )
    return devices.spread_from_first(state, setup.mesh)


def begin(
    setup: Setup, known: dict[Any, CompiledStep] | None = None
) -> tuple[TrainState, CompiledStep]:
    """Draws the first state while the step is compiled, which takes both cores of a small machine.

    Args:
      known: as for `compiled_step`.
    """
    if setup.mesh is not None:  # several processes must do the same things in the same order
        return first_state(setup), compiled_step(setup, known)
    known = {} if known is None else known
    name = _step_name(setup)
    # the step is traced before the other thread traces: two cannot at once
    lowered = None if name in known else _lowered_step(setup)
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as beside:
        drawing = beside.submit(first_state, setup)
        if lowered is not None:
            known[name] = lowered.compile()
        return drawing.result(), known[name]


def compiled_step(setup: Setup, known: dict[Any, CompiledStep] | None = None) -> CompiledStep:
    """Compiles the train step.

    Args:
      known: compiled steps of earlier runs on the same images, to use and to add to.
    """
    known = {} if known is None else known
    name = _step_name(setup)
    if name not in known:
        known[name] = _lowered_step(setup).compile()
    return known[name]


def _step_name(setup: Setup) -> tuple[Any, ...]:
    return setup.job.train, setup.sampler.config, setup.mesh


def _lowered_step(setup: Setup) -> Any:
    step = cast(Any, train_step.make_train_step(setup.job.train, setup.sampler, setup.mesh))
    return step.lower(state_shapes(setup), setup.data, setup.run_key)


def state_shapes(setup: Setup) -> TrainState:
    """The first state as shapes only, which costs nothing."""
    return jax.eval_shape(
        functools.partial(_init, setup),
        setup.init_key,
        _sampler_mask(setup),
        *_sampler_data(setup),
    )


def _init(setup: Setup, key: Key[Array, ""], mask: Array | None, *data: Any) -> TrainState:
    train = setup.scene.train
    return train_step.init_state(
        setup.job.train,
        key,
        setup.sampler,
        *data,
        mask=mask,
        image_shape=(train.num_views, train.rows, train.cols),
    )


def bounds(images: PosedImages) -> SceneBounds:
    """Where a split has something to see."""
    return SceneBounds(
        aabb=jnp.asarray(images.aabb, jnp.float32),
        near=jnp.asarray(images.near, jnp.float32),
        far=jnp.asarray(images.far, jnp.float32),
    )


def evaluation_background(config: NerfConfig, scene: SplitImages) -> Float[np.ndarray, " 3"]:
    """The one colour behind held-out views.

    Images with alpha: the training background, or the scene's own when that is random. Images
    without: what training put behind rays that reach the far side, white when that is random.
    """
    if scene.train.images.shape[-1] == 3:
        return plain_color(config.behind_opaque)
    chosen = scene.background if config.background == "random" else config.background
    return plain_color(chosen)


def fingerprint(scene: SplitImages) -> dict[str, Any]:
    """Sizes and checksums of the images and of what belongs to them (lenses, bounds, masks, depth),
    to tell whether a resumed run sees the same ones."""
    result: dict[str, Any] = {}
    for name in ("train", "test"):
        split: PosedImages = getattr(scene, name)
        poses = np.asarray(split.cameras.camera_to_world)
        others = (
            split.cameras._replace(camera_to_world=None),  # pyright: ignore[reportArgumentType]
            (split.aabb, split.near, split.far, split.masks, split.depth),
        )
        rest = 0
        for array in jax.tree.leaves(others):
            rest = zlib.crc32(np.ascontiguousarray(array).tobytes(), rest)
        result[name] = {
            "shape": list(split.images.shape),
            "crc32": zlib.crc32(poses.tobytes(), zlib.crc32(split.images.tobytes())),
            "crc32_of_the_rest": rest,
        }
    return result


def check_sampler_name(name: str) -> None:
    """Refuses ray samplers that are unknown, or need what images do not give.

    Known before images are read, which may take minutes.
    Raises:
      ValueError: listing those that can be used here.
    """
    missing = {
        known: [need for need in registry.ENTRIES[known].needs if need not in _SAMPLER_DATA]
        for known in registry.names("rays")
    }
    usable = f"ray samplers: {', '.join(known for known in missing if not missing[known])}"
    if name not in missing:
        raise ValueError(f"no ray sampler {name!r}; {usable}")
    if missing[name]:
        raise ValueError(
            f"sampler {name} needs {', '.join(missing[name])}, which images do not give: call it "
            f"from your own training step (docs/samplers.md); {usable}"
        )


def _sampler_mask(setup: Setup) -> Array | None:
    """Pixels that count, where there are masks."""
    return devices.local(setup.data.pixels.masks)


def _sampler_data(setup: Setup) -> tuple[Any, ...]:
    needs = registry.ENTRIES[setup.job.sampler.name].needs
    return tuple(_SAMPLER_DATA[need](setup) for need in needs)


def _opaque_images(setup: Setup) -> UInt8[Array, "views rows cols 3"]:
    return _opaque(devices.local(setup.data.pixels.images), setup.background)


_SAMPLER_DATA: dict[str, Callable[[Setup], Any]] = {"images": _opaque_images}
"""What samplers may ask for when they begin, and where it is."""


def _opaque(
    images: UInt8[Array, "views rows cols channels"], background: Float[np.ndarray, " 3"]
) -> UInt8[Array, "views rows cols 3"]:
    """Lays the images over the background, view by view to save memory."""
    if images.shape[-1] == 3:
        return images

    def one(image: Array) -> Array:
        alpha = image[..., 3:].astype(jnp.float32) / 255.0
        color = image[..., :3].astype(jnp.float32) * alpha + 255.0 * background * (1.0 - alpha)
        return jnp.round(color).astype(jnp.uint8)

    return jax.lax.map(one, images)
