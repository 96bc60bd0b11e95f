"""Motion runs from flags to report, with a tiny robot in place of the humanoid."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from motion.builtin_clips import builtin_clip
from motion.clips import build_clip_bank
from motion.formats.mjcf import load_robot
from motion.formats.npz_clip import save_npz
from motion.train_step import TrainConfig
from tests.motion.tiny import swaying_clip, tiny_robot
from training import (
    checkpoints,
    compare_report,
    compare_results,
    config_json,
    export_command,
    motion_history,
    motion_job,
    motion_onnx,
    motion_options,
    motion_report,
    motion_setup,
    motion_tasks,
    runtime,
)
from training.compare_config import MotionComparison
from training.fault import FaultError
from training.motion_command import MotionCommand
from training.motion_config import MotionJob, MotionLoop, MotionSource
from training.motion_setup import LoadedMotion
from training.run_folder import RunFolder
from training.sampler_config import SamplerConfig

REALLY_LOAD = motion_setup.load
SETTINGS = (
    "train.num_steps=4",
    "train.ppo.num_epochs=1",
    "loop.num_starts=4",
    "loop.survival_seconds=0.2",
    "loop.evaluate_every=2",
    "loop.log_every=1",
    "loop.video_frames=6",
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Whatever the source names, the tiny robot and two swaying clips are loaded."""
    robot = tiny_robot()
    clips = (swaying_clip(robot), swaying_clip(robot, name="again", seconds=1.0))
    found = loaded(robot, clips, "train")
    monkeypatch.setattr(motion_setup, "load", lambda source: found)
    return robot


def loaded(robot, clips, split, **more):
    bank = build_clip_bank(robot, clips, control_rate=50.0)
    weights, splits = (1.0,) * len(clips), (split,) * len(clips)
    return LoadedMotion(robot, clips, weights, splits, bank, **more)


def small_job(steps=4, **changes) -> MotionJob:
    command = MotionCommand(steps=steps, envs=8, set_=SETTINGS, **changes)
    return motion_options.build(command)


def odd_train():
    return dataclasses.replace(small_job().train, num_steps=5)


@pytest.mark.parametrize(("is_large", "steps"), [(False, 24), (True, 12)])
def test_the_task_does_not_depend_on_the_machine(monkeypatch, is_large, steps):
    monkeypatch.setattr(runtime, "has_accelerator", lambda: is_large)
    quick, published = (
        motion_options.build(MotionCommand(physics="c", task=task))
        for task in ("quick", "published")
    )
    assert quick.env == motion_tasks.quick(not is_large).env
    assert quick.train.num_steps == steps
    assert published.env.action_centre == "default"
    assert published.env.push_seconds is not None
    assert published.train.ppo.network.hidden == (512, 256, 128)
    ppo = dataclasses.replace(published.train.ppo, network=TrainConfig().ppo.network)
    assert dataclasses.replace(published.train, ppo=ppo) == TrainConfig()


def test_the_job_reads_back_from_its_json():
    job = small_job()
    values = json.loads(json.dumps(config_json.to_json(job)))
    assert config_json.from_json(MotionJob, values, "test") == job


def test_a_run_writes_everything_and_a_resumed_one_ends_bit_for_bit_the_same(tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    summary = motion_job.start(small_job(), out=str(whole))
    for name in ("config.json", "metrics.jsonl", "summary.json", "report.html", "policy.onnx"):
        assert (whole / name).is_file(), name
    assert (whole / "images" / "policy.png").is_file()
    page = (whole / "report.html").read_text()
    assert "Probability of starting" in page
    assert 0 <= summary["final"]["starts_survived"] <= 1
    assert [clip["name"] for clip in summary["final"]["clips"]] == ["sway", "again"]
    assert [point[0] for point in summary["curve"]] == [0, 64, 128]

    part = tmp_path / "part"
    real = motion_job._is_done
    monkeypatch.setattr(
        motion_job, "_is_done", lambda setup, progress: progress.step >= 2 or real(setup, progress)
    )
    motion_job.start(small_job(), out=str(part))
    monkeypatch.setattr(motion_job, "_is_done", real)
    motion_job.resume(str(part))
    setup = motion_setup.prepare(small_job())
    states = [
        checkpoints.restore(RunFolder(folder).checkpoints, motion_setup.first_state(setup)).state
        for folder in (whole, part)
    ]
    for one, other in zip(*(jax.tree.leaves(state) for state in states), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_clips_held_out_are_judged_apart(tmp_path, tiny, monkeypatch):
    new = (swaying_clip(tiny, name="new", seconds=0.6),)
    found = motion_setup.load(MotionSource())._replace(held_out=loaded(tiny, new, "test"))
    monkeypatch.setattr(motion_setup, "load", lambda source: found)
    final = motion_job.start(small_job(steps=1), out=str(tmp_path / "run"))["final"]
    assert [clip["name"] for clip in final["clips"]] == ["sway", "again"]
    (clip,) = final["held_out"]["clips"]
    assert (clip["name"], clip["split"], clip["seconds"]) == ("new", "test", 0.62)
    assert 0 <= final["held_out"]["starts_survived"] <= 1
    assert "Clips held out" in (tmp_path / "run" / "report.html").read_text()


def test_a_manifest_parts_what_is_trained_on_from_what_is_held_out(tmp_path):
    robot = load_robot("humanoid")
    rows = []
    for name, split in (("squat", "train"), ("step", "test"), ("wave", "val")):
        save_npz(tmp_path / f"{name}.npz", robot, builtin_clip(robot, name))
        rows.append({"file": f"{name}.npz", "split": split, "weight": 2.0})
    (tmp_path / "clips.json").write_text(json.dumps({"clips": rows}))
    source = MotionSource(robot="humanoid", clips=(str(tmp_path / "clips.json"),))
    found = REALLY_LOAD(source)
    assert ([clip.name for clip in found.clips], found.weights) == (["squat"], (2.0,))
    assert [clip.name for clip in found.held_out.clips] == ["step", "wave"]
    assert found.held_out.splits == ("test", "val")
    assert (
        found.held_out.lengths
        == REALLY_LOAD(
            MotionSource(robot="humanoid", clips=("builtin:step", "builtin:wave"))
        ).lengths
    )


def test_what_changes_a_run_changes_its_fingerprint(tiny):
    found = motion_setup.load(MotionSource())
    same = motion_setup.fingerprint(found)
    assert motion_setup.fingerprint(motion_setup.load(MotionSource())) == same
    robot = dataclasses.replace(found.robot, stiffness=2 * found.robot.stiffness)
    new = loaded(tiny, (swaying_clip(tiny, name="new"),), "test")
    for change in ({"weights": (1.0, 2.0)}, {"robot": robot}, {"held_out": new}):
        assert motion_setup.fingerprint(found._replace(**change)) != same


def test_actions_around_torques_are_trained_and_their_targets_go_with_the_clips(tmp_path):
    job = small_job(steps=2)
    assert job.env.action_centre == "feedforward"
    run = tmp_path / "run"
    motion_job.start(job, out=str(run))
    bank = motion_setup.prepare(job).loaded.bank
    assert bank.target is not None
    command = export_command.ExportCommand(
        run_folder=str(run), what="clips", out=str(tmp_path / "clips")
    )
    command.run()
    first, length = int(bank.clip_start[1]), int(bank.clip_length[1])
    with np.load(tmp_path / "clips" / "again.npz") as file:
        assert float(file["fps"][0]) == 50.0
        np.testing.assert_allclose(
            file["joint_target"], bank.target[first : first + length], atol=1e-5
        )
        np.testing.assert_allclose(
            file["joint_pos"], bank.qpos[first : first + length, 7:], atol=1e-5
        )


def test_a_run_stopped_while_it_compiled_has_its_first_point_once(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(motion_job, "_loop", interrupted_loop)
        with pytest.raises(SystemExit):
            motion_job.start(small_job(steps=2), out=str(tmp_path))
    summary = motion_job.resume(str(tmp_path))
    assert [point[0] for point in summary["curve"]] == [0, 64]


def test_a_run_counts_as_done_when_its_report_is_written(tmp_path, monkeypatch):
    def fail(*arguments, **named):
        raise OSError("disk full")

    folder = RunFolder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(motion_report, "write", fail)
        with pytest.raises(OSError, match="disk full"):
            motion_job.start(small_job(steps=1), out=str(tmp_path))
    assert not folder.summary.exists()
    assert checkpoints.steps(folder.checkpoints) == [1]
    motion_job.resume(str(tmp_path))
    assert folder.summary.exists()
    assert folder.report.exists()


def test_however_long_a_run_is_its_heat_maps_have_few_columns_spread_over_all_of_it():
    history, most = [], motion_history._MOST
    for step in range(0, 5000, 4):
        motion_history.add(history, {"env_steps": step})
        steps = np.array([entry["env_steps"] for entry in history])
        assert len(steps) <= most
        assert (steps[0], steps[-1]) == (0, step)
        if step:
            assert np.diff(steps).min() > 0
            assert np.diff(steps).max() <= 2.01 * max(4, step / (len(steps) - 1))
    assert len(steps) == most


def interrupted_loop(setup, evaluator, folder, step, state, progress, log, saver, view, stop):
    saver.save(progress.step, state, dataclasses.asdict(progress))
    return state


@pytest.mark.slow
def test_draws_of_starts_are_told_in_numbers():
    even, one = [0.25] * 4, [1.0, 0.0, 0.0, 0.0]
    found = motion_history.draws([{"probabilities": even}, {"probabilities": one}])
    assert found == {"entropy": 0.5, "effective_sample_share": (1.0 + 0.25) / 2}


def test_a_policy_gone_nan_is_not_kept_and_the_run_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    """Metrics tell of what was before a step, so its last good checkpoint was overwritten once."""
    job = small_job()
    job = dataclasses.replace(job, loop=dataclasses.replace(job.loop, checkpoint_seconds=1e-6))
    real = motion_setup.make_step

    def poisoned(setup):
        step = real(setup)

        def lose_its_mind(state):
            state, metrics = step(state)
            if int(state.iteration) == 3:
                params = jax.tree.map(lambda leaf: leaf * np.nan, state.learner.params)
                state = state._replace(learner=state.learner._replace(params=params))
            return state, metrics

        return lose_its_mind

    whole, part = tmp_path / "whole", tmp_path / "part"
    with monkeypatch.context() as patch:
        patch.setattr(motion_setup, "make_step", poisoned)
        with pytest.raises(FaultError, match=r"step 3 was not finite \(learned params"):
            motion_job.start(job, out=str(part))
    assert checkpoints.steps(RunFolder(part).checkpoints)[0] == 2
    assert checkpoints.steps(RunFolder(part).fault) == [3]
    motion_job.resume(str(part))
    motion_job.start(job, out=str(whole))
    template = motion_setup.first_state(motion_setup.prepare(job))
    states = [
        checkpoints.restore(RunFolder(folder).checkpoints, template).state
        for folder in (whole, part)
    ]
    for one, other in zip(*(jax.tree.leaves(state) for state in states), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_a_policy_outside_says_what_the_one_inside_says(tmp_path, tiny):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    job = small_job()
    setup = motion_setup.prepare(job)
    learner = motion_setup.first_state(setup).learner
    moments = learner.actor._replace(
        mean=learner.actor.mean + 0.3, variance=learner.actor.variance * 4.0
    )
    found = motion_onnx.export(
        tmp_path / "policy.onnx", learner._replace(actor=moments), job.train.ppo, job.env, tiny
    )
    assert found["largest_difference"] < motion_onnx.TOLERANCE
    model = onnx.load(str(tmp_path / "policy.onnx"))
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert told["joint_names"] == list(tiny.joint_names)
    assert sum(term["size"] for term in told["observation_terms"]) == setup.env.actor_size


def test_a_comparison_pairs_seeds_and_counts_crossings():
    base = small_job(steps=4)
    names = ("uniform", "failure_bins")
    comparison = MotionComparison(
        base=base, samplers=tuple(SamplerConfig(name=name) for name in names), num_seeds=2
    )
    assert [(job.seed, job.sampler.name) for job in comparison.runs()] == [
        (0, "uniform"),
        (0, "failure_bins"),
        (1, "failure_bins"),
        (1, "uniform"),
    ]
    summaries = {}
    for job in comparison.runs():
        gain = 0.5 if job.sampler.name == "failure_bins" else 0.25
        curve = [[0, 0.0, 0.0], [100, 1.0, 2 * gain], [200, 2.0, 2 * gain]]
        summaries[f"{job.sampler.name}/seed-{job.seed}"] = {
            "curve": curve,
            "cpu_seconds": 1.0,
            "train_seconds": 1.0,
            "robot": "tiny",
            "data": "sway",
            "physics": "c",
            "env_steps": 200,
            "device": "x",
            "versions": {},
            "final": {
                "starts_survived": 2 * gain,
                "mpjpe_global": 0.1,
                "clips_completed": 1.0,
                "failures_per_pass": [0.0, None],
                "num_starts": 4,
            },
        }
    results = compare_results.collect(comparison, summaries)
    ours, plain = (results["samplers"][name] for name in reversed(names))
    assert ours["steps_to_target"]["values"] == [90.0, 90.0]
    assert plain["steps_to_target"]["values"] == []
    assert ours["area"]["mean"] == pytest.approx(0.75)
    header, rows, _ = compare_report.table_rows(results)
    place = header.index("steps to surviving starts 0.90")
    assert [row[place] for row in rows] == ["not reached", "90 ± 0"]
    area = next(v for v in results["verdicts"] if v["quantity"] == "area")
    assert area["outcome"] == "better"
    assert area["sentence"].startswith("failure_bins is better than uniform")
    assert "+37.50 percentage points" in area["sentence"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MotionLoop(seconds=None), "iterations, of seconds, or both"),
        (lambda: MotionLoop(seconds=-1.0), "seconds must be positive"),
        (lambda: MotionSource(clips=()), "at least one clip"),
        (lambda: MotionSource(clips=("a.json", "b.csv")), "a manifest stands alone"),
        (lambda: dataclasses.replace(small_job(), num_envs=3, train=odd_train()), "do not divide"),
        (
            lambda: (
                small_job(sampler="error_weighted")
                and motion_setup.prepare(small_job(sampler="error_weighted"))
            ),
            "motion samplers: uniform",
        ),
    ],
)
def test_impossible_jobs_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_folder_of_another_job_is_not_resumed(tmp_path):
    (tmp_path / "config.json").write_text('{"config": {"job": "nerf"}}')
    with pytest.raises(ValueError, match="not a motion run"):
        motion_job.resume(str(tmp_path))


def test_clips_whose_names_differ_in_what_files_cannot_hold_get_files_of_their_own():
    taken = set()
    names = [export_command.file_name(name, taken) for name in ("a/b", "a:b", "A-b", "c", "a-b-2")]
    assert names == ["a-b", "a-b-2", "A-b-3", "c", "a-b-2-2"]
