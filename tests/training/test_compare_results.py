"""From summaries to tables and verdicts: pairs, times, and runs that stopped."""

import dataclasses

import pytest

from training import compare_report, compare_results, compare_runs, run_folder, voxels_options
from training.compare_config import NerfComparison, VoxelsComparison, run_name
from training.fault import FaultError
from training.sampler_config import SamplerConfig
from training.voxels_command import VoxelsCommand

from .conftest import TINY

_SAMPLERS = (SamplerConfig(name="uniform"), SamplerConfig(name="error_weighted"))
_NERF = NerfComparison(base=TINY, samplers=_SAMPLERS, num_seeds=3)


def _summary(psnr, *, seconds=2.0):
    return {
        "data": "x",
        "rays": 1,
        "curve": [[0, 0.0, 10.0], [20, seconds, psnr]],
        "final": {"psnr": psnr, "ssim": 0.5, "error_held_by_worst": {"0.01": 0.2, "1": 1.0}},
        "train_seconds": seconds,
        "rays_per_second": 10.0,
        "device": "d",
        "versions": {},
    }


def _gain_of_one(job):
    return 20.0 + (job.sampler.name == "error_weighted") + 0.1 * job.seed


def test_time_is_equal_seed_by_seed():
    # one seed's machine was five times as slow; both of its samplers suffer alike
    summaries = {
        run_name(job): _summary(_gain_of_one(job), seconds=10.0 if job.seed == 4 else 2.0)
        for job in _NERF.runs()
    }
    results = compare_results.collect(_NERF, summaries)
    for name in ("uniform", "error_weighted"):
        entry = results["samplers"][name]
        assert entry["at_equal_seconds"]["values"] == entry["at_equal_steps"]["values"]
    assert results["equal_seconds"] == pytest.approx(14.0 / 3.0)


def test_runs_that_stopped_are_named_and_left_out_of_the_pairs():
    jobs = _NERF.runs()
    stopped = {("error_weighted", 3), ("uniform", 5)}
    summaries = {
        run_name(job): _summary(_gain_of_one(job))
        for job in jobs
        if (job.sampler.name, job.seed) not in stopped
    }
    results = compare_results.collect(_NERF, summaries)
    assert results["not_finite"] == {"uniform": [5], "error_weighted": [3]}
    said = compare_results.sentences(results)
    assert said[0].startswith("uniform: 1 of 3 runs stopped at a step that was not finite (seed 5)")
    final = next(v for v in results["verdicts"] if v["quantity"] == "final")
    assert final["difference"] == pytest.approx(1.0)
    assert final["outcome"] == "one seed"  # 4 is the only seed that both finished


def test_a_sampler_that_never_ends_loses_no_other_verdict():
    samplers = (*_SAMPLERS, SamplerConfig(name="spatial"))
    comparison = dataclasses.replace(_NERF, samplers=samplers)
    summaries = {
        run_name(job): _summary(_gain_of_one(job))
        for job in comparison.runs()
        if job.sampler.name != "spatial"
    }
    results = compare_results.collect(comparison, summaries)
    assert {verdict["sampler"] for verdict in results["verdicts"]} == {"error_weighted"}
    header, rows, _ = compare_report.table_rows(results)
    assert rows[2][0] == "spatial"
    assert rows[2][header.index("SSIM")] == ""
    with pytest.raises(ValueError, match="every run stopped"):
        compare_results.collect(comparison, {})


def test_of_many_verdicts_the_clear_ones_are_said_and_a_table_has_all(tmp_path):
    names = ("spatial", "mixed", "stratified")
    samplers = (*_SAMPLERS, *(SamplerConfig(name=name) for name in names))
    comparison = dataclasses.replace(_NERF, samplers=samplers)
    summaries = {run_name(job): _summary(_gain_of_one(job)) for job in comparison.runs()}
    results = compare_results.collect(comparison, summaries)
    verdicts = results["verdicts"]
    clear = [one for one in verdicts if one["outcome"] == "better"]
    assert {one["sampler"] for one in clear} == {"error_weighted"}
    said = compare_results.sentences(results)
    assert said[:-1] == [one["sentence"] for one in clear]
    assert said[-1].startswith(f"{len(verdicts) - len(clear)} of {len(verdicts)} verdicts are not")
    page = compare_report.write(tmp_path, comparison, results).read_text()
    assert all(one["shown"] in page for one in verdicts)
    assert "+1.00 (+1.00 to +1.00)" in page
    assert "sign test p = 0.25" in page


class _Diverging:
    """Trains by writing a summary; the second sampler's runs meet a step that is not finite."""

    started: list[str]

    def __init__(self, comparison):
        del comparison

    def start(self, job, out):
        _Diverging.started.append(out)
        folder = run_folder.create(out)
        run_folder.write_json(folder.config, {"config": {}})
        if job.sampler.name == "error_weighted":
            folder.fault.mkdir()
            run_folder.write_json(folder.fault / "fault.json", {"step": 4})
            raise FaultError("step 4 was not finite")
        run_folder.write_json(folder.summary, _summary(_gain_of_one(job)))

    def resume(self, path):
        raise AssertionError(f"{path} would only meet its fault again")


def test_a_run_that_diverges_stops_no_comparison(tmp_path, monkeypatch, capsys):
    kinds = compare_runs.compare_kinds.KINDS
    kind = dataclasses.replace(kinds["compare nerf"], runner=_Diverging)
    monkeypatch.setitem(kinds, "compare nerf", kind)
    _Diverging.started = []
    results = compare_runs.start(_NERF, tmp_path / "c")
    assert len(_Diverging.started) == 6
    assert results["not_finite"] == {"error_weighted": [3, 4, 5]}
    page = (tmp_path / "c" / "report.html").read_text()
    assert "3 of 3 runs stopped at a step that was not finite" in page
    # the finished runs' stored configs are not real ones, so only those without are kept
    for config in (tmp_path / "c" / "uniform").glob("*/config.json"):
        config.unlink()
    again = compare_runs.resume(tmp_path / "c")
    assert again["not_finite"] == results["not_finite"]
    assert "to try again, remove" in capsys.readouterr().out


def test_block_worlds_get_a_verdict_on_the_truth():
    comparison = VoxelsComparison(
        base=voxels_options.build(VoxelsCommand()),
        samplers=(SamplerConfig(name="uniform"), SamplerConfig(name="views")),
        num_seeds=3,
    )
    summaries = {
        run_name(job): {
            "data": "world",
            "guidance": "target",
            "curve": [[0, 0.0, 10.0], [20, 2.0, 20.0]],
            "final": {
                "psnr": 20.0,
                "visible_right": 0.5 + 0.1 * (job.sampler.name == "views") + 0.01 * job.seed,
                "export_gap": 1.0,
            },
            "train_seconds": 2.0,
            "device": "d",
            "versions": {},
        }
        for job in comparison.runs()
    }
    results = compare_results.collect(comparison, summaries)
    truth = next(v for v in results["verdicts"] if v["quantity"] == "visible_right")
    assert truth["outcome"] == "better"
    assert "+10.00 percentage points" in truth["sentence"]
