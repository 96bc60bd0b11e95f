"""Curves as SVG, drawn with matplotlib for embedding into a page."""

import dataclasses
import io
import re
from collections.abc import Sequence

import numpy as np

COLORS = ("#0b68cb", "#e5484d", "#30a46c", "#f5a524", "#8e4ec6", "#12a594", "#ab6400", "#60646c")


@dataclasses.dataclass(frozen=True)
class Line:
    """One curve, with an optional band around it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = COLORS[0]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    is_faint: bool = False


def draw(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    is_log_x: bool = False,
    target: float | None = None,
) -> str:
    """Draws curves; returns an <svg> element.

    Args:
      target: a value to mark with a horizontal line.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 3.5))
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for line in lines:
        x, y = np.asarray(line.x, float), np.asarray(line.y, float)
        marker = "o" if len(x) <= 20 and not line.is_faint else None
        axes.plot(
            x,
            y,
            color=line.color,
            label=None if line.is_faint else line.name,
            linewidth=0.9 if line.is_faint else 1.8,
            alpha=0.4 if line.is_faint else 1.0,
            marker=marker,
            markersize=3.5,
        )
        if line.low is not None and line.high is not None:
            axes.fill_between(x, line.low, line.high, color=line.color, alpha=0.15, linewidth=0)
    if target is not None:
        axes.axhline(target, color="#60646c", linewidth=1.0, linestyle=(0, (4, 3)))
    if is_log_x:
        axes.set_xscale("log")
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x_label, fontsize=9.5, color="#60646c")
    axes.set_ylabel(y_label, fontsize=9.5, color="#60646c")
    axes.tick_params(labelsize=9, colors="#60646c")
    axes.grid(color="#e0e1e6", linewidth=0.7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c8c9ce")
    if sum(not line.is_faint for line in lines) > 1:
        axes.legend(fontsize=9, frameon=False)
    figure.tight_layout()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.DOTALL)
