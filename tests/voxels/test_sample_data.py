"""The sample capture, whose pictures Embree made: reproduced to the byte."""

import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from voxels.formats.map_json import load_map
from voxels.formats.metadata_json import load_views
from voxels.grid import InitialLogits, grid_from_map, harden
from voxels.palette import daylight, lit_colors, terrain_palette
from voxels.rendering.images import RenderConfig, material_image, render


@pytest.fixture(scope="module")
def capture(data_folder):
    folder = pathlib.Path(data_folder) / "voxels/synthetic"
    views = load_views(folder / "datasets/1/metadata.json")
    palette, light = terrain_palette(), daylight()
    block_map, repairs = load_map(folder / "maps/1/map.json", palette.names, is_strict=True)
    assert not repairs
    config = RenderConfig(
        rows=views.rows,
        cols=views.cols,
        shape=block_map.materials.shape,
        scale=block_map.scale,
        near=views.near,
        alpha="hard",
    )
    logits, probs = harden(grid_from_map(block_map, InitialLogits(occupancy=5.0, material=10.0)))
    lit = lit_colors(palette, light)

    sky = jax.numpy.asarray(light.sky)

    @jax.jit
    def draw(logits, probs, view):
        image = render(config, logits, probs, lit, sky, views.cameras, view)
        return image, material_image(config, logits, probs, views.cameras, view)

    expected = np.load(folder / "datasets/1/expected.npz")
    return views, [draw(logits, probs, i) for i in range(4)], expected


@pytest.mark.parametrize("view", range(4))
def test_pictures_equal_the_files_to_the_byte(capture, view):
    views, drawn, expected = capture
    color = np.asarray(drawn[view][0].color)
    picture = np.asarray(Image.open(views.image_paths[view]).convert("RGB"))
    np.testing.assert_array_equal(np.round(255 * color).astype(np.uint8), picture)
    np.testing.assert_allclose(color, expected[f"rgb{view}"], atol=1e-6)


@pytest.mark.parametrize("view", range(4))
def test_geometry_equals_embree(capture, view):
    _, drawn, expected = capture
    image, materials = drawn[view]
    hit = expected[f"alpha{view}"]
    np.testing.assert_array_equal(np.asarray(image.alpha) > 0.5, hit)
    distance = np.where(hit, expected[f"distance{view}"], 0.0)
    np.testing.assert_allclose(np.where(hit, image.distance, 0.0), distance, rtol=3e-6, atol=1e-5)
    assert np.isinf(np.asarray(image.distance)[~hit]).all()
    normals = np.repeat(np.eye(3), 2, axis=0) * np.tile([1, -1], 3)[:, None]
    face = expected[f"face{view}"]
    np.testing.assert_array_equal(np.asarray(image.normal)[hit], normals[face[hit]])
    likeliest = np.where(np.asarray(materials).sum(-1) > 0.5, np.argmax(materials, -1) + 1, 0)
    wanted = expected[f"material{view}"]
    np.testing.assert_array_equal(likeliest[hit], wanted[hit])
