"""What every benchmark needs: a fresh process, times, a description of the machine, a results file.

Each measurement runs in a process of its own, so that peak memory, compile times and the
allocator's setting belong to it alone.
"""

import atexit
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

RESULTS = Path(os.environ.get("HARDLIGHT_RESULTS") or Path(__file__).parent / "results")
"""Where results are written; `make bench` sets another place than that of the published ones."""


def in_fresh_process(
    call: Callable[[], Any],
    *,
    keep_memory: bool = True,
    is_cold: bool = False,
    cache_folder: str | None = None,
) -> Any:
    """Makes a call in a new process and returns its result.

    Args:
      call: a function of a module, or a `functools.partial` of one.
      keep_memory: make the allocator keep freed memory, as `hardlight` does; False leaves the
        system's default.
      is_cold: compile everything anew, for calls whose compile times are reported.
      cache_folder: where compiled programs are kept; None: where `hardlight` keeps them.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_call, call, keep_memory, is_cold, cache_folder).result()


def median_seconds(function: Callable[[], Any], *, repeats: int = 10, warmups: int = 2) -> float:
    """Median duration of a call, its result waited for."""
    import jax

    for _ in range(warmups):
        jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def seconds_since_start() -> float | None:
    """Age of this process, imports included; None where the system does not tell."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return uptime - ticks / os.sysconf("SC_CLK_TCK")


def write(name: str, values: dict[str, Any]) -> Path:
    """Writes results with the machine and the versions they belong to.

    The file is results/NAME_BACKEND.json, BACKEND being cpu, gpu or tpu.

    Args:
      values: results; those of runs done earlier bring their own "device" and "versions".
    """
    machine = in_fresh_process(describe_machine)
    backend = machine.pop("backend")
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}_{backend}.json"
    path.write_text(json.dumps({**machine, **_rounded(values)}, indent=2) + "\n")
    print(f"written: {path}")
    return path


def stored(name: str) -> dict[str, Any]:
    """Reads what was measured before with this backend; empty when nothing was."""
    backend = in_fresh_process(describe_machine)["backend"]
    path = RESULTS / f"{name}_{backend}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def describe_machine() -> dict[str, Any]:
    """Device, cores and versions; nothing that names the host."""
    from importlib import metadata

    import jax

    from training import runtime

    versions = runtime.versions()
    try:
        versions["torch"] = metadata.version("torch")
    except metadata.PackageNotFoundError:
        versions["torch"] = "not installed"
    return {
        "backend": jax.default_backend(),
        "device": runtime.device_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "system": platform.system(),
        "versions": versions,
    }


def _call(call, keep_memory, is_cold, cache_folder):
    import jax

    from training import runtime

    if keep_memory:
        runtime.keep_freed_memory()  # before JAX allocates anything
    folder = os.environ.get(runtime.CACHE_VARIABLE) or runtime.default_cache_folder()
    jax.config.update("jax_enable_compilation_cache", not is_cold)
    if is_cold:  # numba keeps what it compiles, too
        kept = tempfile.TemporaryDirectory()
        os.environ["NUMBA_CACHE_DIR"] = kept.name
        atexit.register(kept.cleanup)
    jax.config.update("jax_compilation_cache_dir", str(cache_folder or folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return call()


def _rounded(value: Any) -> Any:
    """Four digits are more than any of these measurements is good for."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
