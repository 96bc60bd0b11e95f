"""Draws the README's picture from the comparison that `make demo` leaves.

    python docs/hero.py runs/compare-detail

One held-out view, what both samplers make of it in the same steps, their errors, and where the
second one looked on a training view.
"""

import json
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SAMPLERS = ("uniform", "error_map")
VIEW = "test-000-beside-truth.png"
PARTS = 4
"""Pictures side by side in `VIEW`: rendered, truth, error, depth."""


def split(path: Path) -> list[np.ndarray]:
    """Cuts a row of square pictures with equal gaps into its parts."""
    row = np.asarray(Image.open(path).convert("RGB"))
    height, width = row.shape[:2]
    pitch = (width - height) // (PARTS - 1)
    return [row[:, k * pitch : k * pitch + height] for k in range(PARTS)]


def run_of(comparison: Path, sampler: str) -> Path:
    """The first run of a sampler."""
    return sorted((comparison / sampler).glob("*/summary.json"))[0].parent


def main(comparison: Path) -> None:
    """Writes docs/images/demo.png."""
    matplotlib.use("Agg")
    rows, scores = {}, {}
    for sampler in SAMPLERS:
        run = run_of(comparison, sampler)
        rows[sampler] = split(run / "images" / VIEW)
        scores[sampler] = json.loads((run / "summary.json").read_text())["final"]["psnr"]
    looked = sorted((run_of(comparison, SAMPLERS[1]) / "images").glob("sampler-*-density.png"))
    panels = [("held-out view", rows["uniform"][1])]
    panels += [(f"{name}: {scores[name]:.1f} dB", rows[name][0]) for name in SAMPLERS]
    panels += [(f"its error, {name}", rows[name][2]) for name in SAMPLERS]
    panels += [("where error_map looked", np.asarray(Image.open(looked[0]).convert("RGB")))]
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 2.35), layout="constrained")
    for axis, (title, picture) in zip(axes, panels, strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(ROOT / "docs" / "images" / "demo.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
