"""Real files of every kind, damaged at random, and what their readers make of them.

Each time a copy of a file is cut short, or has a bit turned, bytes zeroed or bytes overwritten, and
is read as a command would read it; in files of text a number is made NaN besides. Three outcomes:

  refused   an error that a command prints as one line, and that names the file.
  read      a result: the damage was somewhere no reader looks, or made another valid file.
  failed    anything else: another exception, no name, no end.

Checkpoints are damaged in a folder of two. The newest whole one must come back, bit for bit:
`refused` then counts those where the older one was taken, with a warning, and `failed` any other
state.

  python -m benchmarks.damaged_files --data DATA [--count 60]

DATA has folders nerf, voxels and motion; kinds whose files are not there are left out. Writes
results/damaged_files_BACKEND.json.
"""

import argparse
import contextlib
import functools
import os
import re
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import measuring

_PATIENCE = 60
"""Seconds after which a reader counts as stuck."""
DAMAGES = ("cut", "bit", "zeros", "noise")
_NUMBER = re.compile(rb"(?<![\w.\"])-?\d+\.\d+(?:[eE][-+]?\d+)?(?![\w.\"])")


class Kind(NamedTuple):
    """Files of one format."""

    file: str
    """The file that is damaged; * takes the first that fits."""
    read: Callable[[Path, Path], Any]
    """(copy of the folder, damaged file) -> what a command makes of it."""
    folder: str = ""
    """What is copied around the file; empty: nothing."""
    is_text: bool = False


def _image(folder: Path, file: Path) -> Any:
    from scenes.formats.pictures import read_image

    return read_image(file)


def _depth(folder: Path, file: Path) -> Any:
    from scenes.formats.depth_maps import read_depth

    return read_depth(file, 480, 640)


def _capture(folder: Path, file: Path) -> Any:
    from scenes.formats import load

    return load(folder, downscale=8)


def _model(folder: Path, file: Path) -> Any:
    from scenes.formats.colmap_model import read_model

    return read_model(folder)


def _map(folder: Path, file: Path) -> Any:
    from voxels.formats.map_json import load_map
    from voxels.palette import terrain_palette

    return load_map(file, terrain_palette().names)


def _cameras(folder: Path, file: Path) -> Any:
    from voxels.formats.metadata_json import load_views

    return load_views(file)


def _schematic(folder: Path, file: Path) -> Any:
    from voxels.formats.schematic import load_schematic
    from voxels.palette import terrain_palette

    return load_schematic(file, terrain_palette().names)


def _vox(folder: Path, file: Path) -> Any:
    from voxels.formats.magica_voxel import load_vox

    return load_vox(file)


def _clip(folder: Path, file: Path) -> Any:
    from motion.formats.clip_files import load_clip

    return load_clip(file, _robot())


def _deepmimic(folder: Path, file: Path) -> Any:
    from motion.formats.deepmimic import load_deepmimic

    return load_deepmimic(file)


@functools.cache
def _robot() -> Any:
    from motion.formats.mjcf import load_robot

    return load_robot("g1")


KINDS = {
    "photograph, PNG": Kind("nerf/blender_lego_400/train/*.png", _image),
    "photograph, JPEG": Kind("nerf/fox_540x960/images/*.jpg", _image),
    "depth map, PNG": Kind("nerf/rgbd_shelfbox/depth/*.png", _depth),
    "poses, transforms.json": Kind(
        "nerf/fox_540x960/transforms.json", _capture, "nerf/fox_540x960", is_text=True
    ),
    "poses, KLEVR": Kind(
        "nerf/klevr_tiny/0/metadata.json", _capture, "nerf/klevr_tiny/0", is_text=True
    ),
    "poses, poses_bounds.npy": Kind("nerf/llff_fern/poses_bounds.npy", _capture, "nerf/llff_fern"),
    "COLMAP, cameras.bin": Kind(
        "nerf/colmap_can/sparse/0/cameras.bin", _model, "nerf/colmap_can/sparse/0"
    ),
    "COLMAP, images.bin": Kind(
        "nerf/colmap_can/sparse/0/images.bin", _model, "nerf/colmap_can/sparse/0"
    ),
    "COLMAP, points3D.bin": Kind(
        "nerf/colmap_can/sparse/0/points3D.bin", _model, "nerf/colmap_can/sparse/0"
    ),
    "block world, map.json": Kind("voxels/synthetic/maps/1/map.json", _map, is_text=True),
    "block world, metadata.json": Kind(
        "voxels/synthetic/datasets/1/metadata.json",
        _cameras,
        "voxels/synthetic/datasets/1",
        is_text=True,
    ),
    "block world, .schem": Kind("voxels/schematics/*.schem", _schematic),
    "block world, .vox": Kind("voxels/vox/*.vox", _vox),
    "clip, CSV": Kind("motion/g1_kimodo/output_walk.csv", _clip, is_text=True),
    "clip, npz": Kind("motion/g1_asap/CR7_level1.npz", _clip),
    "clip, DeepMimic": Kind("motion/deepmimic/humanoid3d_run.txt", _deepmimic, is_text=True),
}


def damaged(content: bytes, how: str, random: np.random.Generator) -> bytes:
    """Spoils a file at a random place."""
    data = bytearray(content)
    place = int(random.integers(len(data)))
    end = min(len(data), place + int(random.integers(1, 65)))
    if how == "cut":
        del data[place:]
    elif how == "bit":
        data[place] ^= 1 << int(random.integers(8))
    elif how == "zeros":
        data[place:end] = bytes(end - place)
    elif how == "noise":
        data[place:end] = random.bytes(end - place)
    elif how == "nan":
        numbers = list(_NUMBER.finditer(content))
        one = numbers[int(random.integers(len(numbers)))]
        data[one.start() : one.end()] = b"NaN"
    return bytes(data)


def spoil(kind: Kind, data: Path, count: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Damages copies of one file and counts what its reader does, by damage."""
    source = next(iter(sorted(data.glob(kind.file))))
    content = source.read_bytes()
    random = np.random.default_rng(seed)
    counts: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copy"
        target = folder / source.name
        if kind.folder:
            shutil.copytree(data / kind.folder, folder)
            os.chmod(folder, 0o755)
            target = folder / source.relative_to(data / kind.folder)
            target.unlink()
        folder.mkdir(exist_ok=True)
        target.write_bytes(content)
        kind.read(folder, target)  # what is refused whole says nothing
        for how in (*DAMAGES, "nan") if kind.is_text else DAMAGES:
            found = counts.setdefault(how, {"refused": 0, "read": 0, "failed": 0, "slowest": 0.0})
            for _ in range(count):
                target.write_bytes(damaged(content, how, random))
                began = time.perf_counter()
                outcome, said = _outcome(lambda: kind.read(folder, target), target)
                found["slowest"] = max(found["slowest"], time.perf_counter() - began)
                found[outcome] += 1
                if outcome == "failed":
                    found.setdefault("words", []).append(said)
    return counts


def _outcome(read: Callable[[], Any], target: Path) -> tuple[str, str]:
    with _ends():
        try:
            read()
        except (ValueError, OSError) as error:
            is_named = any(str(name) in str(error) for name in (target, target.name))
            is_named |= str(target.parent) in str(error)
            return "refused" if is_named else "failed", repr(error)
        except Exception as error:
            return "failed", repr(error)
    return "read", ""


@contextlib.contextmanager
def _ends() -> Iterator[None]:
    def is_stuck(number: int, frame: Any) -> None:
        raise RuntimeError(f"no end after {_PATIENCE} s")

    before = signal.signal(signal.SIGALRM, is_stuck)
    signal.alarm(_PATIENCE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def spoil_checkpoints(count: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Damages files of the newer of two checkpoints and counts what is restored."""
    from training import checkpoints
    from training.checkpoints import Saver

    random = np.random.default_rng(seed)
    states = {step: {"weights": np.random.default_rng(step).random(4096)} for step in (4, 8)}
    counts: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        whole, copy = Path(place) / "whole", Path(place) / "copy"
        saver = Saver(whole)
        for step, state in states.items():
            saver.save(step, state, {"step": step})
        saver.close()
        files = [path.relative_to(whole) for path in (whole / "8").rglob("*") if path.is_file()]
        for how in DAMAGES:
            found = counts.setdefault(how, {"refused": 0, "read": 0, "failed": 0, "slowest": 0.0})
            for _ in range(count):
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(whole, copy)
                file = files[int(random.integers(len(files)))]
                if (content := (copy / file).read_bytes()) == b"":
                    (copy / file).unlink()
                else:
                    (copy / file).write_bytes(damaged(content, how, random))
                began = time.perf_counter()
                with _ends():
                    try:
                        restored = checkpoints.restore(copy, states[8])
                        is_same = np.array_equal(
                            restored.state["weights"], states[restored.step]["weights"]
                        )
                        is_same &= restored.extra == {"step": restored.step}
                        outcome = "read" if restored.step == 8 else "refused"
                        outcome = outcome if is_same else "failed"
                    except Exception as error:
                        outcome = "failed"
                        found.setdefault("words", []).append(repr(error))
                found[outcome] += 1
                found["slowest"] = max(found["slowest"], time.perf_counter() - began)
    return counts


def main() -> None:
    """Damages files of every kind and writes the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("HARDLIGHT_DATA"))
    parser.add_argument("--count", type=int, default=60, help="copies per kind and damage")
    parser.add_argument("--kinds", nargs="+", choices=(*KINDS, "checkpoint"))
    asked = parser.parse_args()
    if asked.data is None:
        parser.error("--data, or the environment variable HARDLIGHT_DATA, must name a folder")
    found = {}
    for name in asked.kinds or (*KINDS, "checkpoint"):
        if name == "checkpoint":
            found[name] = spoil_checkpoints(asked.count)
        elif list(asked.data.glob(KINDS[name].file)):
            found[name] = spoil(KINDS[name], asked.data, asked.count)
        else:
            continue
        totals = {
            key: sum(one[key] for one in found[name].values())
            for key in ("refused", "read", "failed")
        }
        print(name, totals, *found[name].items(), sep="\n  ", flush=True)
    measuring.write("damaged_files", {"count": asked.count, "kinds": found})


if __name__ == "__main__":
    main()
