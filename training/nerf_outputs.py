"""What a finished run leaves behind: held-out numbers, pictures, an orbit, the sampler's view."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from nerf import images
from nerf.images import FieldSnapshot
from scenes.cameras import scale_pixels

from . import camera_paths, pictures, video
from .nerf_config import NerfJob
from .nerf_evaluation import Evaluator, ViewResult, error_concentration, over
from .nerf_setup import Setup, bounds
from .perceptual import Lpips
from .run_folder import RunFolder
from .sampler_pictures import Density

_DEPTH = ("depth_rmse", "depth_relative", "depth_within_quarter")
_PER_VIEW = ("psnr", "psnr_color_fitted", "ssim", *_DEPTH)
"""Numbers of a view; its pictures are not kept, for a set of them may be larger than memory."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """A picture for the report."""

    image: UInt8[np.ndarray, "rows cols 3"]
    caption: str


def perceptual_metric(job: NerfJob) -> Lpips | None:
    """Reads the network of LPIPS where the job asks for it; before training, which may take hours.

    Raises:
      ValueError, FileNotFoundError: saying what is missing.
    """
    outputs = job.outputs
    if outputs.lpips is None:
        if outputs.lpips_weights is not None:
            raise ValueError(
                "outputs.lpips_weights needs outputs.lpips: of which network are they?"
            )
        return None
    return Lpips(outputs.lpips, outputs.lpips_weights)


def evaluate_and_draw(
    setup: Setup,
    evaluator: Evaluator,
    snapshot: FieldSnapshot,
    folder: RunFolder,
    perceptual: Lpips | None = None,
) -> tuple[dict[str, Any], list[Shown]]:
    """Renders every held-out view; returns final metrics and the first views beside the truth."""
    known: dict[str, list[float | None]] = {name: [] for name in _PER_VIEW}
    errors: list[Float32[np.ndarray, " pixels"]] = []
    distances: list[float] = []
    shown: list[Shown] = []
    for number, view in enumerate(evaluator.every_view(snapshot)):
        for name, values in known.items():
            values.append(getattr(view, name))
        errors.append(view.squared_errors)
        if perceptual is not None:
            distances.append(perceptual(_where_counted(view), view.target))
        stem = f"test-{number:03d}"
        pictures.write_png(folder.images / f"{stem}.png", pictures.to_uint8(view.rendered.color))
        depth = pictures.depth_picture(view.rendered.depth, view.rendered.opacity)
        pictures.write_png(folder.images / f"{stem}-depth.png", depth)
        if len(shown) < setup.job.outputs.num_pictures:
            joined = _row(view, depth)
            pictures.write_png(folder.images / f"{stem}-beside-truth.png", joined)
            shown.append(Shown(joined, _caption(view)))
    final: dict[str, Any] = {"psnr": _mean(known["psnr"])}
    names = ["ssim", *_DEPTH]
    learned = setup.job.train.corrections
    if learned.colors or learned.appearance:
        names.append("psnr_color_fitted")
    for name in names:
        if any(value is not None for value in known[name]):
            # the data's unit may be so large that four digits after the point would say nothing
            final[name] = _mean(known[name], digits=9 if name == "depth_rmse" else 4)
    if distances:
        final[f"lpips_{setup.job.outputs.lpips}"] = _mean(distances)
    final["num_views"] = len(errors)
    final["error_held_by_worst"] = error_concentration(np.concatenate(errors))
    final["psnr_per_view"] = [
        round(value, 3) if value is not None and np.isfinite(value) else None
        for value in known["psnr"]
    ]
    return final, shown


def _where_counted(view: ViewResult) -> Float[np.ndarray, "rows cols 3"]:
    """The rendered picture, with the truth where a mask says that nothing counts."""
    if view.counted is None:
        return view.rendered.color
    return np.where(view.counted[..., None], view.rendered.color, view.target)


def orbit_frames(
    setup: Setup, evaluator: Evaluator, snapshot: FieldSnapshot, *, num_frames: int, size: int
) -> Iterator[UInt8[np.ndarray, "rows cols 3"]]:
    """Renders an orbit whose longer side is at most `size`."""
    train = setup.scene.train
    scale = min(1.0, size / max(train.rows, train.cols))
    rows, cols = (max(1, round(side * scale)) for side in (train.rows, train.cols))
    cameras = camera_paths.orbit(train, num_frames=num_frames)
    cameras = scale_pixels(cameras, np.array([cols / train.cols, rows / train.rows]))
    views = images.render_views(
        evaluator.render, snapshot, bounds(train), cameras, rows, cols, setup.background
    )
    for view in views:
        yield pictures.to_uint8(view.color)


def draw_sampler(
    setup: Setup,
    evaluator: Evaluator,
    snapshot: FieldSnapshot,
    sampled: Density,
    folder: RunFolder,
    *,
    remembered: Float[np.ndarray, "views rows cols"] | None = None,
    seen: Bool[np.ndarray, "views rows cols"] | None = None,
    num_views: int = 2,
) -> list[Shown]:
    """Shows, for a few training views, the picture, its error and how often pixels are drawn.

    Args:
      remembered: the relative loss the sampler has of each pixel, where it has one.
      seen: pixels ever drawn, where the run tracked them.
    """
    train = setup.scene.train
    chosen = np.unique(np.linspace(0, train.num_views - 1, num_views).astype(int))
    shown = []
    for view in chosen:
        rendered = evaluator.render(
            snapshot,
            bounds(train),
            train.cameras,
            int(view),
            train.rows,
            train.cols,
            setup.background,
        )
        target = over(train.images[view], setup.background)
        how = "exact" if sampled.is_exact else "counted from draws"
        if getattr(setup.sampler.config, "handback_from", None) is not None:
            how += ", before the return to uniform draws"
        low, high = sampled.relative[view].min(), sampled.relative[view].max()
        parts = {
            "photo": (pictures.to_uint8(target), "picture"),
            "error": (pictures.error_picture(rendered.color, target), "error"),
        }
        if remembered is not None:
            picture = pictures.times_average(remembered[view])
            parts["remembered"] = picture, "loss the sampler remembers"
        parts["density"] = (
            pictures.times_average(sampled.relative[view]),
            f"how often pixels are drawn ({how}; {low:.2f} to {high:.2f} times the uniform share)",
        )
        if seen is not None:
            share = f"{100 * seen[view].mean():.0f} %"
            white = pictures.colorize(
                seen[view].astype(np.float32), low=0, high=1, color_map="gray"
            )
            parts["seen"] = white, f"pixels drawn at least once in white ({share})"
        for name, (part, _) in parts.items():
            pictures.write_png(folder.images / f"sampler-{int(view):03d}-{name}.png", part)
        names = ", ".join(caption for _, caption in parts.values())
        shown.append(
            Shown(
                pictures.side_by_side([part for part, _ in parts.values()]),
                f"Training view {train.names[view]}: {names}. Grey is average, red up to 8 times "
                "as much, blue down to an eighth.",
            )
        )
    return shown


def write_orbit(
    setup: Setup, evaluator: Evaluator, snapshot: FieldSnapshot, folder: RunFolder
) -> Path | None:
    """Writes the orbit video of the job; returns its path, or None when it asks for none."""
    outputs = setup.job.outputs
    if not outputs.video_frames:
        return None
    frames = orbit_frames(
        setup, evaluator, snapshot, num_frames=outputs.video_frames, size=outputs.video_size
    )
    fps = max(6, outputs.video_frames / 5)
    return video.write_video(folder.images / "orbit", frames, fps=fps)


def _row(view: ViewResult, depth: np.ndarray) -> UInt8[np.ndarray, "rows _ 3"]:
    return pictures.side_by_side(
        [
            pictures.to_uint8(view.rendered.color),
            pictures.to_uint8(view.target),
            pictures.error_picture(view.rendered.color, view.target),
            depth,
        ]
    )


def _caption(view: ViewResult) -> str:
    ssim = "" if view.ssim is None else f", SSIM {view.ssim:.3f}"
    psnr = f"{view.psnr:.2f} dB" if np.isfinite(view.psnr) else "masked: nothing to judge by"
    return f"{view.name}: rendered, truth, error, depth. {psnr}{ssim}."


def _mean(values: list[Any], digits: int = 4) -> float:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return round(float(np.mean(known)), digits) if known else 0.0
