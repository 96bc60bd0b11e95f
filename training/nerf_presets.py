"""Settings by machine: what a radiance-field run does unless a flag says otherwise."""

import dataclasses
from typing import Literal

from nerf.fields import FieldConfig
from nerf.hash_encoding import HashEncodingConfig
from nerf.marching import MarchingConfig
from nerf.occupancy import OccupancyConfig
from nerf.train_step import NerfConfig
from scenes.posed_images import SceneKind

from .nerf_config import LoopConfig, OutputConfig

PresetName = Literal["cpu", "gpu"]


def train_config(preset: PresetName, kind: SceneKind = "bounded") -> NerfConfig:
    """The field, its renderer and its optimiser.

    "cpu" is made for minutes on two cores; "gpu" is the recipe of Mueller et al. 2022 as
    published comparisons run it: 20,000 steps of 2^18 samples. In photographs most of a ray is
    never empty, so on CPU their rays are fewer and have more samples each. In unbounded scenes
    samples are placed where the field absorbs light, and what is near a camera learns less. The
    tables of photographs decay, which keeps views from explaining themselves by haze.
    """
    config = NerfConfig() if preset == "cpu" else _gpu()
    if kind != "bounded" and preset == "cpu":
        config = dataclasses.replace(config, rays_per_step=1024)
    if kind != "bounded":
        optimizer = dataclasses.replace(config.optimizer, table_decay=0.1)
        config = dataclasses.replace(config, optimizer=optimizer)
    if kind == "unbounded":
        marching = dataclasses.replace(config.marching, num_coarse=32, near_gradients=0.5)
        config = dataclasses.replace(config, marching=marching)
    return config


def _gpu() -> NerfConfig:
    return NerfConfig(
        field=FieldConfig(
            encoding=HashEncodingConfig(
                num_levels=16,
                num_features=2,
                log2_table_size=19,
                base_resolution=16,
                finest_resolution=2048,
            ),
            hidden_width=64,
            precision="bfloat16",
        ),
        occupancy=OccupancyConfig(resolution=128, cells_per_update=262144),
        marching=MarchingConfig(budget=262144, num_candidates=1024),
        num_steps=20000,
        rays_per_step=8192,
        steps_per_call=16,
    )


def loop_config(preset: PresetName) -> LoopConfig:
    """How often to log, and how much to render at a time."""
    if preset == "cpu":
        return LoopConfig()
    return LoopConfig(log_every=64, eval_rays=2**20, rays_per_chunk=65536)


def longest_side(preset: PresetName) -> int:
    """To what size photographs are reduced unless the user says."""
    return 640 if preset == "cpu" else 1600


def output_config(preset: PresetName) -> OutputConfig:
    """How much to render at the end."""
    if preset == "cpu":
        return OutputConfig()
    return OutputConfig(num_pictures=8, video_frames=120, video_size=800)
