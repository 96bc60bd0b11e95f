"""Weighted draws and updates against what else there is, from 2^16 to 2^28 items and beyond.

    python -m benchmarks.samplers                        everything, a quarter of an hour
    python -m benchmarks.samplers --sizes 16 20 --batches 4096
    python -m benchmarks.samplers --samplers "pyramid, blocks of 8" "pyramid, blocks of 32"

Every sampler holds N weights, draws a batch with replacement and writes new weights at the items
it drew, in calls apart and then in one, which for those in JAX is one program; times are medians of
repeated calls, every sampler in a process of its own. All of them are timed again when the last one
is done, and the lesser median counts: other users of a machine slow it down for half a minute and
no one sampler should pay for that. "correct" is measured too: with the first
half of the items weighing 2 and the second half 1, a million draws must give both halves and all
residues of the index modulo 8 their share (z below 5, chi-square p above 1e-6), and after thirty
writes to every leaf, with values falling a thousandfold, the total must still be the sum of the
leaves to 1e-5. Writes benchmarks/results/samplers_BACKEND.json after every sampler; samplers that
were left out keep their rows, with the machine they were measured on.
"""

import dataclasses
import functools
import time
from importlib.util import find_spec
from typing import Any

import tyro

from benchmarks import measuring

_NEEDS = {
    "torch.multinomial": "torch",
    "flashbax": "flashbax",
    "flashbax bincount": "flashbax",
    "compiled sum tree": "numba",
}
_DRAWS_CHECKED = 2**20
_DRIFT_ITEMS, _DRIFT_BATCH, _DRIFT_UPDATES = 2**16, 1024, 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Measures weighted index samplers."""

    sizes: tuple[int, ...] = (16, 20, 24, 26, 28)
    """log2 of the number of items."""
    compact_sizes: tuple[int, ...] = (30,)
    """Further sizes for one byte per leaf."""
    batches: tuple[int, ...] = (4096, 2**20)
    samplers: tuple[str, ...] = ()
    """Only these; default: all that are installed."""
    seconds: float = 0.5
    """Least time a call is repeated for."""
    passes: int = 2
    """How often everything is timed."""


def measure(flags: Sizes, name: str) -> tuple[list[dict[str, Any]], float | None]:
    """Times one sampler at all sizes and checks what it draws; the drift of its total."""
    from benchmarks.peers.index_samplers import BLOCKS, SAMPLERS

    kind = (SAMPLERS | BLOCKS)[name]
    more = flags.compact_sizes if name == "pyramid, 1 byte" else ()
    rows = []
    for size in (*flags.sizes, *more):
        for batch in flags.batches if 2**size <= kind.largest else ():
            row = _measure(flags, kind(2**size, batch), name, size, batch)
            rows.append(row)
            print(
                f"  2^{size} items, batch {batch:8d}: {name:24s} draw "
                f"{row['draw_milliseconds']:9.3f}, update {row['update_milliseconds']:9.3f}, "
                f"both {row['step_milliseconds']:9.3f} ms"
                f"{'' if row['draws_are_correct'] else ', NOT CORRECT'}",
                flush=True,
            )
    error = drift(name)
    if error is not None:
        print(f"  {name}: total off by {error:.1e} after {_DRIFT_UPDATES} updates", flush=True)
    return rows, error


def _measure(flags: Sizes, sampler: Any, name: str, log2_items: int, batch: int) -> dict[str, Any]:
    import numpy as np

    seeds = iter(range(10**6))
    drawn: list[Any] = []

    def take() -> None:
        index = sampler.draw(next(seeds))
        if len(drawn) * batch < _DRAWS_CHECKED:
            drawn.append(index)

    draw = _median(take, flags.seconds)
    while len(drawn) * batch < _DRAWS_CHECKED and draw < 0.1:
        take()
    check = check_draws(np.concatenate([sampler.fetched(part) for part in drawn]), 2**log2_items)
    values = sampler.placed(np.random.default_rng(1).random(batch).astype(np.float32) + 0.5)
    update = _median(functools.partial(sampler.update, drawn[-1], values), flags.seconds)
    step = _median(lambda: sampler.step(next(seeds), values), flags.seconds)
    return {
        "sampler": name,
        "log2_items": log2_items,
        "batch": batch,
        "draw_milliseconds": 1e3 * draw,
        "update_milliseconds": 1e3 * update,
        "step_milliseconds": 1e3 * step,
        **check,
    }


def check_draws(index: Any, num_items: int) -> dict[str, Any]:
    """Compares frequencies with the weights 2 in the first half and 1 in the second."""
    import numpy as np
    from scipy import stats

    count = index.size
    upper = int((index >= num_items // 2).sum())
    z = (upper - count / 3) / np.sqrt(count * 2 / 9)
    p = float(stats.chisquare(np.bincount(index % 8, minlength=8)).pvalue)
    return {
        "draws_checked": count,
        "z_of_upper_half": float(z),
        "p_of_residues": p,
        "draws_are_correct": bool(abs(z) < 5 and p > 1e-6),
    }


def drift(name: str) -> float | None:
    """Relative error of the total after many decaying writes; None where no total is kept."""
    import numpy as np

    from benchmarks.peers.index_samplers import BLOCKS, SAMPLERS

    sampler = (SAMPLERS | BLOCKS)[name](_DRIFT_ITEMS, _DRIFT_BATCH)
    if not hasattr(sampler, "drift"):
        return None
    rng = np.random.default_rng(0)
    for level in np.geomspace(0.1, 1e-4, _DRIFT_UPDATES):
        index = rng.integers(_DRIFT_ITEMS, size=_DRIFT_BATCH).astype(np.int32)
        sampler.update(index, (level * rng.random(_DRIFT_BATCH)).astype(np.float32))
    return float(sampler.drift())


def _median(call: Any, seconds: float) -> float:
    """Median of as many calls as fit the time, three at least."""
    call()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < 1000):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def _lesser(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The lesser of two passes' times; wrong draws in one of them stay wrong."""
    worse = now if before["draws_are_correct"] else before
    times = {name: min(before[name], now[name]) for name in now if name.endswith("milliseconds")}
    return {**worse, **times}


def main(flags: Sizes) -> None:
    """Measures one sampler after another, and writes what is known after each."""
    from benchmarks.peers.index_samplers import BLOCKS, SAMPLERS

    order = list(SAMPLERS | BLOCKS)
    names = flags.samplers or tuple(
        name for name in SAMPLERS if name not in _NEEDS or find_spec(_NEEDS[name])
    )
    before = measuring.stored("samplers")
    rows = [{"device": before["device"], **row} for row in before.get("rows", ())]
    drifts = dict(before.get("drift_of_total", {}))
    device = measuring.in_fresh_process(measuring.describe_machine)["device"]
    earlier: dict[str, list[dict[str, Any]]] = {}
    for name in names * flags.passes:
        found, error = measuring.in_fresh_process(functools.partial(measure, flags, name))
        if name in earlier:
            found = [_lesser(*pair) for pair in zip(earlier[name], found, strict=True)]
        earlier[name] = found
        rows = [row for row in rows if row["sampler"] != name]
        rows += [{"device": device, **row} for row in found]
        rows.sort(key=lambda row: (row["log2_items"], order.index(row["sampler"])))
        if error is not None:
            drifts[name] = error
        measuring.write("samplers", {"rows": rows, "drift_of_total": drifts})


if __name__ == "__main__":
    main(tyro.cli(Sizes, description=__doc__))
