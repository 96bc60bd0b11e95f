"""From the flags of `hardlight nerf` to a job, and what a resumed run may not change."""

import dataclasses

from nerf import depth
from scenes.loading import SYNTHETIC
from scenes.posed_images import SceneKind, SplitImages

from . import config_json, nerf_presets, nerf_setup, runtime, sampler_config
from .nerf_command import NerfCommand
from .nerf_config import NerfJob, SceneConfig
from .nerf_presets import PresetName

DEFAULT_SAMPLER = "error_map"
"""Better than uniform or no different wherever it was measured; see docs/adr/0011."""


def scene_config(command: NerfCommand) -> SceneConfig:
    """Says which images the flags ask for."""
    assert command.data is not None
    return _replaced(
        SceneConfig(
            data=command.data,
            longest_side=nerf_presets.longest_side(choose_preset(command.preset)),
        ),
        downscale=command.downscale,
        holdout=command.holdout,
        size=command.size,
        with_depth=True if wants_depth(command) else None,
        depth_scale=command.depth_scale,
        **{"num_train" if command.data.startswith(SYNTHETIC) else "train_views": command.views},
    )


def check_scene_flags(command: NerfCommand) -> None:
    """Refuses flags that the scene would not read.

    Raises:
      ValueError: naming the flag.
    """
    assert command.data is not None
    is_synthetic = command.data.startswith(SYNTHETIC)
    if is_synthetic and command.holdout is not None:
        raise ValueError(
            f"--holdout is for folders; {command.data} renders its held-out views apart"
        )
    if not is_synthetic and command.size is not None:
        raise ValueError(
            f"--size is for synthetic scenes; {command.data} has its own, --downscale divides it"
        )


def wants_depth(command: NerfCommand) -> bool:
    """Whether the flags ask for training with depth."""
    is_set = any(text.removeprefix("train.").startswith("depth.") for text in command.set_)
    return is_set or command.depth not in (None, "plain")


def load(command: NerfCommand) -> SplitImages:
    """Loads the images that the flags ask for, after a look at what is cheaper to get wrong."""
    nerf_setup.check_sampler_name(command.sampler or DEFAULT_SAMPLER)
    build(command)  # wrong settings are refused before images are read
    return nerf_setup.load(scene_config(command))


def build(command: NerfCommand, kind: SceneKind = "bounded") -> NerfJob:
    """Makes the job that the flags ask for.

    Args:
      kind: of the scene; some defaults depend on it.
    Raises:
      ValueError: naming the flag or setting.
    """
    preset = choose_preset(command.preset)
    scene = scene_config(command)
    options = config_json.parse_assignments(command.sampler_option, "--sampler-option")
    job = NerfJob(
        seed=0 if command.seed is None else command.seed,
        scene=scene,
        sampler=sampler_config.typed(command.sampler or DEFAULT_SAMPLER, options),
        train=dataclasses.replace(
            nerf_presets.train_config(preset, kind),
            depth=depth.PRESETS[command.depth or "plain"],
        ),
        loop=_replaced(nerf_presets.loop_config(preset), seconds=command.seconds),
        outputs=nerf_presets.output_config(preset),
    )
    assignments = config_json.parse_assignments(command.set_, "--set", implied="train.")
    values = config_json.to_json(job)
    for name, text in assignments.items():
        section = name.split(".", 1)[0]
        path = name if section in ("loop", "outputs") else f"train.{name}"
        config_json.assign(job, values, path, text)
    train, loop = values["train"], values["loop"]
    train |= {
        name: value
        for name, value in (
            ("rays_per_step", command.rays),
            ("background", command.background),
            ("num_steps", command.steps),
        )
        if value is not None
    }
    is_counted = command.steps is not None or "num_steps" in assignments
    loop["fill_seconds"] |= command.seconds is not None and not is_counted
    for settings, name in ((train, "num_steps"), (loop, "log_every")):
        settings[name] = in_whole_calls(settings[name], train["steps_per_call"])
    return config_json.from_json(NerfJob, values, "")


def in_whole_calls(num_steps: int, steps_per_call: int) -> int:
    """Rounds a number of steps up to whole calls of the step."""
    return -(-num_steps // max(steps_per_call, 1)) * max(steps_per_call, 1)


def choose_preset(name: str | None) -> PresetName:
    """Turns "auto" into the preset for the machine at hand."""
    if name == "cpu" or name == "gpu":
        return name
    return "gpu" if runtime.has_accelerator() else "cpu"


def refuse_changes(command: NerfCommand, job: NerfJob, source: str) -> None:
    """Checks that flags given with --resume agree with the run.

    Raises:
      ValueError: naming the settings that differ.
    """
    sections = (command.preset, command.set_, command.sampler_option)
    wanted = {
        "--sampler": (command.sampler, job.sampler.name),
        "--steps": (command.steps, job.train.num_steps),
        "--seconds": (command.seconds, job.loop.seconds),
        "--rays": (command.rays, job.train.rays_per_step),
        "--seed": (command.seed, job.seed),
        "--background": (command.background, job.train.background),
        "--downscale": (command.downscale, job.scene.downscale),
        "--depth-scale": (command.depth_scale, job.scene.depth_scale),
        "--holdout": (command.holdout, job.scene.holdout),
        "--size": (command.size, job.scene.size),
        "--views": (
            command.views,
            job.scene.num_train if job.scene.data.startswith(SYNTHETIC) else job.scene.train_views,
        ),
        "--depth": (
            command.depth and depth.PRESETS[command.depth],
            dataclasses.replace(job.train.depth, keypoint_rays=0),
        ),
    }
    differing = [
        f"{flag} {asked} (the run has {has})"
        for flag, (asked, has) in wanted.items()
        if asked is not None and asked != has
    ]
    if any(sections):
        differing.append("--preset, --set and --sampler-option belong to a new run")
    if differing:
        raise ValueError(
            f"{source}: a resumed run goes on as it was started; drop " + ", ".join(differing)
        )


def _replaced(config, **changes):
    """Changes the fields whose new value is not None."""
    return dataclasses.replace(
        config, **{name: value for name, value in changes.items() if value is not None}
    )
