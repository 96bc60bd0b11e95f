"""A whole run: its files, its summary, and what a resumed run refuses."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from training import (
    checkpoints,
    config_json,
    loaded_run,
    nerf_job,
    nerf_options,
    nerf_setup,
    run_folder,
    run_rendering,
)
from training.nerf_command import NerfCommand
from training.nerf_config import NerfJob
from training.run_folder import RunFolder
from training.run_log import read_rows

from .conftest import TINY, without_video

_REQUIRED = (
    "job",
    "sampler",
    "seed",
    "steps",
    "train_seconds",
    "compile_seconds",
    "device",
    "versions",
    "final",
    "curve",
)


def test_summary_has_what_was_promised(finished):
    folder, summary = finished
    assert json.loads(RunFolder(folder).summary.read_text()) == summary
    assert set(_REQUIRED) <= set(summary)
    assert summary["job"] == "nerf"
    assert summary["steps"] == TINY.train.num_steps
    assert summary["ended_by"] == "steps"
    assert [point[0] for point in summary["curve"]] == [4, 8, 24]
    assert summary["final"]["num_views"] == 2
    assert np.isfinite(list(summary["final"][name] for name in ("psnr", "ssim"))).all()


def test_run_folder_holds_every_file(finished):
    folder, _ = finished
    run = RunFolder(folder)
    for path in (run.config, run.metrics, run.summary, run.report, run.checkpoints / "24"):
        assert path.exists(), path
    names = {path.name for path in run.images.iterdir()}
    assert {"preview.png", "test-000.png", "test-001-depth.png"} <= names
    assert {"test-000-beside-truth.png", "sampler-000-density.png"} <= names
    assert "sampler-000-remembered.png" in names
    assert names & {"orbit.mp4", "orbit.gif"}
    assert list(folder.glob("events*"))
    assert not list(folder.rglob(".partial*"))


def test_report_stands_alone(finished):
    folder, summary = finished
    page = RunFolder(folder).report.read_text()
    assert 'src="data:' in page
    assert page.count("<svg") >= 3
    for outside in ("http-equiv", 'src="http', 'href="http', "@import", "<script"):
        assert outside not in page
    assert f"{summary['final']['psnr']:.2f} dB" in page
    assert "depth error (RMSE, in the unit of the data)" in page
    assert f"{summary['final']['depth_relative']:.1%}" in page


def test_config_file_reads_back_to_the_job(finished):
    folder, _ = finished
    assert run_folder.read_job(RunFolder(folder), NerfJob) == TINY
    data = run_folder.read_config(RunFolder(folder), NerfJob)["data"]
    assert data["train"]["shape"] == [3, 16, 16, 4]


def test_metrics_steps_rise_and_numbers_are_finite(finished):
    folder, _ = finished
    rows = [row for row in read_rows(RunFolder(folder).metrics) if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(4, 25, 4))
    assert all(np.isfinite(row["loss"]) and row["rays_per_second"] > 0 for row in rows)


def test_loaded_run_renders_what_the_run_saved(finished, tmp_path):
    from PIL import Image

    folder, _ = finished
    files = list(run_rendering.render(str(folder), "views", out=tmp_path))
    assert [file.name for file in files] == ["view-test-000.png", "view-test-001.png"]
    saved = np.asarray(Image.open(RunFolder(folder).images / "test-000.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(files[0])), saved)
    assert loaded_run.load(str(folder)).step == 24


def test_seconds_budget_stops_early_and_says_so(shared, tmp_path):
    job = dataclasses.replace(
        without_video(TINY), loop=dataclasses.replace(TINY.loop, seconds=1e-9)
    )
    summary = nerf_job.start(job, out=str(tmp_path / "run"), shared=shared)
    assert summary["ended_by"] == "seconds"
    assert summary["steps"] == 4
    assert [point[0] for point in summary["curve"]] == [4]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"sampler": "uniform"}, "--sampler uniform (the run has error_weighted)"),
        ({"steps": 99}, "--steps 99 (the run has 24)"),
        ({"depth_scale": 0.5}, "--depth-scale 0.5 (the run has None)"),
        ({"set_": ("loss=squared",)}, "--set and --sampler-option belong to a new run"),
    ],
)
def test_resume_refuses_other_settings_by_name(flags, message):
    command = NerfCommand(resume="run", **flags)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        nerf_options.refuse_changes(command, TINY, "run")
    assert message in str(raised.value)
    nerf_options.refuse_changes(NerfCommand(resume="run", seed=TINY.seed), TINY, "run")


def test_resume_refuses_other_images(finished, shared, tmp_path):
    import shutil

    folder, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    images = shared.scene.train.images.copy()
    images[0, 0, 0, 0] ^= 1
    changed = shared.scene._replace(train=shared.scene.train._replace(images=images))
    with pytest.raises(ValueError, match="the train images are not those the run was started with"):
        nerf_job.resume(str(copy), shared=dataclasses.replace(shared, scene=changed))


def test_resume_refuses_an_edited_config_by_the_arrays_it_changes(finished, tmp_path):
    import shutil

    folder, _ = finished
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(folder, copy.path)
    values = run_folder.read_json(copy.config)
    values["config"]["train"]["field"]["hidden_width"] = 16
    run_folder.write_json(copy.config, values)
    with pytest.raises(ValueError, match=r"holds another state: .*kernel must be float32"):
        loaded_run.load(str(copy.path))


def test_checkpoint_of_another_sampler_is_refused_by_name(finished, shared):
    folder, _ = finished
    job = config_json.replace_fields(TINY, {"sampler.name": "uniform"})
    template = nerf_setup.state_shapes(nerf_setup.prepare(job, shared.scene))
    with pytest.raises(ValueError, match=r"holds another state: .*sampler\.\w+.* is not part"):
        checkpoints.restore(RunFolder(folder).checkpoints, template)


def test_checkpoint_round_trip_keeps_every_bit_and_empty_arrays(tmp_path):
    import jax.numpy as jnp

    state = {
        "a": jnp.array([1.5, -0.0, jnp.nan], jnp.float32),
        "b": (jnp.arange(3, dtype=jnp.int32), jnp.zeros((0, 2))),
        "c": jnp.array(True),
        "d": jnp.ones(5, jnp.bfloat16),
    }
    saver = checkpoints.Saver(tmp_path)
    saver.save(7, state, {"x": 1})
    saver.close()
    restored = checkpoints.restore(tmp_path, jax.eval_shape(lambda: state))
    assert (restored.step, restored.extra, restored.warnings) == (7, {"x": 1}, ())
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(restored.state), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_only_the_newest_checkpoints_are_kept(finished):
    folder, _ = finished
    assert checkpoints.steps(RunFolder(folder).checkpoints) == [24, 20]


def test_how_many_views_are_held_out_can_be_said():
    assert nerf_options.scene_config(NerfCommand(data="x")).holdout == 8
    assert nerf_options.scene_config(NerfCommand(data="x", holdout=3)).holdout == 3
    with pytest.raises(ValueError, match="holdout must be at least 2"):
        nerf_options.scene_config(NerfCommand(data="x", holdout=1))


def test_the_unit_of_depth_reaches_the_reader(tmp_path):
    assert nerf_options.scene_config(NerfCommand(data="x")).depth_scale is None
    scene = nerf_options.scene_config(NerfCommand(data="synthetic:blocks", depth_scale=0.0002))
    assert scene.depth_scale == 0.0002
    with pytest.raises(ValueError, match="depth_scale is for depth maps"):
        nerf_setup.load(scene)
    with pytest.raises(ValueError, match="depth_scale must be positive"):
        nerf_options.scene_config(NerfCommand(data="x", depth_scale=0.0))


def test_preset_flags_reach_the_job():
    job = nerf_options.build(
        NerfCommand(
            data="x",
            preset="gpu",
            steps=1001,
            rays=512,
            set_=("optimizer.learning_rate=0.002", "loop.eval_rays=99", "outputs.video_frames=0"),
            sampler="error_weighted",
            sampler_option=("decay=0.25",),
        )
    )
    assert isinstance(job, NerfJob)
    assert job.train.num_steps % job.train.steps_per_call == 0
    assert 1001 <= job.train.num_steps < 1001 + job.train.steps_per_call
    assert job.train.optimizer.learning_rate == 0.002
    assert (job.loop.eval_rays, job.outputs.video_frames) == (99, 0)
    assert job.sampler.as_dict() == {"decay": 0.25}
    assert nerf_options.build(NerfCommand(data="x")).sampler.name == nerf_options.DEFAULT_SAMPLER


def test_steps_and_steps_per_call_may_be_given_together():
    command = NerfCommand(data="x", preset="cpu", steps=2040, set_=("steps_per_call=32",))
    job = nerf_options.build(command)
    assert (job.train.steps_per_call, job.train.num_steps) == (32, 2048)
    assert job.loop.log_every % 32 == 0


def test_a_run_fills_its_seconds_and_its_rate_falls_to_their_end(shared, tmp_path):
    # a step takes microseconds to milliseconds, so the 24 steps of the config are far too few
    loop = dataclasses.replace(TINY.loop, seconds=1.0, fill_seconds=True, checkpoint_seconds=60.0)
    job = dataclasses.replace(without_video(TINY), loop=loop)
    summary = nerf_job.start(job, out=str(tmp_path / "run"), shared=shared)
    assert summary["ended_by"] == "seconds"
    assert summary["steps"] > 3 * TINY.train.num_steps
    assert summary["planned_steps"] % TINY.loop.log_every == 0
    template = nerf_setup.state_shapes(nerf_setup.prepare(TINY, shared.scene))
    state = checkpoints.restore(RunFolder(tmp_path / "run").checkpoints, template).state
    assert float(state.run_length) == summary["planned_steps"]
    assert float(state.sampler.run_length) == summary["planned_steps"]
    assert int(state.step) == summary["steps"]
