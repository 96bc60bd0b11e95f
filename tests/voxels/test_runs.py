"""The whole job from its flags: resume bit for bit, gradients alone, maps and captured views."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from training import (
    checkpoints,
    config_json,
    run_folder,
    voxels_job,
    voxels_options,
    voxels_report,
    voxels_setup,
)
from training.export_command import ExportCommand
from training.fault import FaultError
from training.interrupts import StopRequest
from training.voxels_command import VoxelsCommand
from training.voxels_config import VoxelsJob, WorldSource
from training.voxels_evaluation import Evaluator
from voxels.block_map import make_map
from voxels.formats.any_map import load_any_map, save_any_map
from voxels.formats.magica_voxel import save_vox
from voxels.formats.metadata_json import CapturedViews, load_views, save_views
from voxels.formats.palette_json import load_palette
from voxels.palette import terrain_palette
from voxels.procedural import WorldConfig, make_world, orbit_cameras

SMALL = {"steps": 8, "size": 16, "views": 3, "set_": ("world.shape=[5,5,5]", "loop.log_every=2")}


class StopAfter(StopRequest):
    """A user who interrupts after some steps."""

    looks = 3

    def __enter__(self):
        self._left = self.looks
        return self

    def __setattr__(self, name, value):
        if name != "is_set":
            super().__setattr__(name, value)

    @property
    def is_set(self):
        self._left -= 1
        return self._left < 0


def last_state(path):
    folder = run_folder.existing(str(path))
    job = config_json.from_json(VoxelsJob, run_folder.read_json(folder.config)["config"], "here")
    shapes = voxels_setup.state_shapes(voxels_setup.prepare(job))
    return checkpoints.restore(folder.checkpoints, shapes)


def test_pictures_made_here_are_made_as_they_are_looked_at():
    """A world that is found to the last block has no export gap, whatever the rays per pixel."""
    settings = ("world.shape=[5,5,5]", "world.scale=2", "render.samples=2")
    job = voxels_options.build(VoxelsCommand(size=16, views=2, set_=settings))
    setup = voxels_setup.prepare(job)
    assert setup.loaded.scale == 2.0
    shown = Evaluator(setup).map_pictures(setup.loaded.block_map, [0, 1])
    np.testing.assert_array_equal(np.round(255 * shown), setup.loaded.pictures)
    once = voxels_setup.load(job.world).pictures
    assert np.any(once != setup.loaded.pictures)


TINY_WORLD = ("world.shape=[4,4,4]",)


def asked(*settings, **flags):
    """The job of some settings, on a world that takes no time."""
    small = {"size": 8, "views": 1, "set_": (*TINY_WORLD, *settings)}
    return voxels_options.build(VoxelsCommand(**small | flags))


@pytest.mark.parametrize(
    ("settings", "flags", "rates"),
    [
        ((), {}, (0.2, 0.2)),
        (("learning_rate=0.05",), {}, (0.05, 0.05)),
        (("learning_rate=0.05", "final_learning_rate=0.01"), {}, (0.05, 0.01)),
        (("learning_rate=0.01", "world.start=map"), {}, (0.01, 0.0025)),
        (("world.start=map",), {}, (0.2, 0.05)),
        (("learning_rate=0.01",), {"steps": 100}, (0.01, 0.0025)),
    ],
)
def test_the_last_rate_follows_the_first_unless_set_itself(settings, flags, rates):
    train = asked(*settings, **flags).train
    assert (train.learning_rate, train.final_learning_rate) == pytest.approx(rates)


def test_the_length_of_a_run_decides_about_its_restart_however_it_is_given():
    for settings, steps in (((), 100), (("num_steps=100",), None), (("num_steps=100",), 900)):
        train = asked(*settings, steps=steps).train
        assert (train.num_steps, train.restarts, train.final_learning_rate) == (100, (), 0.05)
    for settings, steps in (((), 900), (("num_steps=900",), None), (("num_steps=900",), 100)):
        train = asked(*settings, steps=steps).train
        assert (train.num_steps, train.restarts, train.final_learning_rate) == (900, (0.6,), 0.2)
    assert asked("num_steps=100", "restarts=[0.5]").train.restarts == (0.5,)
    with pytest.raises(ValueError, match="num_steps"):
        asked("num_steps=many")
    with pytest.raises(ValueError, match="num_steps"):
        asked("num_steps=0")


@pytest.mark.parametrize(
    ("settings", "flags", "message"),
    [
        (("guidance.weights=w.npz",), {}, "guidance.weights is read by tiny and sdxl, not by tar"),
        (("guidance.unet=u",), {}, "guidance.unet is read by sdxl, not by target"),
        (("guidance.distillation.variant=ism",), {}, "distillation.variant is read by mixture and"),
        (("guidance.sdxl.size=64",), {"guidance": "mixture"}, "sdxl.size is read by sdxl, not by"),
        (
            ("guidance.spread=0.1",),
            {"guidance": "tiny", "prompt": "snow"},
            "guidance.spread is read by mixture, not by tiny",
        ),
        (
            ("guidance.sdxl.prompt=a",),
            {"guidance": "sdxl", "prompt": "b"},
            "guidance.sdxl.prompt follows from --prompt",
        ),
        (
            ("guidance.unet=u", "guidance.sdxl.variant=nfsd"),
            {"guidance": "sdxl", "prompt": "b"},
            "guidance.sdxl.variant follows from guidance.unet: residual, got nfsd",
        ),
    ],
)
def test_settings_that_the_guide_does_not_read_are_refused_by_name(settings, flags, message):
    with pytest.raises(ValueError, match=message):
        asked(*settings, **flags)


def test_settings_that_the_guide_reads_are_kept():
    job = asked("guidance.spread=0.1", "guidance.distillation.variant=ism", guidance="mixture")
    assert (job.guidance.spread, job.guidance.distillation.variant) == (0.1, "ism")
    settings = ("guidance.sdxl.variant=nfsd", "guidance.weights=w")
    assert asked(*settings, guidance="sdxl", prompt="b").guidance.sdxl.variant == "nfsd"


def write_capture(folder, world, config):
    """Posed pictures of a world from two cameras; returns their metadata and files."""
    cameras = orbit_cameras(config, 2, 16, 16)
    shown = voxels_setup.render_map(world, cameras, 16, 16, 0.1, terrain_palette())
    paths = [folder / f"{number}.png" for number in range(2)]
    for path, image in zip(paths, shown, strict=True):
        Image.fromarray(image).save(path)
    views = CapturedViews(cameras, ("a", "b"), 16, 16, 0.1, 500.0, tuple(paths))
    save_views(folder / "metadata.json", views)
    return folder / "metadata.json", paths


@pytest.mark.parametrize("has_map", [True, False])
def test_a_missing_picture_is_named(tmp_path, has_map):
    config = WorldConfig(shape=(4, 4, 4), num_houses=0)
    world = make_world(config, 0)
    save_any_map(tmp_path / "map.json", world, terrain_palette())
    metadata, paths = write_capture(tmp_path, world, config)
    source = WorldSource(
        map=str(tmp_path / "map.json") if has_map else None,
        cameras=str(metadata),
        shape=(4, 4, 4),
        start="fog",
    )
    assert not voxels_setup.load(source).is_rendered
    paths[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.png: no such picture; view b of .*metadata"):
        voxels_setup.load(source)
    document = json.loads(metadata.read_text())
    document["views"][1]["rgbPath"] = None
    metadata.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"metadata\.json: view b names no picture"):
        voxels_setup.load(source)
    document["views"][0]["rgbPath"] = None
    metadata.write_text(json.dumps(document))
    if has_map:
        loaded = voxels_setup.load(source)
        assert loaded.is_rendered
        assert "names no pictures" in loaded.notes[0]
    else:
        with pytest.raises(ValueError, match=r"metadata\.json: view a names no picture"):
            voxels_setup.load(source)


def test_a_world_of_which_nothing_is_visible_has_no_share_of_right_cells():
    setup = voxels_setup.prepare(asked())
    empty = make_map(np.zeros((4, 4, 4), int), setup.loaded.block_map.names)
    evaluator = Evaluator(setup._replace(loaded=setup.loaded._replace(block_map=empty)))
    numbers = evaluator._against_known(empty)
    assert numbers["num_visible"] == 0
    assert numbers["visible_right"] is None


@pytest.mark.slow
def test_a_resumed_run_ends_bit_for_bit_where_an_unbroken_one_does(tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    VoxelsCommand(out=str(whole), **SMALL).run()
    with monkeypatch.context() as patch:
        patch.setattr(voxels_job, "StopRequest", StopAfter)
        with pytest.raises(SystemExit):
            VoxelsCommand(out=str(broken), **SMALL).run()
    assert 0 < last_state(broken).step < 8
    VoxelsCommand(resume=str(broken)).run()
    ends = [last_state(path) for path in (whole, broken)]
    assert [end.step for end in ends] == [8, 8]
    for a, b in zip(*(jax.tree.leaves(end.state) for end in ends), strict=True):
        np.testing.assert_array_equal(a, b)
    maps = [(path / "map_optimized.json").read_text() for path in (whole, broken)]
    assert maps[0] == maps[1]
    summaries = [run_folder.read_json(path / "summary.json")["final"] for path in (whole, broken)]
    assert summaries[0] == summaries[1]
    assert "export gap" in (broken / "report.html").read_text()


@pytest.mark.slow
def test_a_run_counts_as_done_when_its_report_is_written(tmp_path, monkeypatch):
    def fail(*arguments, **named):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(voxels_report, "write", fail)
        with pytest.raises(OSError, match="disk full"):
            VoxelsCommand(out=str(tmp_path), **SMALL).run()
    assert not (tmp_path / "summary.json").exists()
    assert last_state(tmp_path).step == 8
    VoxelsCommand(resume=str(tmp_path)).run()
    assert (tmp_path / "summary.json").exists()
    assert (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_a_run_begun_with_numba_goes_on_without(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(voxels_job, "StopRequest", StopAfter)
        with pytest.raises(SystemExit):
            VoxelsCommand(out=str(out), **SMALL).run()
    config = run_folder.read_json(out / "config.json")
    config["config"]["train"]["render"]["backend"] = "numba"
    (out / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(voxels_job, "march_backend", lambda: "march")
    VoxelsCommand(resume=str(out)).run()
    assert "goes on without" in capsys.readouterr().out
    assert last_state(out).step == 8


@pytest.mark.slow
def test_a_world_gone_nan_is_not_kept_and_the_run_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    """Metrics tell of what was before a step, so its last good checkpoint was overwritten once."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    settings = SMALL | {"set_": (*SMALL["set_"], "loop.checkpoint_seconds=0.000001")}
    real = voxels_job._make_step

    def poisoned(setup):
        step = real(setup)

        def lose_its_mind(state):
            state, metrics = step(state)
            if int(state.step) == 4:
                state = state._replace(grid=jax.tree.map(lambda leaf: leaf * np.nan, state.grid))
            return state, metrics

        return lose_its_mind

    with monkeypatch.context() as patch:
        patch.setattr(voxels_job, "_make_step", poisoned)
        with pytest.raises(
            FaultError, match=r"step 4 was not finite \(learned occupancy logits in 125"
        ):
            VoxelsCommand(out=str(part), **settings).run()
    assert last_state(part).step == 2
    VoxelsCommand(resume=str(part)).run()
    VoxelsCommand(out=str(whole), **settings).run()
    for a, b in zip(
        *(jax.tree.leaves(last_state(path).state) for path in (whole, part)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_map_with_captured_views_is_kept_by_its_own_pictures(tmp_path, data_folder):
    """Training starts at the truth here, so it must stay there."""
    folder = Path(data_folder) / "voxels/synthetic"
    out = tmp_path / "run"
    VoxelsCommand(
        map=str(folder / "maps/1/map.json"),
        cameras=str(folder / "datasets/1/metadata.json"),
        steps=10,
        out=str(out),
    ).run()
    final = run_folder.read_json(out / "summary.json")["final"]
    assert final["known_map"] == "initial"
    assert final["visible_right"] > 0.98
    assert final["psnr_exported"] > 25


@pytest.mark.slow
def test_pictures_alone_are_turned_into_a_map(tmp_path):
    """Posed pictures of a world that the run is never shown; its cells are right all the same."""
    config = WorldConfig(shape=(8, 8, 8), scale=2.0, num_houses=0)
    world, cameras = make_world(config, 0), orbit_cameras(config, 6, 48, 48)
    shown = voxels_setup.render_map(world, cameras, 48, 48, 0.1, terrain_palette())
    (tmp_path / "images").mkdir()
    paths = [tmp_path / "images" / f"{number}.png" for number in range(6)]
    for path, image in zip(paths, shown, strict=True):
        Image.fromarray(image).save(path)
    names = tuple(str(number) for number in range(6))
    views = CapturedViews(cameras, names, 48, 48, 0.1, 500.0, tuple(paths))
    save_views(tmp_path / "metadata.json", views)
    out = tmp_path / "run"
    command = VoxelsCommand(
        cameras=str(tmp_path / "metadata.json"),
        steps=500,
        set_=("world.shape=[8,8,8]", "world.scale=2"),
        out=str(out),
    )
    command.run()
    summary = run_folder.read_json(out / "summary.json")
    assert summary["final"]["known_map"] == "none"
    assert "visible_right" not in summary["final"]
    found = load_any_map(out / "map_optimized.json", terrain_palette())[0]
    setup = voxels_setup.prepare(run_folder.read_job(run_folder.existing(str(out)), VoxelsJob))
    loaded = setup.loaded._replace(block_map=world)
    visible = Evaluator(setup._replace(loaded=loaded)).visible()
    assert np.mean(found.materials[visible] == world.materials[visible]) > 0.95
    assert "blocks" in (out / "report.html").read_text()


@pytest.mark.slow
def test_a_run_that_sees_nothing_of_its_map_says_so(tmp_path, capsys):
    config = WorldConfig(shape=(4, 4, 4), num_houses=0)
    world = make_world(config, 0)
    save_any_map(tmp_path / "map.json", world, terrain_palette())
    metadata, _ = write_capture(tmp_path, world, config)
    views = load_views(metadata)
    away = np.array(views.cameras.camera_to_world)
    away[:, :3, 3] *= 1000
    away[:, :3, [0, 2]] *= -1  # behind the cameras
    cameras = views.cameras._replace(camera_to_world=away)
    save_views(metadata, views._replace(cameras=cameras))
    out = tmp_path / "run"
    VoxelsCommand(
        map=str(tmp_path / "map.json"), cameras=str(metadata), steps=2, out=str(out)
    ).run()
    assert run_folder.read_json(out / "summary.json")["final"]["visible_right"] is None
    assert "no visible cells of the initial map" in capsys.readouterr().out
    assert "none is visible" in (out / "report.html").read_text()


@pytest.mark.slow
def test_gradients_can_be_checked_without_training(tmp_path, capsys):
    out = tmp_path / "gradients"
    VoxelsCommand(check_gradients=True, out=str(out), **SMALL).run()
    written = json.loads((out / "gradient_report.json").read_text())
    assert json.loads(capsys.readouterr().out) == written
    assert 0 < written["gradient_health_score"] <= 1  # the start is a fog without solid cells
    assert written["score"] > 0.5
    assert written["num_nan"] == written["num_infinite"] == 0
    assert max(written["occupancy_agreement_error"], written["material_agreement_error"]) < 0.1
    assert list(written["per_material"])[:2] == ["Grass", "Dirt"]
    assert not (out / "checkpoints").exists() or not any((out / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_world_of_another_palette_is_wished_for_logged_and_exported(tmp_path):
    """From a .vox of two materials to one: shares follow the wish, every number is in the log."""
    palette = tmp_path / "palette.json"
    palette.write_text(json.dumps({"Brick": "#a04030", "Moss": {"side": [0.2, 0.5, 0.2]}}))
    materials = np.zeros((6, 5, 6), np.int16)
    materials[:, 0], materials[2:4, 1:3, 2:4] = 2, 1
    save_vox(tmp_path / "tower.vox", make_map(materials, ("Brick", "Moss")), load_palette(palette))
    out = tmp_path / "run"
    VoxelsCommand(
        map=str(tmp_path / "tower.vox"),
        palette=str(palette),
        want=("Brick=0.9",),
        stack=("Moss/Brick=1",),
        steps=60,
        size=16,
        views=2,
        set_=("losses.distribution=50", "loop.image_every=30"),
        out=str(out),
    ).run()
    final = run_folder.read_json(out / "summary.json")["final"]
    assert final["known_material_share"]["Brick"] == pytest.approx(8 / 44)
    assert final["material_share"]["Brick"] > 0.5
    assert final["material_shift"]["Brick"] > 0.3
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    trained = next(row for row in rows if row["kind"] == "train")
    wanted = {"loss", "guide", "prior_distribution", "prior_adjacency", "prior_sparsity"}
    wanted |= {"camera_0", "camera_1", "occupancy_entropy", "share_Moss", "gradient_max"}
    assert wanted <= set(trained)
    looks = [row for row in rows if row["kind"] == "fixed_views"]
    assert [row["step"] for row in looks] == [0, 30, 60]
    wanted = {"psnr", "psnr_exported", "export_gap", "gradient_health_score", "gradient_score"}
    assert all(wanted <= set(row) for row in looks)
    assert looks[-1]["psnr"] == pytest.approx(final["psnr"], abs=1e-3)
    document = json.loads((out / "map_optimized.json").read_text())
    assert document["metadata"]["guidance"] == "target"
    for name in ("again.vox", "again.json"):
        ExportCommand(run_folder=str(out), out=str(tmp_path / name)).run()
        again, _ = load_any_map(tmp_path / name, load_palette(palette))
        assert again.num_blocks == final["num_blocks"]
    with pytest.raises(ValueError, match=r"written as one of .*\.vox"):
        ExportCommand(run_folder=str(out), out=str(tmp_path / "again.txt")).run()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"guidance": "tiny"}, "needs a prompt"),
        ({"guidance": "target", "prompt": "snow"}, "reads no prompt"),
        ({"cameras": "metadata.json", "size": None}, "needs the size of the world"),
        (
            {"cameras": "metadata.json", "guidance": "tiny", "prompt": "snow", "size": None},
            "tiny shapes a --map",
        ),
        ({"palette": "palette.json"}, "belongs to a --map"),
        ({"cameras": "metadata.json", "set_": ("world.shape=[4,4,4]",)}, "--views and --size are"),
        ({"map": "world.vox", "set_": ("world.scale=2",)}, "world.scale follows from --map"),
        ({"set_": ("render.rows=32",)}, "render.rows follows from .*16, got 32"),
        ({"set_": ("render.scale=2",)}, "render.scale follows from .*1.0, got 2.0"),
        ({"set_": ("render.near=30",)}, "render.near follows from .*0.1, got 30.0"),
        ({"map": "world.txt"}, r"ends in one of \.json, \.vox"),
        ({"want": ("Gold=0.5",)}, "no material 'Gold'"),
        ({"want": ("Grass=0.9", "Snow=0.4")}, "add up to 1.3"),
        ({"stack": ("Grass=1",)}, "BELOW/ABOVE"),
        ({"set_": ("render.max_cells=9", "render.max_pairs=9", "render.backend=splat")}, "marches"),
        ({"resume": "run", "steps": 3}, "goes on as it was started"),
        ({"guidance": "tiny", "prompt": "castle"}, "the prompt knows"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        VoxelsCommand(out=str(tmp_path / "run"), **({"size": 16} | flags)).run()
