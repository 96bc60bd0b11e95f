"""The report of one motion run: numbers, video, heat maps of the bins, curves, in one file."""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import curves, report_page
from .curves import Line
from .motion_setup import Setup
from .progress import duration
from .run_folder import RunFolder
from .run_log import read_rows

_CHANCE = "Chance to fail in a pass"


def write(
    folder: RunFolder,
    setup: Setup,
    summary: dict[str, Any],
    history: Sequence[dict[str, Any]],
    config: dict[str, Any],
    *,
    movie: Path | None,
) -> None:
    """Writes report.html.

    Args:
      history: what the sampler knew at every evaluation: step, probabilities, failure rates.
    """
    final = summary["final"]
    seconds = final["survival_horizon_seconds"]
    parts = [
        report_page.facts(
            [
                (f"of starts track for {seconds:g} s", f"{100 * final['starts_survived']:.0f} %"),
                ("clips played to their end", f"{100 * final['clips_completed']:.0f} %"),
                ("body error, global", f"{1000 * final['mpjpe_global']:.0f} mm"),
                ("body error, root-relative", f"{1000 * final['mpjpe_root_relative']:.0f} mm"),
                ("control steps", f"{summary['env_steps']:,}"),
                ("training time", duration(summary["train_seconds"])),
            ]
        )
    ]
    if movie is not None:
        caption = "Left the reference, right the policy over its shadow; red once it has failed."
        parts.append(report_page.movie(movie, caption))
    parts += [report_page.heading("Clips"), _clips(final["clips"])]
    if "held_out" in final:
        parts += [report_page.heading("Clips held out"), _clips(final["held_out"]["clips"])]
    parts.append(
        report_page.paragraph(
            "Starts are exactly on the reference, spread evenly over all moments; the policy acts "
            "without noise, pushes or randomisation. Errors are means until the failure.",
            is_soft=True,
        )
    )
    if len(history) > 1:
        parts.append(report_page.heading("Where episodes start and fail"))
        parts.append(
            report_page.plots(
                [
                    heat_map(history, "probabilities", "Probability of starting", setup),
                    heat_map(history, "failures", _failure_title(setup), setup),
                ]
            )
        )
    parts += [report_page.heading("Curves"), report_page.plots(_plots(folder))]
    parts.append(report_page.details("Configuration", json.dumps(config, indent=2)))
    parts.append(report_page.details("Numbers", json.dumps(final, indent=2)))
    clips = ", ".join(clip["name"] for clip in final["clips"])
    subtitle = (
        f"{summary['robot']}: {clips}; starts by {summary['sampler']}, physics "
        f"{summary['physics']}, seed {summary['seed']}, {summary['device']}"
    )
    report_page.write(folder.report, report_page.page("Motion", subtitle, parts))


def _clips(clips: list[dict[str, Any]]) -> str:
    return report_page.table(
        (
            "clip",
            "seconds",
            "starts surviving",
            "played whole",
            "global",
            "root-relative",
            "joints",
        ),
        [
            (
                clip["name"],
                f"{clip['seconds']:.1f}",
                "-"
                if clip["starts_survived"] is None
                else f"{100 * clip['starts_survived']:.0f} %",
                "yes" if clip["is_completed"] else f"{100 * clip['completed_share']:.0f} %",
                f"{1000 * clip['mpjpe_global']:.0f} mm",
                f"{1000 * clip['mpjpe_root_relative']:.0f} mm",
                f"{clip['joint_error']:.3f} rad",
            )
            for clip in clips
        ],
    )


def _failure_title(setup: Setup) -> str:
    config = setup.sampler.config
    return _CHANCE if config.statistic == "rate" and config.is_probability else "Score of failures"


def heat_map(history: Sequence[dict[str, Any]], name: str, title: str, setup: Setup) -> str:
    """Bins over training steps as an <svg> element."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    values = np.array([row[name] for row in history], float).T
    steps = np.array([row["env_steps"] for row in history], float)
    figure = Figure(figsize=(5.4, 3.5))
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    edges = np.concatenate((steps, [2 * steps[-1] - steps[-2]])) / 1000
    largest = 1.0 if title == _CHANCE else None
    drawn = axes.pcolormesh(
        edges,
        np.arange(len(values) + 1),
        values,
        cmap="magma",
        rasterized=True,
        vmin=0.0,
        vmax=largest,
    )
    state = setup.sampler.init(setup.init_key)
    for first in np.asarray(state.layout.first_bin_of)[1:]:
        axes.axhline(first, color="#ffffff", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel("thousand control steps", fontsize=9.5, color="#60646c")
    axes.set_ylabel(f"bin of {setup.job.bin_seconds:g} s", fontsize=9.5, color="#60646c")
    axes.tick_params(labelsize=9, colors="#60646c")
    figure.colorbar(drawn, ax=axes).ax.tick_params(labelsize=8)
    figure.tight_layout()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, dpi=150)
    return re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.DOTALL)


def _plots(folder: RunFolder) -> list[str]:
    rows = list(read_rows(folder.metrics))
    drawings = []
    for kind, names, title, label in (
        ("evaluation", ("success",), "Starts that survive", "share"),
        ("evaluation", ("error_body_world", "error_body_root"), "Body error", "m"),
        ("train", ("reward",), "Reward per step", ""),
        ("train", ("failed_share",), "Episodes that end in failure", "share"),
        ("train", ("episode_steps",), "Length of episodes", "control steps"),
        ("train", ("std",), "Deviation of actions", ""),
        ("train", ("kl",), "Divergence per update", "nats"),
        ("train", ("starts_entropy",), "Entropy of starts (1: uniform)", ""),
        ("train", ("starts_effective_bins",), "Effective number of bins", ""),
    ):
        lines = []
        for place, name in enumerate(names):
            known = [row for row in rows if row["kind"] == kind and row.get(name) is not None]
            if len(known) > 1:
                x = [row["env_steps"] / 1000 for row in known]
                y = [row[name] for row in known]
                lines.append(Line(name, x, y, color=curves.COLORS[place]))
        if lines:
            drawings.append(
                curves.draw(lines, title=title, x_label="thousand control steps", y_label=label)
            )
    return drawings
