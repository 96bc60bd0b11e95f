"""From a job to what its loop works on: robot, clips, environments, sampler, first state."""

import dataclasses
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key
from rich.progress import Progress

from motion import builtin_clips, inverse_dynamics, starts, train_step
from motion.clips import Clip, ClipBank, build_clip_bank
from motion.env import Env, make_env
from motion.formats.clip_files import load_clip
from motion.formats.manifest import load_manifest
from motion.formats.mjcf import load_robot
from motion.robots import Robot
from motion.torque_demand import torque_note
from motion.train_step import TrainState
from samplers import failure_bins
from samplers.base import Sampler
from samplers.device_axis import axis_of

from . import devices, processes
from .motion_config import BUILTIN, MotionJob, MotionSource

_LAST_STARTS = 0.2
"""Seconds before the end of a clip after which no episode starts."""
_LONG = 30.0
"""Seconds of clips whose torques take a while to compute."""
_OF_THE_ROBOT = (
    "body_mass",
    "body_inertia",
    "body_ipos",
    "body_pos",
    "body_quat",
    "geom_size",
    "geom_pos",
    "jnt_range",
    "dof_armature",
    "dof_damping",
    "actuator_gainprm",
    "actuator_biasprm",
    "actuator_forcerange",
)
"""What of a model makes a robot move as it does."""


class LoadedMotion(NamedTuple):
    """What a source holds.

    Attributes:
      held_out: clips of a manifest that are not trained on, each with its split.
    """

    robot: Robot
    clips: tuple[Clip, ...]
    weights: tuple[float, ...]
    splits: tuple[str, ...]
    bank: ClipBank
    notes: tuple[str, ...] = ()
    held_out: "LoadedMotion | None" = None

    @property
    def lengths(self) -> tuple[int, ...]:
        """Frames of each clip at the control rate."""
        return tuple(int(length) for length in np.asarray(self.bank.clip_length))

    @property
    def seconds(self) -> float:
        """Duration of all clips together."""
        return sum(self.lengths) / self.robot.control_rate


class Setup(NamedTuple):
    """A job made ready."""

    job: MotionJob
    loaded: LoadedMotion
    env: Env
    evaluation_env: Env
    sampler: Sampler
    init_key: Key[Array, ""]
    run_key: Key[Array, ""]
    mesh: Mesh | None = None
    """Devices that share the environments."""

    @property
    def horizon(self) -> int:
        """Control steps a start has to survive."""
        return max(1, round(self.job.loop.survival_seconds * self.loaded.robot.control_rate))


def load(source: MotionSource) -> LoadedMotion:
    """Reads or makes the robot and its clips.

    Raises:
      FileNotFoundError, ValueError: naming the file and what is wrong with it.
    """
    robot = load_robot(source.robot)
    found: list[_Found] = []
    for name in source.clips:
        _check_read(source, name)
        if name.startswith(BUILTIN):
            found.append(_Found(builtin_clips.builtin_clip(robot, name.removeprefix(BUILTIN))))
        elif name.endswith(".json"):
            found += [
                _Found(read.clip, entry.weight, entry.split, read.notes)
                for entry, read in load_manifest(name, robot)
            ]
        else:
            read = load_clip(name, robot, source.read)
            found.append(_Found(read.clip, notes=read.notes))
    known = [one.clip.name for one in found]
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise ValueError(
            f"two clips are called {twice[0]}; reports tell clips apart by their names"
        )
    held_out = [one for one in found if one.split != "train"]
    return _together(robot, [one for one in found if one.split == "train"])._replace(
        notes=tuple(note for one in found for note in (*one.notes, *_too_hard(robot, one.clip))),
        held_out=_together(robot, held_out) if held_out else None,
    )


def _too_hard(robot: Robot, clip: Clip) -> tuple[str, ...]:
    note = torque_note(robot, clip)
    return () if note is None else (note,)


class _Found(NamedTuple):
    clip: Clip
    weight: float = 1.0
    split: str = "train"
    notes: tuple[str, ...] = ()


def _together(robot: Robot, found: list[_Found]) -> LoadedMotion:
    clips = tuple(one.clip for one in found)
    return LoadedMotion(
        robot,
        clips,
        weights=tuple(one.weight for one in found),
        splits=tuple(one.split for one in found),
        bank=build_clip_bank(robot, clips, control_rate=robot.control_rate),
    )


def _with_targets(loaded: LoadedMotion) -> LoadedMotion:
    if loaded.bank.target is not None:
        return loaded
    is_shown = loaded.seconds > _LONG and processes.is_first()
    with Progress(disable=not is_shown, transient=True) as progress:
        task = progress.add_task("torques of the clips", total=sum(loaded.lengths))
        bank = inverse_dynamics.with_targets(
            loaded.robot, loaded.bank, loaded.clips, on_frame=lambda: progress.advance(task)
        )
    held_out = loaded.held_out
    return loaded._replace(
        bank=bank, held_out=None if held_out is None else _with_targets(held_out)
    )


def _check_read(source: MotionSource, name: str) -> None:
    """Refuses options that a clip does not read."""
    read = source.read
    kind = Path(name).suffix.lower()
    is_whole = name.startswith(BUILTIN) or kind == ".json"
    for flag, value, endings in (
        ("--fps", read.fps, (".csv", ".npz", ".txt")),
        ("--quaternion-order", read.quaternion_order, (".csv",)),
        ("--joint-order", read.joint_order, (".npz",)),
    ):
        if value is not None and (is_whole or kind not in endings):
            raise ValueError(
                f"{flag} means nothing for {name}; it is for {', '.join(endings)} files"
            )


def prepare(job: MotionJob, loaded: LoadedMotion | None = None, mesh: Mesh | None = None) -> Setup:
    """Makes environments and sampler.

    Args:
      mesh: devices that share the environments; None: one.
    Raises:
      FileNotFoundError, ValueError: naming the file, the sampler or its option, or what cannot be
        split over the devices.
    """
    axis = axis_of(mesh)
    if mesh is not None and job.physics != "mjx":
        raise ValueError(
            f"--devices {axis.size} needs --physics mjx, got {job.physics}: it uses one device"
        )
    rows = axis.share_of(job.num_envs, "environments (--envs)") * job.train.num_steps
    if rows % job.train.ppo.num_minibatches:
        raise ValueError(
            f"{job.num_envs} environments x {job.train.num_steps} steps do not divide into "
            f"{job.train.ppo.num_minibatches} minibatches on each of {axis.size} devices"
        )
    loaded = load(job.source) if loaded is None else loaded
    if job.env.action_centre == "feedforward":
        loaded = _with_targets(loaded)
    env = make_env(loaded.robot, job.env, num_envs=job.num_envs, physics=job.physics)
    calm = job.env.calm()
    evaluation_env = make_env(loaded.robot, calm, num_envs=job.loop.num_starts, physics=job.physics)
    rate = loaded.robot.control_rate
    sampler = starts.make_start_sampler(
        job.sampler.name,
        clip_frames=loaded.lengths,
        batch_size=job.num_envs,
        frames_per_bin=job.bin_seconds * rate,
        horizon_frames=job.env.episode_steps(rate),
        end_margin=round(_LAST_STARTS * rate),
        options=job.sampler.as_dict(),
    )
    if mesh is not None:
        counted = dataclasses.replace(sampler.config, axis_name=axis.name)
        sampler = failure_bins.make(counted)
    if job.sampler.name == starts.MANUAL:
        options = job.sampler.as_dict()
        sampler = starts.with_fixed_starts(sampler, rate, options, loaded.weights)
    elif len(set(loaded.weights)) > 1:
        sampler = starts.with_clip_weights(sampler, loaded.weights)
    init_key, run_key = jax.random.split(jax.random.key(job.seed))
    return Setup(job, loaded, env, evaluation_env, sampler, init_key, run_key, mesh)


def first_state(setup: Setup) -> TrainState:
    """The state before the first iteration."""
    state = train_step.init_state(
        setup.job.train, setup.env, setup.sampler, setup.init_key, setup.loaded.bank
    )
    return place_state(setup, state)


def place_state(setup: Setup, state: TrainState) -> TrainState:
    """Puts a state of one device, the first process's, where the steps want it."""
    return devices.spread_from_first(state, setup.mesh, train_step.STATE_SPECS)


def make_step(setup: Setup) -> Any:
    """A function from a state, which it uses up, to the next and its metrics."""
    rows = starts.rows_of(setup.job.sampler.name)
    whole = train_step.make_train_step(setup.job.train, setup.env, setup.sampler, rows, setup.mesh)
    run_key, bank = devices.spread((setup.run_key, setup.loaded.bank), setup.mesh)
    return lambda state: whole(run_key, bank, state)


def fingerprint(loaded: LoadedMotion) -> dict[str, Any]:
    """Sizes and checksums, to tell whether a resumed run sees the same robot and motions."""
    found = {
        "robot": loaded.robot.name,
        "clips": [clip.name for clip in loaded.clips],
        "weights": list(loaded.weights),
        "splits": list(loaded.splits),
        "frames": list(loaded.lengths),
        "crc32": zlib.crc32(np.asarray(loaded.bank.qpos).tobytes()),
        "crc32_of_the_robot": _checksum_of(loaded.robot),
    }
    if loaded.held_out is not None:
        found["held_out"] = fingerprint(loaded.held_out)
    return found


def _checksum_of(robot: Robot) -> int:
    """Of all that makes it move as it does."""
    model, checksum = robot.model, 0
    parts = [getattr(model, name) for name in _OF_THE_ROBOT]
    values = (getattr(robot, field.name) for field in dataclasses.fields(robot))
    parts += [value for value in values if isinstance(value, np.ndarray)]
    for part in parts:
        checksum = zlib.crc32(np.ascontiguousarray(part).tobytes(), checksum)
    return checksum
