"""A run small enough for tests: two levels, three views of 16 x 16 pixels, 24 steps."""

import dataclasses

import pytest

from nerf.fields import FieldConfig
from nerf.hash_encoding import HashEncodingConfig
from nerf.marching import MarchingConfig
from nerf.occupancy import OccupancyConfig
from nerf.train_step import NerfConfig
from training import nerf_job, nerf_setup
from training.nerf_config import LoopConfig, NerfJob, OutputConfig, SceneConfig
from training.nerf_evaluation import Evaluator
from training.sampler_config import SamplerConfig

TINY = NerfJob(
    seed=3,
    scene=SceneConfig(data="synthetic:spheres", num_train=3, num_test=2, size=16),
    sampler=SamplerConfig(name="error_weighted"),
    train=NerfConfig(
        field=FieldConfig(
            encoding=HashEncodingConfig(
                num_levels=2,
                num_features=2,
                log2_table_size=8,
                base_resolution=4,
                finest_resolution=8,
            ),
            hidden_width=8,
            color_layers=1,
            num_geometry_features=3,
            direction_degree=2,
        ),
        occupancy=OccupancyConfig(resolution=8, cells_per_update=64),
        marching=MarchingConfig(budget=1024, num_candidates=32),
        num_steps=24,
        rays_per_step=64,
        occupancy_every=4,
    ),
    loop=LoopConfig(
        log_every=4,
        checkpoint_seconds=1e-6,
        num_evaluations=3,
        first_evaluation=1 / 6,
        eval_rays=256,
        rays_per_chunk=256,
    ),
    outputs=OutputConfig(num_pictures=1, video_frames=2, video_size=16),
)


@pytest.fixture(scope="session")
def tiny_job() -> NerfJob:
    """The small job."""
    return TINY


@pytest.fixture(scope="session")
def shared() -> nerf_job.Shared:
    """Its scene and its compiled programs, made once for all tests."""
    scene = nerf_setup.load(TINY.scene)
    return nerf_job.Shared(
        scene=scene, evaluator=Evaluator(nerf_setup.prepare(TINY, scene)), steps={}
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory, shared):
    """A finished run: its folder and its summary."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    summary = nerf_job.start(TINY, out=str(folder), shared=shared)
    return folder, summary


def without_video(job: NerfJob) -> NerfJob:
    """The job with as little output as possible."""
    return dataclasses.replace(job, outputs=OutputConfig(num_pictures=0, video_frames=0))
