"""The command line: quick help, one red line for what is wrong, and its exit codes."""

import errno
import json
import os
import subprocess
import sys

import pytest

from training import cli, commands, nerf_options, runtime
from training.motion_command import MotionCommand
from training.nerf_command import NerfCommand
from training.voxels_command import VoxelsCommand


def _run(*words):
    return subprocess.run(
        [sys.executable, "-m", "training.cli", *words], capture_output=True, text=True, timeout=60
    )


def _fails(capsys, *words):
    """Runs in this process; returns the error line."""
    assert cli.main(list(words)) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("words", [(), ("nerf", "--help"), ("compare", "nerf", "--help")])
def test_help_does_not_import_jax(words):
    code = (
        "import sys; from training import cli\n"
        f"try: code = cli.main({list(words)!r})\n"
        "except SystemExit as leaving: code = leaving.code\n"
        "assert not code, code\n"
        "assert 'jax' not in sys.modules and 'matplotlib' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "hardlight" in done.stdout


def test_every_command_is_listed_and_has_examples(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    for entry in commands.ENTRIES:
        assert " ".join(entry.words) in shown
        assert entry.load().examples.strip().startswith("hardlight " + " ".join(entry.words))


def test_wrong_flag_exits_with_2():
    done = _run("nerf", "--stepps", "3")
    assert done.returncode == 2
    assert "--steps" in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("frobnicate",), "no command 'frobnicate'; commands: nerf, "),
        (("compare",), "hardlight compare needs a job: one of nerf"),
        (("nerf",), "say either --data FOLDER, to start a run, or --resume RUN"),
        (("nerf", "--data", "x", "--resume", "y"), "say either --data"),
        (("nerf", "--resume", "y", "--out", "z"), "leave out --out"),
        (("nerf", "--data", "x", "--steps", "0"), "--steps must be at least 1, got 0"),
        (("nerf", "--data", "x", "--set", "a"), "--set takes NAME=VALUE, got 'a'"),
        (("nerf", "--data", "synthetic:x", "--set", "nope=1"), "no setting 'nope' in NerfConfig"),
        (("nerf", "--data", "x", "--seed", "-1"), "seed must be in"),
        (
            ("nerf", "--data", "synthetic:blocks", "--seconds", "inf"),
            "loop.seconds: must be a number or none, got inf",
        ),
        (("render", "no/such/run"), "no/such/run: no such run folder"),
        (("render", "run", "--what", "path"), "--what path and --path FILE belong together"),
        (("render", "run", "--what", "views", "--fps", "9"), "--fps is of videos"),
        (("render", "run", "--fps", "0"), "--fps must be in [0.01, 1000], got 0"),
        (("view", "no/such/run"), "no/such/run: no such run folder"),
        (("replay", "no/such/run"), "no/such/run: no such run folder"),
        (("nerf", "--resume", "no/such/run"), "no/such/run: no such run folder"),
        (("compare", "nerf", "--resume", "no"), "no: not a comparison's folder"),
        (("compare", "nerf", "--resume", "no", "--seeds", "5"), "as it was started; drop --seeds"),
        (("compare", "motion", "--resume", "no", "--clip", "a.csv"), "drop --clip"),
        (("compare", "voxels", "--resume", "no", "--set", "a=1"), "drop --set"),
        (
            ("compare", "nerf", "--data", "synthetic:blocks", "--samplers", "uniform"),
            "a comparison needs two or more different samplers",
        ),
    ],
)
def test_bad_input_is_one_line(capsys, words, message):
    assert message in _fails(capsys, *words).replace("\n", " ")


@pytest.mark.parametrize(
    "flags",
    [
        ("--set", "loop.first=1", "--steps", "3", "--set=loop.second=2"),
        ("--set=loop.first=1", "--set", "loop.second=2", "--steps", "3"),
    ],
)
def test_values_of_a_flag_given_twice_are_all_kept(capsys, flags):
    error = _fails(capsys, "nerf", "--data", "synthetic:spheres", *flags)
    assert "first" in error


def test_bad_data_leaves_no_folder_behind(capsys, tmp_path):
    out = tmp_path / "run"
    for data, message in (
        ("synthetic:nowhere", "synthetic scene must be one of"),
        (str(tmp_path / "missing"), "missing: no such folder"),
        (str(tmp_path), "no known format"),
    ):
        error = _fails(capsys, "nerf", "--data", data, "--out", str(out))
        assert message in error.replace("\n", " ")
        assert not out.exists()


def test_unknown_sampler_and_option_are_named(capsys, tmp_path):
    base = ("nerf", "--data", "synthetic:blocks", "--size", "8", "--views", "1")
    base += ("--out", str(tmp_path / "run"))
    assert "no ray sampler 'best'; ray samplers: uniform" in _fails(
        capsys, *base, "--sampler", "best"
    )
    error = _fails(capsys, *base, "--sampler", "error_weighted", "--sampler-option", "speed=1")
    assert "error_weighted has no option speed; its options: decay=" in error.replace("\n", " ")


def test_samplers_that_images_cannot_serve_are_refused_before_any_is_read(capsys, tmp_path):
    words = ("nerf", "--data", str(tmp_path / "missing"), "--sampler", "semantic")
    error = _fails(capsys, *words).replace("\n", " ")
    assert "sampler semantic needs labels, which images do not give: call it from" in error
    assert "docs/samplers.md" in error
    listed = error.partition("ray samplers: ")[2]
    assert "edges" in listed
    assert "semantic" not in listed
    error = _fails(capsys, *words[:-1], "best").replace("\n", " ")
    assert "semantic" not in error


def test_flags_that_a_scene_would_not_read_are_refused(capsys, tmp_path):
    for flags, message in (
        (("--data", "synthetic:blocks", "--holdout", "4"), "--holdout is for folders; "),
        (("--data", str(tmp_path), "--size", "64"), "--size is for synthetic scenes; "),
    ):
        out = tmp_path / "run"
        error = _fails(capsys, "nerf", *flags, "--out", str(out)).replace("\n", " ")
        assert message in error
        assert not out.exists()


def test_unwritable_output_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    words = ("nerf", "--data", "synthetic:blocks", "--size", "8", "--views", "1", "--out")
    error = _fails(capsys, *words, str(tmp_path / "file" / "run"))
    assert "output folder" in error
    assert "file" in error
    if os.getuid():  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        assert "cannot be written to" in _fails(capsys, *words, str(tmp_path / "locked" / "run"))


def test_output_that_holds_a_run_is_refused(capsys, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}))
    words = ("nerf", "--data", "synthetic:blocks", "--out", str(tmp_path))
    assert "already holds a run; continue it with --resume" in _fails(capsys, *words)


def test_debug_shows_the_trace(capsys):
    assert cli.main(["nerf", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


class _DeviceError(RuntimeError):
    """As XLA's errors are."""


@pytest.mark.parametrize(
    "error",
    [
        _DeviceError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."),
        RuntimeError("INTERNAL: failed: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_errors_of_memory_name_what_needs_less(capsys, monkeypatch, error):
    def runs_out(command):
        raise error

    monkeypatch.setattr(nerf_options, "load", runs_out)
    message = _fails(capsys, "nerf", "--data", "synthetic:blocks").replace("\n", " ")
    for knob in ("--rays", "--downscale", "marching.budget=", "loop.rays_per_chunk=", "--envs"):
        assert knob in message
    assert message.count("--rays") == 1
    again = cli.one_line(RuntimeError(cli.one_line(error)))  # as a comparison repeats a worker's
    assert again.count("--rays") == 1
    assert "--rays" not in cli.one_line(RuntimeError("a step failed"))


def test_the_settings_that_need_less_memory_exist():
    sets = ("marching.budget=4096", "loop.rays_per_chunk=64")
    command = NerfCommand(data="x", rays=64, downscale=2.0, set_=sets)
    job = nerf_options.build(command)
    assert (job.train.marching.budget, job.loop.rays_per_chunk) == (4096, 64)
    assert "envs" in MotionCommand.__annotations__
    assert "size" in VoxelsCommand.__annotations__


@pytest.mark.parametrize(
    ("command", "asked", "expected"),
    [
        ("view", None, "false"),
        ("render", None, "false"),
        ("export", None, "false"),
        ("render", "true", "true"),
        ("replay", None, None),
    ],
)
def test_looking_leaves_the_memory_of_gpus_to_a_training(
    capsys, monkeypatch, command, asked, expected
):
    if command == "view":
        pytest.importorskip("viser")
    monkeypatch.setattr(runtime, "_prepared", None)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", asked or "unset")
    if asked is None:
        monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE")
    assert "no such run folder" in _fails(capsys, command, "no/such/run")
    assert os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") == expected
