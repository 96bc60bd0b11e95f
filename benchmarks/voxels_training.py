"""Block worlds found again from pictures, and changed by words: what `hardlight voxels` reaches.

    python -m benchmarks.voxels_training
    python -m benchmarks.voxels_training --guides target --seeds 5

A hidden 16 x 16 x 16 world, another for every seed, is rebuilt from eight posed views, guided by
the views themselves (`target`) or by a closed-form denoiser of them (`mixture`). With `tiny` the
same start is pulled towards two prompts; a critic fitted to other worlds scores each word before
and after, about 1 where it is true of the pictures and about -1 where it is not. Seconds are those
of a whole call. Writes results/voxels_training_BACKEND.json.
"""

import dataclasses
import functools
import tempfile
import time
from pathlib import Path
from typing import Any

import tyro

from benchmarks import measuring

_PROMPTS = ("snow", "lake")
_KEPT = ("visible_right", "num_visible", "psnr", "psnr_exported", "export_gap", "critic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Measures the block-world job."""

    guides: tuple[str, ...] = ("target", "mixture", "tiny")
    """Any of target, mixture, tiny."""
    seeds: int = 3
    """Worlds for target and mixture."""


def train(flags: dict[str, Any]) -> dict[str, Any]:
    from training import voxels_job, voxels_options
    from training.voxels_command import VoxelsCommand

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        job = voxels_options.build(VoxelsCommand(**flags))
        summary = voxels_job.start(job, out=str(Path(folder) / "run"))
    return {**summary, "seconds": time.perf_counter() - began}


def main(flags: Flags) -> None:
    """Runs what is asked for, and merges it into the results file."""
    values = {
        name: rows
        for name, rows in measuring.stored("voxels_training").items()
        if name in ("target", "mixture", "tiny")
    }
    for guide in flags.guides:
        if guide == "tiny":
            asked = [{"prompt": prompt, "seed": 0} for prompt in _PROMPTS]
        else:
            asked = [{"seed": seed} for seed in range(flags.seeds)]
        values[guide] = []
        for chosen in asked:
            call = functools.partial(train, {"guidance": guide, **chosen})
            summary = measuring.in_fresh_process(call)
            final = summary["final"]
            row = {**chosen, "steps": summary["steps"], "seconds": summary["seconds"]}
            row |= {name: final[name] for name in _KEPT if name in final}
            print(guide, row, flush=True)
            values[guide].append(row)
        measuring.write("voxels_training", values)


if __name__ == "__main__":
    main(tyro.cli(Flags, description=__doc__))
