"""The map viewer: which paths it takes, exact colours, and that a browser's page is served."""

import json
import urllib.request

import numpy as np
import pytest

from training.voxels_setup import lighting
from training.voxels_viewer import MapViewer, is_voxels, load_maps, textured_surface
from voxels.block_map import make_map
from voxels.formats.map_json import save_map
from voxels.meshing import face_mesh
from voxels.palette import terrain_palette

NAMES = terrain_palette().names


def small_map():
    materials = np.zeros((3, 3, 3), int)
    materials[0, 0, 0], materials[1, 0, 0], materials[2, 2, 2] = 1, 7, 3
    return make_map(materials, NAMES, 2.0)


def test_every_corner_has_the_lit_colour_of_its_face():
    pytest.importorskip("trimesh")
    lit = np.asarray(lighting(terrain_palette())[0])
    mesh = textured_surface(small_map(), lit)
    image = np.asarray(mesh.visual.material.baseColorTexture)
    rows, cols = image.shape[:2]
    u, v = mesh.visual.uv.T
    colors = image[((1 - v) * rows).astype(int), (u * cols).astype(int)]
    quads = face_mesh(small_map())
    expected = np.round(255 * lit[quads.material - 1, quads.face])
    np.testing.assert_array_equal(colors.reshape(-1, 4, 3)[:, 0], expected)
    assert (colors.reshape(-1, 4, 3) == colors.reshape(-1, 4, 3)[:, :1]).all()


def test_maps_and_runs_are_told_from_other_runs(tmp_path):
    assert is_voxels("some/map.json")
    assert not is_voxels(str(tmp_path))
    for job in ("voxels", "nerf"):
        (tmp_path / "config.json").write_text(json.dumps({"config": {"job": job}}))
        assert is_voxels(str(tmp_path)) == (job == "voxels")


def test_a_map_is_served_to_a_browser(tmp_path):
    pytest.importorskip("viser")
    path = tmp_path / "map.json"
    save_map(path, small_map())
    maps, palette = load_maps(str(path))
    assert palette.names == NAMES
    assert maps["map.json"].num_blocks == 3
    viewer = MapViewer(maps, host="127.0.0.1", port=0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{viewer.port}", timeout=10) as page:
            assert b"<html" in page.read().lower()
    finally:
        viewer.stop()


def test_an_empty_map_cannot_be_shown():
    empty = make_map(np.zeros((2, 2, 2), int), NAMES)
    with pytest.raises(ValueError, match="no blocks"):
        textured_surface(empty, np.asarray(lighting(terrain_palette())[0]))
