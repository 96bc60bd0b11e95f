"""Runs that are killed at any moment, and what is left of them.

A small run of every job is killed (SIGKILL, which no program can answer) while it starts, trains,
writes a checkpoint, and evaluates or writes its report; each time it goes on with `--resume`, and
is killed again. In the end its rows of metrics and its final numbers are compared, as equal or not,
with those of the same run left alone.

  injected   kills that met the run alive.
  survived   of these, the ones after which it went on at the newest whole checkpoint.
  lost       steps between the newest whole checkpoint at the kill and where the run went on.
  repeated   steps that had been logged after that checkpoint, and had to be made again.

  python -m benchmarks.faults [--kills 12] [--jobs nerf voxels motion]
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import measuring
from training import checkpoints
from training.run_folder import RunFolder
from training.run_log import read_rows

JOBS = ("nerf", "voxels", "motion")
MOMENTS = ("starting", "training", "saving", "ending")
_PATIENCE = 1800.0  # seconds a run may take before it counts as stuck
_TIMES = ("seconds", "rays_per_second", "cpu_seconds", "steps_per_second")
FLAGS: dict[str, tuple[str, ...]] = {
    "nerf": (
        *("--data", "synthetic:spheres", "--preset", "cpu", "--steps", "400", "--seed", "3"),
        *("--size", "16", "--views", "3", "--rays", "64", "--sampler", "error_weighted"),
        *("--set", "field.encoding.num_levels=2", "field.encoding.log2_table_size=8"),
        *("field.encoding.base_resolution=4", "field.encoding.finest_resolution=8"),
        *("field.hidden_width=8", "field.num_geometry_features=3", "marching.budget=1024"),
        *("occupancy.resolution=8", "occupancy.cells_per_update=64", "occupancy_every=4"),
        *("marching.num_candidates=32", "loop.log_every=4", "loop.checkpoint_seconds=0.05"),
        *("loop.num_evaluations=3", "loop.eval_rays=256", "loop.rays_per_chunk=256"),
        *("outputs.num_pictures=1", "outputs.video_frames=0", "steps_per_call=4"),
    ),
    "voxels": (
        *("--steps", "60", "--size", "16", "--views", "3"),
        *("--set", "world.shape=[5,5,5]", "loop.log_every=2", "loop.checkpoint_seconds=0.05"),
    ),
    "motion": (
        *("--clip", "builtin:stand", "--steps", "40", "--envs", "8"),
        *("--set", "train.num_steps=4", "train.ppo.num_epochs=1", "loop.num_starts=4"),
        *("loop.survival_seconds=0.2", "loop.evaluate_every=10", "loop.log_every=1"),
        *("loop.checkpoint_seconds=0.05", "loop.video_frames=0"),
    ),
}


def kill_and_resume(job: str, folder: Path, *, num_kills: int, seed: int = 0) -> dict[str, Any]:
    """Kills a run again and again, lets it end, and compares it with one left alone.

    Args:
      job: one of `JOBS`.
      folder: for both runs; new or empty.
      num_kills: the moments take turns.
      seed: of the moments.
    Returns:
      The counts described above, and "is_same_end".
    Raises:
      RuntimeError: when a run does not go on or does not end; with its last words.
    """
    chance = random.Random(seed)
    alone, killed = folder / "alone", folder / "killed"
    _wait(_launch(job, "start", alone), lambda: False, "the run left alone", alone)
    rows = _rows(alone)
    counts: dict[str, Any] = {"injected": 0, "survived": 0, "lost": 0, "repeated": 0}
    counts["moments"] = dict.fromkeys(MOMENTS, 0)
    mode, attempts = "start", []
    for number in range(num_kills):
        moment = MOMENTS[number % len(MOMENTS)]
        # the share of the rows after which to strike grows, so that every kill meets new ground
        share = (number + chance.random()) / num_kills
        strikes = _strike(moment, killed, round(share * len(rows)), len(rows), chance)
        child = _launch(job, mode, killed)
        if _wait(child, strikes, f"kill {number + 1}", killed):
            counts["injected"] += 1
            counts["moments"][moment] += 1
            found = checkpoints.steps(RunFolder(killed).checkpoints)
            checkpoint = found[0] if found else 0
            counts["repeated"] += max(0, _last_step(killed) - checkpoint)
            attempts.append((checkpoint, _words(killed).stat().st_size))
        mode = "resume" if RunFolder(killed).config.exists() else "start"
        if mode == "start":
            attempts.clear()  # nothing was there yet to be lost
    _wait(_launch(job, mode, killed), lambda: False, "the last attempt", killed)
    lost = [checkpoint - _went_on(killed, said) for checkpoint, said in attempts]
    counts["survived"] = counts["injected"] - sum(steps != 0 for steps in lost)
    counts["lost"] = sum(lost)
    is_same = _rows(killed) == rows and _final(killed) == _final(alone)
    return {**counts, "is_same_end": is_same, "rows": len(rows)}


def _launch(job: str, mode: str, folder: Path) -> subprocess.Popen:
    flags = ("--resume", str(folder)) if mode == "resume" else ("--out", str(folder), *FLAGS[job])
    with _words(folder).open("a") as said:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "training.cli", job, *flags], stdout=said, stderr=said
        )


def _wait(child: subprocess.Popen, strikes: Callable[[], bool], what: str, folder: Path) -> bool:
    """Kills the child when it is time; returns whether it did, before it came to its end."""
    until = time.monotonic() + _PATIENCE
    while child.poll() is None:
        if strikes():
            child.kill()
            child.wait()
            return True
        if time.monotonic() > until:
            child.kill()
            raise RuntimeError(f"{what}: stuck for {_PATIENCE:g} s\n{_last_words(folder)}")
        time.sleep(0.002)
    if child.returncode:
        raise RuntimeError(f"{what}: ended with {child.returncode}\n{_last_words(folder)}")
    return False


def _strike(
    moment: str, folder: Path, after: int, total: int, chance: random.Random
) -> Callable[[], bool]:
    """Says when it is time to kill."""
    run, began, delay = RunFolder(folder), time.monotonic(), chance.random()

    def num_rows() -> int:
        return run.metrics.read_bytes().count(b"\n") if run.metrics.exists() else 0

    if moment == "starting":
        return lambda: time.monotonic() - began > 12 * delay
    if moment == "training":
        return lambda: num_rows() >= after
    if moment == "saving":
        return lambda: num_rows() >= after and any(run.checkpoints.glob("*tmp*"))
    return lambda: num_rows() >= total and _is_later(folder, delay)


def _is_later(folder: Path, delay: float) -> bool:
    """Up to three seconds after the last row: pictures, summary and report are being written."""
    return time.time() - RunFolder(folder).metrics.stat().st_mtime > 3 * delay


def _words(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f"{folder.name}.txt")


def _last_words(folder: Path) -> str:
    return _words(folder).read_text(errors="replace")[-2000:]


def _went_on(folder: Path, said: int) -> int:
    """The step the first attempt after a kill went on after; 0 is the beginning.

    Args:
      said: bytes of its words at the kill.
    """
    text = _words(folder).read_bytes()[said:].decode(errors="replace")
    found = re.search(r"going on after \w+ (\d+)|begins again", text)
    return int(found.group(1) or 0) if found else 0


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of metrics without the times, which differ from run to run."""
    return [
        {name: value for name, value in row.items() if name not in _TIMES}
        for row in read_rows(RunFolder(folder).metrics)
    ]


def _last_step(folder: Path) -> int:
    rows = list(read_rows(RunFolder(folder).metrics))
    return max((row["step"] for row in rows), default=0)


def _final(folder: Path) -> dict[str, Any]:
    return json.loads(RunFolder(folder).summary.read_text())["final"]


def main() -> None:
    """Kills runs of every job and writes the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--kills", type=int, default=12)
    arguments = parser.parse_args()
    results = {}
    for job in arguments.jobs:
        with tempfile.TemporaryDirectory() as folder:
            results[job] = kill_and_resume(job, Path(folder), num_kills=arguments.kills)
        print(job, json.dumps(results[job]), flush=True)
    measuring.write("faults", {"kills": results})


if __name__ == "__main__":
    main()
