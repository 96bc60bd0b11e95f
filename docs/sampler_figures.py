"""Pictures of what each sampler draws, made by running it on a problem one can see through.

Rays: an image whose error is what a blurred copy of it gets wrong. Motion: a clip with easy, hard
and impossible seconds and nobody who learns. Views: cameras on a circle, some of them harder.
Points: one ray with a depth that is known roughly.
"""

import io
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy import ndimage

from samplers import registry
from samplers.base import Draw, Feedback, Sampler
from samplers.depth_guided import RayQuery
from samplers.motion_bins import MotionTime, bin_of
from samplers.pixels import PixelCoord, pixel_indices

FRAMES, ROWS, COLS = 3, 96, 144
FRAME = 1
"""The frame that is shown, of three in which the disc moves."""
TILE = 4
CAMERAS = 24
FRAMES_PER_SECOND = 50
CLIPS = (12, 8)
"""Seconds of each clip."""
INK, ACCENT = "#33373d", "#e4572e"


def picture(name: str) -> bytes:
    """Runs a registered sampler and draws what it drew, as PNG."""
    draw = {"rays": _rays, "motion": _motion, "views": _views, "points": _points}
    figure = draw[registry.ENTRIES[name].kind](name)
    file = io.BytesIO()
    figure.savefig(file, dpi=110)
    plt.close(figure)
    return file.getvalue()


def caption(name: str) -> str:
    """Says what the picture shows."""
    return {
        "rays": "An image, the error that is fed back (what a blurred copy gets wrong, the same "
        "all along), and how often each place was drawn after a thousand steps of 1,024 pixels, "
        "as a multiple of uniform. Nothing is learned, so what the sampler would do next as "
        "errors fall cannot be seen here.",
        "motion": "Clips of 12 and 8 seconds: the chance to fail in each second (line) and the "
        "share of starts there (bars) after 3,000 steps of 256 environments. Nobody learns, so "
        "the second in which every pass fails counts as impossible.",
        "views": "24 cameras: their loss (line, the same all along) and the share of draws (bars) "
        "in 300 steps of four.",
        "points": "4,096 rays from 1 to 6 with a depth known to be 3.0 +- 0.25: where 32 points "
        "per ray were put, as a multiple of uniform.",
    }[registry.ENTRIES[name].kind]


def _rays(name: str) -> Figure:
    images, error, labels = _scene()
    slope = np.stack(np.gradient(error, axis=(2, 1)), axis=-1) * (COLS, ROWS)
    data = {"images": jnp.asarray(images), "labels": jnp.asarray(labels)}
    sampler = registry.make_ray_sampler(
        name, num_views=FRAMES, rows=ROWS, cols=COLS, batch_size=1024
    )
    state = sampler.init(jax.random.key(0), *[data[n] for n in registry.ENTRIES[name].needs])
    loss, grad = jnp.asarray(error, jnp.float32), jnp.asarray(slope, jnp.float32)

    def step(state: Any, key: Any) -> tuple[Any, Any]:
        draw = sampler.sample(key, state)
        at = pixel_indices(draw.items, ROWS, COLS)
        moves = grad[at.view, at.row, at.col] if isinstance(draw.items, PixelCoord) else None
        feedback = Feedback(value=loss[at.view, at.row, at.col], grad=moves)
        return sampler.update(state, draw, feedback), at

    keys = jax.random.split(jax.random.key(1), 1250)
    at = jax.jit(lambda state: jax.lax.scan(step, state, keys)[1])(state)
    view, row, col = (np.asarray(part)[1000:].ravel() for part in at)
    visits = np.zeros((FRAMES, ROWS // TILE, COLS // TILE))
    np.add.at(visits, (view, row // TILE, col // TILE), 1.0)
    figure, axes = plt.subplots(1, 3, figsize=(9.0, 2.35), layout="constrained")
    axes[0].imshow(images[FRAME])
    axes[1].imshow(error[FRAME], cmap="magma")
    shown = axes[2].imshow(
        np.clip(visits[FRAME] / visits.mean(), 1 / 8, 8),
        cmap="RdBu_r",
        norm=LogNorm(1 / 8, 8),
        extent=(0, COLS, ROWS, 0),
    )
    bar = figure.colorbar(shown, ax=axes[2], ticks=[1 / 8, 1 / 2, 1, 2, 8])
    bar.ax.set_yticklabels(["1/8", "1/2", "1", "2", "8"])
    bar.ax.minorticks_off()
    for axis, title in zip(axes, ("image", "error", "drawn"), strict=True):
        axis.set_title(title, fontsize=9, color=INK)
        axis.set_axis_off()
    return figure


def _scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three frames with a moving striped disc, a ring and a smooth ground; error; labels."""
    row, col = np.mgrid[:ROWS, :COLS].astype(float)
    images, errors, labels = [], [], []
    for frame in range(FRAMES):
        ground = 0.35 + 0.3 * col / COLS
        label = np.zeros((ROWS, COLS), np.int32)
        grey = ground.copy()
        ring = np.abs(np.hypot(row - 30, col - 108) - 18) < 2.0
        grey[ring], label[ring] = 0.95, 1
        disc = np.hypot(row - 58, col - 38 - 6 * frame) < 24
        stripes = 0.5 + 0.45 * np.sign(np.sin((row + col) * 0.9))
        grey[disc], label[disc] = stripes[disc], 2
        colour = np.stack([grey, 0.9 * grey + 0.05, 0.75 * grey + 0.1], axis=-1)
        images.append(np.round(255 * np.clip(colour, 0, 1)).astype(np.uint8))
        errors.append((grey - ndimage.gaussian_filter(grey, 1.5)) ** 2 + 1e-4)
        labels.append(label)
    return np.stack(images), np.stack(errors), np.stack(labels)


def _motion(name: str) -> Figure:
    from motion import starts

    seconds = sum(CLIPS)
    rate = np.full(seconds, 0.05)
    rate[7:9], rate[15] = 0.5, 0.9999
    sampler = starts.make_start_sampler(
        name,
        clip_frames=tuple(FRAMES_PER_SECOND * clip for clip in CLIPS),
        batch_size=256,
        frames_per_bin=FRAMES_PER_SECOND,
    )
    share = _starts(sampler, starts.rows_of(name), rate)
    figure, axis = plt.subplots(figsize=(9.0, 2.35), layout="constrained")
    axis.bar(np.arange(seconds) + 0.5, share, width=0.85, color=ACCENT, label="share of starts")
    axis.axhline(1 / seconds, color=INK, linewidth=0.7, linestyle=":", label="uniform")
    axis.axvline(CLIPS[0], color=INK, linewidth=0.7)
    axis.set(xlabel="second, clip after clip", xlim=(0, seconds), ylabel="share of starts")
    axis.set_xticks(range(0, seconds + 1, 4))
    other = axis.twinx()
    other.stairs(rate, np.arange(seconds + 1), color=INK, label="chance to fail")
    other.set(ylim=(0, 1.05), ylabel="chance to fail")
    _legend(figure, axis, other)
    return figure


def _starts(sampler: Sampler, rows: Any, rate: np.ndarray) -> np.ndarray:
    """Share of the starts of each second at the end."""
    from motion.starts import count_outcomes

    hazard = jnp.asarray(-np.expm1(np.log1p(-rate) / FRAMES_PER_SECOND), jnp.float32)
    begins = jnp.asarray(np.cumsum((0, *CLIPS[:-1])), jnp.int32)
    lengths = jnp.asarray(CLIPS, jnp.int32) * FRAMES_PER_SECOND

    def step(walk: Any, key: Any) -> tuple[Any, None]:
        state, here, start = walk
        key_fail, key_start = jax.random.split(key)
        second = begins[here.clip] + here.frame // FRAMES_PER_SECOND
        failed = jax.random.uniform(key_fail, here.frame.shape) < hazard[second]
        is_over = failed | (here.frame + 1 >= lengths[here.clip])
        state = count_outcomes(
            sampler, rows, state, here=here, start=start, failed=failed, is_over=is_over
        )
        drawn = sampler.sample(key_start, state).items
        later = MotionTime(here.clip, here.frame + 1)
        here, start = (
            jax.tree.map(lambda new, old: jnp.where(is_over, new, old), drawn, other)
            for other in (later, start)
        )
        return (state, here, start), None

    state = sampler.init(jax.random.key(0))
    first = sampler.sample(jax.random.key(1), state).items
    keys = jax.random.split(jax.random.key(2), 3000)
    walk = jax.jit(lambda walk: jax.lax.scan(step, walk, keys)[0])((state, first, first))
    assert sampler.probabilities is not None
    probs = np.asarray(sampler.probabilities(walk[0]))
    layout = walk[0].layout
    share = []
    for clip, seconds in enumerate(CLIPS):
        frame = jnp.arange(seconds * FRAMES_PER_SECOND, dtype=jnp.int32)
        place = np.asarray(bin_of(layout, MotionTime(jnp.full_like(frame, clip), frame)))
        each = probs[place] / np.asarray(layout.num_frames)[place]
        share.append(each.reshape(seconds, FRAMES_PER_SECOND).sum(axis=1))
    return np.concatenate(share)


def _views(name: str) -> Figure:
    angle = np.linspace(0, 2 * np.pi, CAMERAS, endpoint=False)
    centres = np.stack([np.cos(angle), np.sin(angle), np.zeros(CAMERAS)], axis=-1)
    loss = jnp.asarray(0.3 + np.exp(-0.5 * ((np.arange(CAMERAS) - 8) / 2.0) ** 2), jnp.float32)
    sampler = registry.make_sampler(name, {"num_views": CAMERAS, "batch_size": 4})
    data = {"centres": jnp.asarray(centres, jnp.float32)}
    state = sampler.init(jax.random.key(0), *[data[n] for n in registry.ENTRIES[name].needs])

    def step(state: Any, key: Any) -> tuple[Any, Any]:
        draw = sampler.sample(key, state)
        return sampler.update(state, draw, Feedback(value=loss[draw.items])), draw.items

    keys = jax.random.split(jax.random.key(1), 300)
    drawn = jax.jit(lambda state: jax.lax.scan(step, state, keys)[1])(state)
    share = np.bincount(np.asarray(drawn).ravel(), minlength=CAMERAS) / drawn.size
    figure, axis = plt.subplots(figsize=(9.0, 2.35), layout="constrained")
    axis.bar(np.arange(CAMERAS), share, width=0.85, color=ACCENT, label="share of draws")
    axis.axhline(1 / CAMERAS, color=INK, linewidth=0.7, linestyle=":", label="uniform")
    axis.set(xlabel="camera", ylabel="share of draws", xlim=(-0.6, CAMERAS - 0.4))
    other = axis.twinx()
    other.plot(np.arange(CAMERAS), loss, color=INK, marker=".", linewidth=1, label="loss")
    other.set(ylim=(0, 1.4), ylabel="loss")
    _legend(figure, axis, other)
    return figure


def _points(name: str) -> Figure:
    rays, near, far = 4096, 1.0, 6.0
    sampler = registry.make_sampler(name, {"num_samples": 32})
    state = sampler.init(jax.random.key(0), jnp.full(rays, 3.0), jnp.full(rays, 0.25))
    query = RayQuery(jnp.arange(rays, dtype=jnp.int32), jnp.full(rays, near), jnp.full(rays, far))
    draw: Draw = sampler.sample(jax.random.key(1), state, query)
    figure, axis = plt.subplots(figsize=(9.0, 2.35), layout="constrained")
    axis.hist(
        np.asarray(draw.items.t).ravel(),
        bins=np.linspace(near, far, 101),
        weights=np.full(draw.items.t.size, 100 / draw.items.t.size),
        color=ACCENT,
    )
    axis.axhline(1.0, color=INK, linewidth=0.7, linestyle=":")
    axis.set(xlabel="distance along the ray", ylabel="times uniform", xlim=(near, far))
    return figure


def _legend(figure: Figure, *axes: Any) -> None:
    figure.legend(loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    for axis in axes:
        axis.tick_params(labelsize=8)
