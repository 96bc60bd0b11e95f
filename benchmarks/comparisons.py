"""Finished comparisons as results: what several samplers reached, with paired verdicts.

    hardlight compare nerf --data lego/ fern/ --samplers uniform,spatial --seeds 5 --out RUN
    python -m benchmarks.comparisons --run RUN [RUN ...] --name nerf_samplers

Runs that are missing are done first, as by `--resume`. Writes results/NAME_BACKEND.json.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks import measuring

_LEFT_OUT = ("curves", "error_held_by_worst", "failures_per_pass")


def main() -> None:
    """Completes what is missing and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", nargs="+", required=True, help="folders of `hardlight compare`")
    parser.add_argument("--name", required=True, help="of the results file")
    asked = parser.parse_args()
    from training import compare_runs, compare_sets, run_folder, runtime

    runtime.prepare()
    found, configs = {}, {}
    for folder in map(Path, asked.run):
        if compare_sets.is_one(folder):
            results = compare_sets.resume(folder)
            found |= results
            configs |= {name: folder / name for name in results}
        else:
            one = compare_runs.resume(folder)
            name = Path(one["data"].removeprefix("synthetic:")).name
            found[name], configs[name] = one, folder
    measuring.write(
        asked.name,
        {
            "device": "; ".join(sorted({results["device"] for results in found.values()})),
            "versions": next(iter(found.values()))["versions"],
            "data": {name: brief(results) for name, results in found.items()},
            "configs": {
                name: _without_places(run_folder.read_json(path / compare_runs.CONFIG_NAME))
                for name, path in configs.items()
            },
        },
    )


def brief(results: dict[str, Any]) -> dict[str, Any]:
    """A comparison's results without curves and histograms."""
    return {
        **{name: value for name, value in results.items() if name not in ("device", "versions")},
        "data": Path(results["data"]).name,
        "samplers": {
            name: {quantity: row[quantity] for quantity in row if quantity not in _LEFT_OUT}
            for name, row in results["samplers"].items()
        },
    }


def _without_places(config: Any) -> Any:
    """Keeps the last part of paths: where data lies is no business of a results file."""
    if isinstance(config, dict):
        return {name: _without_places(value) for name, value in config.items()}
    if isinstance(config, list):
        return [_without_places(value) for value in config]
    return Path(config).name if isinstance(config, str) and config.startswith("/") else config


if __name__ == "__main__":
    main()
