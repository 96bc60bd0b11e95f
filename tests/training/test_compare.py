"""A comparison from start to report, stopped in the middle and resumed."""

import dataclasses
import json

import pytest

from training import cli, compare_results, compare_runs, nerf_job
from training.compare_config import NerfComparison, run_name
from training.nerf_config import OutputConfig
from training.sampler_config import SamplerConfig

from .conftest import TINY

_COMPARISON = NerfComparison(
    base=dataclasses.replace(TINY, outputs=OutputConfig(num_pictures=1, video_frames=0)),
    samplers=(SamplerConfig(name="uniform"), SamplerConfig(name="error_weighted")),
    num_seeds=2,
)


def test_runs_are_paired_and_take_turns():
    runs = _COMPARISON.runs()
    assert [run_name(job) for job in runs] == [
        "uniform/seed-3",
        "error_weighted/seed-3",
        "error_weighted/seed-4",
        "uniform/seed-4",
    ]
    assert len({(job.train, job.scene, job.loop) for job in runs}) == 1


def test_comparison_resumes_and_reports(tmp_path, capsys, monkeypatch, shared):
    folder = tmp_path / "comparison"
    start, done = nerf_job.start, []

    def start_twice_then_die(*args, **kwargs):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(start(*args, **kwargs))
        return done[-1]

    monkeypatch.setattr(nerf_job, "start", start_twice_then_die)
    with pytest.raises(KeyboardInterrupt):
        compare_runs.start(_COMPARISON, folder, shared=shared)
    monkeypatch.setattr(nerf_job, "start", start)
    capsys.readouterr()
    results = compare_runs.resume(folder, shared=shared)
    said = capsys.readouterr().out
    assert said.count("already done") == 2
    assert json.loads((folder / "results.json").read_text()) == results
    assert results["equal_steps"] == 24
    for name in ("uniform", "error_weighted"):
        entry = results["samplers"][name]
        assert len(entry["final"]["values"]) == 2
        assert entry["final"]["deviation"] is not None
    assert [verdict["quantity"] for verdict in results["verdicts"]] == [
        "at_equal_steps",
        "at_equal_seconds",
        "area",
        "final",
        "ssim",
    ]
    page = (folder / "report.html").read_text()
    for verdict in results["verdicts"]:
        assert verdict["sentence"] in page
    assert page.count("<svg") == 3
    with pytest.raises(ValueError, match="already holds a comparison"):
        compare_runs.start(_COMPARISON, folder)
    config = next(folder.glob("*/*/config.json"))
    stored = json.loads(config.read_text())
    stored["config"]["seed"] = 99
    config.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="finished with seed 99, the comparison wants"):
        compare_runs.resume(folder, shared=shared)


def test_equal_samplers_give_no_difference():
    curve = [[10, 1.0, 20.0], [20, 2.0, 25.0]]
    summary = {
        "data": "x",
        "rays": 1,
        "curve": curve,
        "final": {"psnr": 25.0, "error_held_by_worst": {"0.01": 0.2, "1": 1.0}},
        "train_seconds": 2.0,
        "rays_per_second": 10.0,
        "device": "d",
        "versions": {},
    }
    results = compare_results.collect(
        _COMPARISON, {run_name(job): summary for job in _COMPARISON.runs()}
    )
    assert results["target"] == 25.0
    for verdict in results["verdicts"]:
        assert verdict["outcome"] == "no clear difference"
        assert verdict["sign_test"] == 1.0
        assert "do not differ clearly" in verdict["sentence"]


def test_an_unknown_job_is_refused(tmp_path):
    (tmp_path / "compare.json").write_text('{"job": "compare cars"}')
    with pytest.raises(ValueError, match=r"compare.json: unknown job 'compare cars'"):
        compare_runs.resume(tmp_path)


@pytest.mark.slow
def test_curves_of_one_point_are_drawn(tmp_path, shared):
    loop = dataclasses.replace(TINY.loop, num_evaluations=1)
    base = dataclasses.replace(_COMPARISON.base, loop=loop)
    comparison = dataclasses.replace(_COMPARISON, base=base)
    results = compare_runs.start(comparison, tmp_path / "comparison", shared=shared)
    assert all(len(r["curves"][0]) == 1 for r in results["samplers"].values())
    assert (tmp_path / "comparison" / "report.html").is_file()


def test_block_worlds_are_compared_too(tmp_path, capsys):
    words = ["compare", "voxels", "--steps", "20", "--size", "16", "--views", "3"]
    words += [
        "--samplers",
        "uniform,views",
        "--set",
        "world.shape=[4, 4, 4]",
        "loop.image_every=10",
    ]
    assert cli.main([*words, "--out", str(tmp_path / "c")]) == 0
    said = capsys.readouterr().out
    assert "views against uniform" in said
    assert "visible cells right" in said
    assert (tmp_path / "c" / "report.html").is_file()
