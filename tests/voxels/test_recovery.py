"""A hidden world comes back: the whole job, from its flags to its summary."""

import numpy as np
import pytest

from training import run_folder
from training.voxels_command import VoxelsCommand
from voxels.formats.map_json import load_map
from voxels.palette import terrain_palette


@pytest.mark.slow
@pytest.mark.parametrize("guidance", ["target", "mixture"])
def test_a_hidden_world_is_rebuilt_from_eight_views(guidance, tmp_path):
    folder = tmp_path / "run"
    assert VoxelsCommand(guidance=guidance, out=str(folder)).run() == 0
    summary = run_folder.read_json(folder / "summary.json")
    final = summary["final"]
    assert final["visible_right"] >= 0.98
    assert final["export_gap"] >= 35
    assert final["psnr_exported"] >= 35
    exported, repairs = load_map(folder / "map_optimized.json", terrain_palette().names)
    assert exported.num_blocks == final["num_blocks"]
    assert not repairs
    assert np.isfinite([point[2] for point in summary["curve"]]).all()
