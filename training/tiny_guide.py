"""The small guide's weights: trained once, kept in a file, read back."""

import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Float

from scenes.cameras import Cameras
from scenes.formats.array_files import read_npz, write_npz
from voxels.grid import VoxelGrid, harden
from voxels.guidance.critic import fit_critic, score
from voxels.guidance.prompts import WORDS
from voxels.guidance.tiny import TinyUNet, shrink
from voxels.guidance.tiny_training import (
    Pictures,
    TinyTrainingConfig,
    init_tiny,
    sample_worlds,
    tiny_step,
)
from voxels.palette import daylight, lit_colors, terrain_palette
from voxels.procedural import WorldConfig, orbit_cameras
from voxels.rendering.images import RenderConfig, render_views

from . import runtime
from .progress import duration

_SIZE = 64  # pictures are rendered at this and reduced
_WORDS_KEY = "words"
_CRITIC_WORLDS, _CRITIC_SEED = 200, 10**6


def default_path() -> Path:
    """Where the weights are kept when no file is named."""
    return runtime.default_cache_folder().parent / "tiny_guide.npz"


def load_or_train(path: str | None) -> Any:
    """Weights of the denoiser from a file; trained and saved where there is none yet.

    Raises:
      FileNotFoundError: a file was named and does not exist.
      ValueError: the file holds something else.
    """
    if path is not None:
        return load(Path(path))
    if default_path().exists():
        return load(default_path())
    print("the tiny guide has no weights yet and is trained now, a few minutes on two cores")
    params = train(TinyTrainingConfig())
    save(default_path(), params)
    print(f"kept in {default_path()}")
    return params


def load(path: Path) -> Any:
    """Reads weights.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: naming the file and the array, if it is damaged, not one of ours, or for other
        words.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no weights of the tiny guide")
    values = read_npz(path)
    words = tuple(str(word) for word in np.atleast_1d(values.pop(_WORDS_KEY, ())))
    if words != WORDS:
        raise ValueError(f"{path}: needed weights for {WORDS}, got {words}")
    for name, shape in _weight_shapes().items():
        if name not in values:
            raise ValueError(f"{path}: array {name} is missing")
        found = values[name]
        if found.shape != shape or found.dtype != np.float32 or not np.isfinite(found).all():
            raise ValueError(
                f"{path}: array {name} must be finite float32{list(shape)}, "
                f"got {found.dtype}{list(found.shape)}"
            )
    if unknown := values.keys() - _weight_shapes().keys():
        raise ValueError(f"{path}: array {min(unknown)} is none of {TinyUNet.__name__}")
    return traverse_util.unflatten_dict({k: jnp.asarray(v) for k, v in values.items()}, sep="/")


@functools.cache
def _weight_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the weights by their names in a file."""
    params = jax.eval_shape(lambda: init_tiny(TinyTrainingConfig(), jax.random.key(0)).params)
    flat: dict[str, Any] = traverse_util.flatten_dict(params, sep="/")
    return {name: leaf.shape for name, leaf in flat.items()}


def save(path: Path, params: Any) -> None:
    """Writes weights, whole or not at all."""
    flat: dict[str, Any] = traverse_util.flatten_dict(params, sep="/")
    arrays = {name: np.asarray(leaf) for name, leaf in flat.items()}
    write_npz(path, arrays | {_WORDS_KEY: np.array(WORDS)})


def train(config: TinyTrainingConfig, *, seed: int = 0) -> Any:
    """Renders worlds, learns to denoise them, and prints how it goes."""
    begun = time.perf_counter()
    pictures = render_pictures(WorldConfig(), config.num_worlds, config.views_per_world, seed)
    print(f"{len(pictures.images)} pictures in {duration(time.perf_counter() - begun)}")
    key = jax.random.key(seed)
    state = init_tiny(config, jax.random.fold_in(key, config.num_steps))
    step = jax.jit(functools.partial(tiny_step, config), donate_argnums=1)
    state = jax.tree.map(jnp.copy, state)  # weights and their average must not share buffers
    losses, last_word = [], time.perf_counter()
    for number in range(1, config.num_steps + 1):
        state, loss = step(key, state, pictures)
        losses.append(loss)
        if time.perf_counter() - last_word > 10 or number == config.num_steps:
            last_word = time.perf_counter()
            left = (last_word - begun) / number * (config.num_steps - number)
            recent = float(np.mean(jax.device_get(losses[-100:])))
            print(f"denoiser {number}/{config.num_steps}  {recent:.4f}  {duration(left)} left")
    return jax.device_get(state.average)


def judge(
    before: Float[np.ndarray, "views rows cols 3"], after: Float[np.ndarray, "views rows cols 3"]
) -> dict[str, list[float]]:
    """Scores of a critic fitted to worlds the denoiser has not seen: word -> [before, after].

    About 1 where the word is true of the pictures, about -1 where it is not.
    """
    seen = render_pictures(WorldConfig(), _CRITIC_WORLDS, 2, _CRITIC_SEED)
    images = np.asarray(seen.images, np.float32) / 255
    critic = fit_critic(images, np.asarray(seen.prompts))
    small = [np.asarray(shrink(jnp.asarray(images))) for images in (before, after)]
    scores = np.stack([score(critic, images) for images in small], axis=1)
    return {
        word: [round(float(x), 3) for x in row] for word, row in zip(WORDS, scores, strict=True)
    }


def render_pictures(
    base: WorldConfig, num_worlds: int, views_per_world: int, seed: int
) -> Pictures:
    """Pictures of random worlds from random cameras around them, and what is true of each."""
    worlds, has = sample_worlds(base, num_worlds, seed)
    config = RenderConfig(
        rows=_SIZE, cols=_SIZE, shape=base.shape, scale=base.scale, alpha="hard", has_geometry=False
    )
    light = daylight()
    lit, sky = lit_colors(terrain_palette(), light), jnp.asarray(light.sky)

    @jax.jit
    def program(materials: Array, cameras: Cameras) -> Array:
        logits = jnp.where(materials > 0, 5.0, -5.0)
        probs = jax.nn.one_hot(materials - 1, lit.shape[0])
        grid = VoxelGrid(logits, 20.0 * probs)
        views = jnp.arange(views_per_world)
        seen = render_views(config, *harden(grid), lit, sky, cameras, views).color
        return jnp.round(255 * jnp.clip(shrink(seen), 0, 1)).astype(jnp.uint8)

    images = []
    for number, world in enumerate(worlds):
        cameras = orbit_cameras(base, views_per_world, _SIZE, _SIZE, seed=seed + 7919 * number)
        cameras = Cameras(*(jnp.asarray(field) for field in cameras))
        images.append(np.asarray(program(jnp.asarray(world.materials, jnp.int32), cameras)))
    prompts = np.repeat(has, views_per_world, axis=0)
    return Pictures(jnp.asarray(np.concatenate(images)), jnp.asarray(prompts))
