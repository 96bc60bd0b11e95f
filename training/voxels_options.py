"""From the flags of `hardlight voxels` to a job."""

import dataclasses

from voxels.guidance.distillation import DistillationConfig
from voxels.losses import LossWeights
from voxels.rendering.images import RenderConfig
from voxels.rendering.planning import march_backend
from voxels.train_step import TrainConfig

from . import config_json, sampler_config, voxels_setup
from .voxels_command import VoxelsCommand
from .voxels_config import (
    TEXT_GUIDES,
    GuidanceConfig,
    Share,
    Stacking,
    VoxelsJob,
    VoxelsLoop,
    Wishes,
    WorldSource,
)

_TINY_SCALE = 4.0
# a search from fog begins a second time from what it found; shorter runs have nothing to begin from
_SEARCH_STEPS, _RESTARTS, _LEAST_STEPS_TO_RESTART = 1200, (0.6,), 400
_READERS = {
    "spread": ("mixture",),
    "distillation": ("mixture", "tiny"),
    "weights": TEXT_GUIDES,
    "unet": ("sdxl",),
    "sdxl": ("sdxl",),
}
"""Which guides read a setting of the guidance section; all read those that are not here."""


def build(command: VoxelsCommand) -> VoxelsJob:
    """Makes the job that the flags ask for; sizes come from the files it names.

    Raises:
      FileNotFoundError, ValueError: naming the file, flag or setting.
    """
    assignments = config_json.parse_assignments(command.set_, "--set", implied="train.")
    plain = WorldSource()
    guide = command.guidance or "target"
    is_text = guide in TEXT_GUIDES
    source = WorldSource(
        map=command.map,
        palette=command.palette,
        cameras=command.cameras,
        start="fog" if command.map is None and not is_text else "map",
        num_views=plain.num_views if command.views is None else command.views,
        size=plain.size if command.size is None else command.size,
        seed=command.seed or 0,
    )
    of_world = {
        name.removeprefix("world."): text
        for name, text in assignments.items()
        if name.startswith("world.")
    }
    source = config_json.replace_fields(source, of_world)
    loaded = voxels_setup.load(source)
    rows, cols = loaded.rows, loaded.cols
    render = RenderConfig(
        rows=rows,
        cols=cols,
        shape=loaded.shape,
        scale=loaded.scale,
        near=loaded.near,
        has_geometry=False,
        backend=march_backend(),
    )
    wishes = _wishes(command)
    # wishes count what is likely; cells that no picture shows must come to be something for them
    losses = LossWeights(
        distribution=1.0 if wishes.shares else 0.0,
        adjacency=1.0 if wishes.stackings else 0.0,
        material_entropy=0.5 if wishes != Wishes() else 0.0,
    )
    train = TrainConfig(render=render, losses=losses)
    steps = _asked_steps(command, assignments)
    if source.start == "fog" and (steps or _SEARCH_STEPS) >= _LEAST_STEPS_TO_RESTART:
        # the rate is held: a logit at its bound has far to go where it changes sides late
        train = dataclasses.replace(
            train,
            num_steps=_SEARCH_STEPS,
            restarts=_RESTARTS,
            final_learning_rate=train.learning_rate,
        )
    if steps is not None and steps > 0:
        train = dataclasses.replace(train, num_steps=steps)
    options = config_json.parse_assignments(command.sampler_option, "--sampler-option")
    job = VoxelsJob(
        seed=command.seed or 0,
        world=source,
        guidance=GuidanceConfig(
            name=guide,
            prompt=command.prompt or "",
            distillation=DistillationConfig(guidance_scale=_TINY_SCALE if guide == "tiny" else 1.0),
        ),
        sampler=sampler_config.typed(command.sampler or "views_rounds", options),
        views_per_step=min(4, loaded.num_views),
        wishes=wishes,
        train=train,
        loop=VoxelsLoop(),
    )
    own = ("guidance", "loop", "views_per_step")
    others = {
        name if name.split(".", 1)[0] in own else f"train.{name}": text
        for name, text in assignments.items()
        if not name.startswith("world.")
    }
    job = config_json.replace_fields(job, others)
    _refuse_unread(job.guidance, assignments)
    if "learning_rate" in assignments and "final_learning_rate" not in assignments:
        rate = job.train.learning_rate * train.final_learning_rate / train.learning_rate
        job = dataclasses.replace(
            job, train=dataclasses.replace(job.train, final_learning_rate=rate)
        )
    return job


def _asked_steps(command: VoxelsCommand, assignments: dict[str, str]) -> int | None:
    """The length of the run by --set or --steps; None where neither says it, or not as a number."""
    if "num_steps" not in assignments:
        return command.steps
    steps = config_json.parse_value(assignments["num_steps"])
    return steps if type(steps) is int else None


def _refuse_unread(guidance: GuidanceConfig, assignments: dict[str, str]) -> None:
    """Refuses settings that the guide of the run does not read."""
    for name in assignments:
        section, _, setting = name.partition(".")
        readers = _READERS.get(setting.partition(".")[0], (guidance.name,))
        if section == "guidance" and guidance.name not in readers:
            raise ValueError(f"{name} is read by {' and '.join(readers)}, not by {guidance.name}")
    if "guidance.sdxl.prompt" in assignments:
        raise ValueError("guidance.sdxl.prompt follows from --prompt")
    variant = guidance.sdxl.variant
    is_set = "guidance.sdxl.variant" in assignments
    if is_set and guidance.unet is not None and variant != "residual":
        raise ValueError(
            f"guidance.sdxl.variant follows from guidance.unet: residual, got {variant}"
        )


def _wishes(command: VoxelsCommand) -> Wishes:
    shares = config_json.parse_assignments(command.want, "--want")
    stackings = config_json.parse_assignments(command.stack, "--stack")
    pairs = []
    for pair, text in stackings.items():
        below, slash, above = pair.partition("/")
        if not (slash and below and above):
            raise ValueError(f"--stack {pair}={text}: needed BELOW/ABOVE=REWARD")
        pairs.append(Stacking(below=below, above=above, reward=_number("--stack", pair, text)))
    return Wishes(
        shares=tuple(
            Share(material=name, share=_number("--want", name, text))
            for name, text in shares.items()
        ),
        stackings=tuple(pairs),
    )


def _number(flag: str, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{flag} {name}={text}: not a number") from None
