"""Masks of the images reach the samplers that know masks."""

import dataclasses

import jax
import numpy as np
import pytest

from samplers.pixels import pixel_indices
from training import nerf_setup
from training.sampler_config import SamplerConfig, SamplerOption

from .conftest import TINY


def test_masked_pixels_are_never_drawn():
    scene = nerf_setup.load(TINY.scene)
    views, rows, cols = scene.train.images.shape[:3]
    masks = np.zeros((views, rows, cols), bool)
    masks[:, : rows // 2] = True
    masked = scene._replace(train=scene.train._replace(masks=masks))
    job = dataclasses.replace(
        TINY, sampler=dataclasses.replace(TINY.sampler, name="error_weighted")
    )
    setup = nerf_setup.prepare(job, masked)
    state = nerf_setup.first_state(setup)
    shapes = nerf_setup.state_shapes(setup)
    assert jax.tree.structure(state) == jax.tree.structure(shapes)
    for seed in range(5):
        draw = setup.sampler.sample(jax.random.key(seed), state.sampler)
        pixels = pixel_indices(draw.items, rows, cols)
        assert np.all(np.asarray(pixels.row) < rows // 2)


def test_patches_that_masks_leave_nothing_of_are_refused_before_training():
    scene = nerf_setup.load(TINY.scene)
    masks = np.ones(scene.train.images.shape[:3], bool)
    masks[:, ::4, ::4] = False
    masked = scene._replace(train=scene.train._replace(masks=masks))
    options = (SamplerOption(name="patch", value=True), SamplerOption(name="tile", value=4))
    job = dataclasses.replace(TINY, sampler=SamplerConfig(name="spatial", options=options))
    with pytest.raises(ValueError, match="leaves no whole tile of 4 x 4"):
        nerf_setup.prepare(job, masked)
