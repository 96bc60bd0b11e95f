"""From the summaries of a comparison's runs to its table and verdicts.

Runs are paired by seed. A run that stopped at a step that was not finite has no summary; its seed
counts for no verdict on its sampler, and is named.
"""

from collections.abc import Callable, Mapping
from typing import Any

from . import compare_kinds
from . import compare_statistics as statistics
from .compare_config import Comparison, run_name
from .compare_kinds import Kind

_MOST_SAID = 12

_Values = dict[str, dict[int, float]]
"""Quantity, seed, value."""


def collect(comparison: Comparison, summaries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Computes the table of a comparison.

    Args:
      summaries: of the runs that have one, by `run_name`.
    Raises:
      ValueError: when no run has one.
    """
    if not summaries:
        raise ValueError("every run stopped at a step that was not finite; nothing to compare")
    kind = compare_kinds.of(comparison)
    groups = _by_sampler(comparison, summaries)
    curves = [summary["curve"] for summary in summaries.values()]
    target = comparison.target
    if target is None:
        target = statistics.common_target(curves, step=kind.target_step)
    steps, seconds = min(curve[-1][0] for curve in curves), _equal_seconds(groups)
    measured = {name: _measure(kind, runs, steps, seconds, target) for name, runs in groups.items()}
    first = next(iter(summaries.values()))
    devices = sorted({run["device"] for run in summaries.values()})
    mean_seconds = statistics.spread(list(seconds.values())).mean
    quantities = {
        "at_equal_steps": f"{kind.metric} at equal steps ({steps:,.0f})",
        "at_equal_seconds": f"{kind.metric} at equal time ({mean_seconds:.0f} s of training)",
        "area": f"mean {kind.metric} over the steps",
    }
    if len(devices) > 1:  # a run on two cores is no match for one on one
        del quantities["at_equal_seconds"]
    quantities |= {
        column.name: column.title
        for column in (kind.final, *kind.columns)
        if column.unit is not None
    }
    baseline = comparison.samplers[0].title
    return {
        "job": comparison.job,
        "data": first["data"],
        "seeds": comparison.num_seeds,
        "metric": kind.metric,
        "equal_steps": steps,
        "equal_seconds": mean_seconds,
        "target": target,
        **{fact: first[fact] for fact in kind.facts},
        "device": "; ".join(devices),
        "versions": first["versions"],
        "samplers": {
            name: _entry(kind, values, list(groups[name].values()))
            for name, values in measured.items()
        },
        "not_finite": {
            name: sorted(_seeds(comparison) - set(runs))
            for name, runs in groups.items()
            if len(runs) < comparison.num_seeds
        },
        "verdicts": [
            _verdict(kind, name, baseline, measured, quantity, what)
            for name in list(groups)[1:]
            for quantity, what in quantities.items()
            if measured[name][quantity].keys() & measured[baseline][quantity].keys()
        ],
    }


def stopped(results: Mapping[str, Any]) -> list[str]:
    """Says which runs have no result."""
    return [
        f"{name}: {len(seeds)} of {results['seeds']} runs stopped at a step that was not finite "
        f"(seed {', '.join(map(str, seeds))})."
        for name, seeds in results["not_finite"].items()
    ]


def sentences(results: Mapping[str, Any]) -> list[str]:
    """Says what came out: first the runs that stopped, then the verdicts.

    Of more than a dozen verdicts only the clear ones are said; a table has the others.
    """
    verdicts = results["verdicts"]
    said = [verdict["sentence"] for verdict in verdicts]
    if len(verdicts) > _MOST_SAID:
        said = [one["sentence"] for one in verdicts if one["outcome"] in ("better", "worse")]
        said.append(
            f"{len(verdicts) - len(said)} of {len(verdicts)} verdicts are not clear and are left "
            "out here."
        )
    return stopped(results) + said


def _seeds(comparison: Comparison) -> set[int]:
    return {job.seed for job in comparison.runs()}


def _by_sampler(
    comparison: Comparison, summaries: Mapping[str, dict[str, Any]]
) -> dict[str, dict[int, dict[str, Any]]]:
    """Summaries by sampler and seed."""
    jobs = sorted(comparison.runs(), key=lambda job: job.seed)
    return {
        sampler.title: {
            job.seed: summaries[run_name(job)]
            for job in jobs
            if job.sampler == sampler and run_name(job) in summaries
        }
        for sampler in comparison.samplers
    }


def _equal_seconds(groups: Mapping[str, dict[int, dict[str, Any]]]) -> dict[int, float]:
    """Where each seed's runs are read for equal time: at the end of the one that ended first.

    Seed by seed, since the machine may have been slower during one than during another.
    """
    ends: dict[int, float] = {}
    for runs in groups.values():
        for seed, run in runs.items():
            ends[seed] = min(ends.get(seed, float("inf")), run["curve"][-1][1])
    return ends


def _measure(
    kind: Kind,
    runs: dict[int, dict[str, Any]],
    steps: float,
    seconds: dict[int, float],
    target: float,
) -> _Values:
    read: dict[str, Callable[[int, dict[str, Any]], float | None]] = {
        "at_equal_steps": lambda _, run: statistics.value_at(run["curve"], steps, axis=0),
        "at_equal_seconds": lambda seed, run: statistics.value_at(
            run["curve"], seconds[seed], axis=1
        ),
        "area": lambda _, run: statistics.mean_height(run["curve"], end=steps),
        "steps_to_target": lambda _, run: statistics.crossing(run["curve"], target, axis=0),
        "seconds_to_target": lambda _, run: statistics.crossing(run["curve"], target, axis=1),
        "train_seconds": lambda _, run: run["train_seconds"],
    }
    for column in (kind.final, *kind.columns):
        read[column.name] = lambda _, run, column=column: column.read(run)
    return {
        quantity: {
            seed: value for seed, run in runs.items() if (value := of(seed, run)) is not None
        }
        for quantity, of in read.items()
    }


def _entry(kind: Kind, values: _Values, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What is told of one sampler."""
    table = {}
    for quantity, by_seed in values.items():
        numbers = list(by_seed.values())
        spread = statistics.spread(numbers)
        table[quantity] = {
            "values": [round(value, 5) for value in numbers],
            "mean": round(spread.mean, 5) if numbers else None,
            "deviation": spread.deviation,
        }
    beside = kind.per_sampler(runs) if runs else {}
    return table | {"curves": [run["curve"] for run in runs]} | beside


def _verdict(
    kind: Kind,
    name: str,
    baseline: str,
    measured: Mapping[str, _Values],
    quantity: str,
    what: str,
) -> dict[str, Any]:
    """Compares the seeds that both samplers finished."""
    ours, theirs = measured[name][quantity], measured[baseline][quantity]
    seeds = [seed for seed in ours if seed in theirs]
    verdict = statistics.judge([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    column = {column.name: column for column in kind.columns}.get(quantity, kind.final)
    unit, digits = column.unit or "", 2 if column.unit else 4
    return {
        "sampler": name,
        "baseline": baseline,
        "quantity": quantity,
        "what": what,
        "difference": verdict.difference.mean,
        "interval": verdict.interval and list(verdict.interval),
        "bootstrap_interval": verdict.bootstrap and list(verdict.bootstrap),
        "sign_test": verdict.sign_test,
        "outcome": verdict.outcome,
        "unit": unit,
        "shown": statistics.shown(verdict, scale=column.scale, digits=digits),
        "sentence": statistics.sentence(
            name, baseline, verdict, what, unit=unit, scale=column.scale, digits=digits
        ),
    }
