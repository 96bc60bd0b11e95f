"""The report of one block-world run: numbers, before and after, curves, in one file."""

import json
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from . import curves, pictures, report_page
from .curves import Line
from .progress import duration
from .run_folder import RunFolder
from .run_log import read_rows
from .voxels_evaluation import Evaluation
from .voxels_setup import Setup

_LEAST_SIDE = 192


def write(
    folder: RunFolder,
    setup: Setup,
    judged: Evaluation,
    summary: dict[str, Any],
    config: dict[str, Any],
) -> None:
    """Writes report.html."""
    final = summary["final"]
    facts = [
        ("PSNR", f"{final['psnr']:.2f} dB"),
        ("PSNR of the exported map", f"{final['psnr_exported']:.2f} dB"),
        ("export gap", f"{final['export_gap']:.2f} dB"),
        ("training time", duration(summary["train_seconds"])),
        ("steps", f"{summary['steps']:,}"),
    ]
    if final["known_map"] != "none":
        share = final["visible_right"]
        right = "none is visible" if share is None else f"{100 * share:.2f} %"
        facts.insert(0, (f"visible cells as in the {final['known_map']} map", right))
    parts = [
        report_page.facts(facts),
        report_page.heading("Before and after"),
    ]
    for view in range(min(setup.job.loop.num_fixed_views, setup.loaded.num_views)):
        parts.append(report_page.picture(_row(folder, setup, judged, view), _caption(view)))
    parts += [report_page.heading("Curves"), report_page.plots(_plots(folder))]
    parts.append(report_page.heading("The map"))
    rows = [
        ("blocks", f"{final['num_blocks']:,}"),
        *((f"share of {name}", f"{s:.3f}") for name, s in final["material_share"].items()),
        *(_against_known(final) if final["known_map"] != "none" else ()),
        ("gradient health score, common formula", f"{final['gradient_health_score']:.3f}"),
        ("gradient score over visible cells", f"{final['gradient_score']:.3f}"),
        *(
            (f"critic: {word}, before and after", f"{before:.2f}, {after:.2f}")
            for word, (before, after) in final.get("critic", {}).items()
        ),
        ("device", summary["device"]),
        ("compilation", f"{summary['compile_seconds']:.1f} s"),
    ]
    parts.append(report_page.table(("", "value"), rows))
    parts.append(report_page.details("Configuration", json.dumps(config, indent=2)))
    guidance = f"{summary['guidance']} {summary['prompt']}".strip()
    subtitle = f"{summary['data']}, guidance {guidance}, seed {summary['seed']}"
    report_page.write(folder.report, report_page.page("Block world", subtitle, parts))


def _against_known(final: dict[str, Any]) -> list[tuple[str, str]]:
    known = f"the {final['known_map']} map"
    return [
        (f"blocks of {known}", f"{final['known_num_blocks']:,}"),
        (f"added to {known}", f"{final['added']:,}"),
        (f"removed from {known}", f"{final['removed']:,}"),
        ("changed material", f"{final['repainted']:,}"),
        ("overlap of solid cells (IoU)", f"{final['solid_iou']:.4f}"),
        *(
            (f"change of the share of {name}", f"{change:+.3f}")
            for name, change in final["material_shift"].items()
        ),
    ]


def _row(
    folder: RunFolder, setup: Setup, judged: Evaluation, view: int
) -> UInt8[np.ndarray, "rows cols 3"]:
    with Image.open(folder.images / f"step_0000_view_{view}.png") as first:
        before = np.asarray(first.convert("RGB"))
    images = [
        before,
        pictures.to_uint8(judged.soft[view]),
        pictures.to_uint8(judged.hard[view]),
        setup.loaded.pictures[view],
    ]
    times = max(1, -(-_LEAST_SIDE // before.shape[0]))
    large = [np.repeat(np.repeat(image, times, 0), times, 1) for image in images]
    return pictures.side_by_side(large)


def _caption(view: int) -> str:
    return f"View {view}: at the start, at the end, the exported map, the picture given."


def _plots(folder: RunFolder) -> list[str]:
    rows = list(read_rows(folder.metrics))
    drawings = []
    for kind, name, title, label in (
        ("fixed_views", "psnr", "PSNR of the fixed views", "dB"),
        ("fixed_views", "export_gap", "Soft pictures against those of the exported map", "dB"),
        ("train", "guide", "What the guide reports", ""),
        ("train", "num_solid", "Solid cells", "cells"),
        ("train", "material_entropy", "Doubt about materials", "nats"),
        ("train", "occupancy_gradient_norm", "Gradient of occupancy", "L2 norm"),
    ):
        known = [row for row in rows if row["kind"] == kind and row.get(name) is not None]
        if len(known) > 1:
            line = Line(name, [row["step"] for row in known], [row[name] for row in known])
            drawings.append(curves.draw([line], title=title, x_label="step", y_label=label))
    return drawings
