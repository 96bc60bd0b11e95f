"""Process set-up, to be done before the first JAX computation, and what the process runs on.

What makes a difference that users notice:

* a persistent compile cache, so that the second start of a run takes seconds;
* beside a training run, a share of the GPU's memory instead of most of it;
* several processes as one run, where flags or the environment say so (see `processes`);
* on Linux with glibc, an allocator that keeps its memory. XLA on a CPU allocates its temporaries
  anew in every step; by default glibc hands blocks of that size back to the system each time and
  the next step pays for the page faults (about half of the time of a hash-grid step).
"""

import ctypes
import dataclasses
import os
import platform
import sys
from pathlib import Path
from typing import Literal

from scenes.cores import cores

from . import processes

PREALLOCATE_VARIABLE = "XLA_PYTHON_CLIENT_PREALLOCATE"
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
ATOMICS_FLAG = "--xla_backend_extra_options=-nvptx-allow-ftz-atomics"
SLOW_SCATTER_VERSIONS = ("0.10.2", "0.11.0")
"""jaxlib versions whose float32 scatter-add is slow under contention on CUDA."""

# glibc's malloc.h: parameter number, value
_MALLOPT = {
    "M_ARENA_MAX": (-8, 1),
    "M_MMAP_MAX": (-4, 0),
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
    "M_TOP_PAD": (-2, 256 << 20),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runtime:
    """What `prepare` did.

    Attributes:
      cache_folder: where compiled programs are kept, or None when that is not possible.
      allocator: "kept" when freed memory stays with the process, "default" otherwise.
      notes: what could not be done, one sentence each.
    """

    cache_folder: Path | None
    allocator: Literal["kept", "default"]
    notes: tuple[str, ...]


_prepared: Runtime | None = None


def prepare(
    *,
    fast_atomics: bool = False,
    joining: processes.Joining | None = None,
    is_guest: bool = False,
) -> Runtime:
    """Sets up the process once; later calls return what the first did.

    Args:
      fast_atomics: give XLA the flag that restores native float32 atomics on CUDA with the
        jaxlib versions of `SLOW_SCATTER_VERSIONS`. Works only before JAX has found its devices.
      joining: processes to join; None: this one is alone.
      is_guest: take a GPU's memory as it is needed, for a process that may run beside a training
        on it, unless the environment says otherwise; JAX else takes three quarters at its start.
    Raises:
      RuntimeError: when the other processes are not found.
    """
    global _prepared
    if _prepared is None:
        notes: list[str] = []
        if is_guest:
            os.environ.setdefault(PREALLOCATE_VARIABLE, "false")
        if fast_atomics:
            add_xla_flag(ATOMICS_FLAG)
        if joining is not None:
            processes.join(joining)
        allocator = keep_freed_memory()
        cache = _use_compile_cache(notes)
        _prepared = Runtime(cache_folder=cache, allocator=allocator, notes=tuple(notes))
    return _prepared


def add_xla_flag(flag: str) -> None:
    """Appends a flag to XLA_FLAGS unless its name is already set there."""
    flags = os.environ.get("XLA_FLAGS", "")
    if flag.split("=", 1)[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()


def keep_freed_memory() -> Literal["kept", "default"]:
    """Tells glibc to keep freed memory for the next step; does nothing where libc is another."""
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return "default"
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return "default"
    done = [mallopt(number, value) == 1 for number, value in _MALLOPT.values()]
    return "kept" if all(done) else "default"


def default_cache_folder() -> Path:
    """The user's cache folder for compiled programs, by the custom of the system."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "hardlight" / "jax"


def device_name() -> str:
    """Names what JAX computes on, with the count if there are several."""
    import jax

    devices = jax.devices()
    kind = devices[0].device_kind if devices[0].platform != "cpu" else _cpu_name()
    return kind if len(devices) == 1 else f"{len(devices)} x {kind}"


def has_accelerator() -> bool:
    """Says whether JAX found something faster than the CPU."""
    import jax

    return jax.default_backend() != "cpu"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a run computes."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    names = ("hardlight", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "numba")
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def peak_memory() -> int | None:
    """Largest resident memory of this process so far, in bytes, where the system tells."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _use_compile_cache(notes: list[str]) -> Path | None:
    folder = Path(os.environ.get(CACHE_VARIABLE) or default_cache_folder())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        notes.append(f"no compile cache: {folder}: {error.strerror}")
        return None
    if not os.access(folder, os.W_OK):
        notes.append(f"no compile cache: {folder} is not writable; set {CACHE_VARIABLE}")
        return None
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return folder


def _cpu_name() -> str:
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        named = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
        model = named[0].strip() if named else model
    except OSError:
        pass
    return f"CPU, {len(cores())} cores ({model})"
