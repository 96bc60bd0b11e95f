"""`hardlight doctor`: checks an installation and says what to do about what it finds."""

import dataclasses
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from . import processes, runtime

PACKAGES = ("samplers", "scenes", "nerf", "voxels", "motion", "training")


class Finding(NamedTuple):
    """One thing that was checked."""

    level: Literal["ok", "note", "warning", "error"]
    subject: str
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoctorCommand:
    """Checks this installation: versions, devices, compile cache, known faults, folders, ffmpeg."""

    examples: ClassVar[str] = """
  hardlight doctor"""

    def run(self) -> int:
        """Prints the findings; exit code 1 when one of them is an error."""
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True)
        colors = {"ok": "green", "note": "blue", "warning": "yellow", "error": "red"}
        worst = 0
        for finding in examine():
            console.print(
                f"[{colors[finding.level]}]{finding.level:>7}[/]  "
                f"[bold]{finding.subject}[/]  {finding.text}"
            )
            worst = max(worst, finding.level == "error")
        return int(worst)


def examine() -> Iterator[Finding]:
    """Checks one thing after the other."""
    state = runtime.prepare()
    yield Finding("ok", "versions", ", ".join(f"{n} {v}" for n, v in runtime.versions().items()))
    yield from shadowed_packages()
    yield _device()
    yield several_processes()
    yield from scatter_fault()
    if state.cache_folder is None:
        yield Finding("warning", "compile cache", "; ".join(state.notes))
    else:
        yield Finding("ok", "compile cache", _cache_facts(state.cache_folder))
    if state.allocator == "kept":
        yield Finding("ok", "allocator", "freed memory stays with the process between steps")
    else:
        yield Finding("note", "allocator", "not glibc, so its setting for CPU training is skipped")
    yield _folder("working folder", Path.cwd())
    yield _folder("temporary folder", Path(tempfile.gettempdir()))
    yield from _extras()


def shadowed_packages() -> Iterator[Finding]:
    """Looks for other distributions that install packages of our names."""
    from importlib import metadata

    owners = metadata.packages_distributions()
    clashes = {
        name: sorted(set(owners.get(name, [])) - {"hardlight"})
        for name in PACKAGES
        if set(owners.get(name, [])) - {"hardlight"}
    }
    for name, others in clashes.items():
        yield Finding(
            "error",
            f"package {name}",
            f"also installed by {', '.join(others)}, which may overwrite ours; use a virtual "
            "environment of its own",
        )
    if not clashes:
        yield Finding("ok", "package names", f"{', '.join(PACKAGES)} belong to hardlight alone")


def scatter_fault(
    version: str | None = None, platform: str | None = None, flags: str | None = None
) -> Iterator[Finding]:
    """Warns about the slow float32 scatter-add of some jaxlib versions on CUDA.

    Args:
      version, platform, flags: what to judge; by default this process's own.
    """
    import jax

    version = runtime.versions()["jaxlib"] if version is None else version
    platform = jax.default_backend() if platform is None else platform
    flags = os.environ.get("XLA_FLAGS", "") if flags is None else flags
    if version not in runtime.SLOW_SCATTER_VERSIONS:
        yield Finding("ok", "scatter-add", f"jaxlib {version} is not known to be slow on CUDA")
    elif platform not in ("gpu", "cuda"):
        yield Finding(
            "note",
            "scatter-add",
            f"jaxlib {version} adds float32 slowly on CUDA (openxla/xla 46225); "
            f"no matter on this device ({platform})",
        )
    elif "nvptx-allow-ftz-atomics" in flags:
        yield Finding("ok", "scatter-add", f"jaxlib {version} with the flag that keeps it fast")
    else:
        yield Finding(
            "warning",
            "scatter-add",
            f"jaxlib {version} adds float32 slowly on CUDA where many updates meet "
            "(openxla/xla 46225); give hardlight nerf --fast-atomics, or set "
            f"XLA_FLAGS={runtime.ATOMICS_FLAG}",
        )


def several_processes(environ: Mapping[str, str] = os.environ) -> Finding:
    """Says what the environment knows of other processes of the same run."""
    try:
        found = processes.joining(environ=environ)
    except ValueError as error:
        return Finding("error", "processes", str(error))
    if found is not None:
        return Finding(
            "ok",
            "processes",
            f"the environment makes this process {found.process_id} of {found.num_processes}, "
            f"joined at {found.coordinator} when a run begins",
        )
    tasks = environ.get("SLURM_NTASKS", "1")
    if "SLURM_STEP_NODELIST" in environ and tasks != "1":
        return Finding(
            "note",
            "processes",
            f"SLURM started {tasks} tasks; --coordinator auto makes one run of them, without it "
            "each makes a run of its own",
        )
    return Finding("ok", "processes", "one; see --coordinator for runs on several machines")


def _device() -> Finding:
    import jax

    try:
        found = f"{jax.default_backend()}: {runtime.device_name()}"
        if jax.device_count() > 1:
            found = f"{found}; one is used unless --devices says more"
        return Finding("ok", "device", found)
    except RuntimeError as error:
        return Finding("error", "device", f"JAX finds none: {error}")


def _cache_facts(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return f"{folder}, {len(files)} files, {size / 2**20:,.0f} MiB"


def _folder(subject: str, path: Path) -> Finding:
    import shutil

    free = shutil.disk_usage(path).free
    if not os.access(path, os.W_OK):
        return Finding("warning", subject, f"{path} is not writable; give --out a folder that is")
    level = "warning" if free < 2 << 30 else "ok"
    return Finding(level, subject, f"{path} is writable, {free / 2**30:,.1f} GiB free")


def _extras() -> Iterator[Finding]:
    from importlib.util import find_spec

    from . import video

    if video.has_ffmpeg():
        yield Finding("ok", "ffmpeg", "videos are written as MP4")
    else:
        yield Finding("note", "ffmpeg", "not found: videos are written as GIF")
    if find_spec("viser") is None:
        yield Finding("note", "viewer", 'not installed: pip install "hardlight[viewer]"')
    else:
        yield Finding("ok", "viewer", "hardlight view is available")
    from voxels.rendering import numba_march

    if not numba_march.is_available():
        said = 'not usable: pip install "hardlight[numba]" renders block worlds faster on a CPU'
        yield Finding("note", "numba", said)
    else:
        yield Finding("ok", "numba", "block worlds are rendered by compiled loops on a CPU")
