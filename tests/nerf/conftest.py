"""One tiny configuration, scene and sampler that the slower tests of the room share."""

import jax
import jax.numpy as jnp
import pytest

from nerf.fields import FieldConfig
from nerf.hash_encoding import HashEncodingConfig
from nerf.marching import MarchingConfig
from nerf.occupancy import OccupancyConfig
from nerf.optimizer import OptimizerConfig
from nerf.spaces import SceneBounds
from nerf.train_step import NerfConfig, TrainData
from samplers import registry
from scenes import analytic, posed_images

TINY = NerfConfig(
    field=FieldConfig(
        encoding=HashEncodingConfig(
            num_levels=4, num_features=2, log2_table_size=12, finest_resolution=64
        ),
        hidden_width=16,
        direction_degree=2,
    ),
    occupancy=OccupancyConfig(resolution=16, cells_per_update=4096),
    marching=MarchingConfig(budget=8192, num_candidates=64),
    optimizer=OptimizerConfig(warmup_steps=2),
    num_steps=200,
    rays_per_step=512,
)


@pytest.fixture(scope="session")
def scene():
    return analytic.posed_images("spheres", num_train=12, num_test=2, size=32, seed=0)


@pytest.fixture(scope="session")
def data(scene):
    train = scene.train
    bounds = SceneBounds(jnp.asarray(train.aabb), jnp.asarray(train.near), jnp.asarray(train.far))
    return TrainData(pixels=posed_images.to_device(train), bounds=bounds)


@pytest.fixture(scope="session")
def sampler(scene):
    return registry.make_ray_sampler(
        "uniform",
        num_views=scene.train.num_views,
        rows=scene.train.rows,
        cols=scene.train.cols,
        batch_size=TINY.rays_per_step,
    )


@pytest.fixture(scope="session")
def run_key():
    return jax.random.key(7)
