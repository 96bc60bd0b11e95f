"""Fixtures of the scenes room: sample data, and small scenes written to disk."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenes import analytic
from scenes.posed_images import PosedImages, SplitImages


@pytest.fixture(scope="session")
def sample(data_folder: str) -> Callable[[str], Path]:
    """Finds a folder of the sample data, or skips."""

    def find(name: str) -> Path:
        folder = Path(data_folder) / "nerf" / name
        if not folder.exists():
            pytest.skip(f"the sample data has no nerf/{name}")
        return folder

    return find


@pytest.fixture(scope="session")
def tiny() -> SplitImages:
    """A small analytic scene."""
    return analytic.posed_images("blocks", num_train=3, num_test=2, num_val=2, size=24, seed=5)


def write_blender_split(folder: Path, split: str, posed: PosedImages) -> None:
    """Writes one split as Blender does."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    frames = []
    for index, image in enumerate(posed.images):
        Image.fromarray(image).save(folder / split / f"r_{index}.png")
        pose = np.asarray(posed.cameras.camera_to_world[index], np.float64).tolist()
        frames.append({"file_path": f"./{split}/r_{index}", "transform_matrix": pose})
    values = {"camera_angle_x": analytic.FIELD_OF_VIEW, "frames": frames}
    (folder / f"transforms_{split}.json").write_text(json.dumps(values))


@pytest.fixture
def blender_folder(tmp_path: Path, tiny: SplitImages) -> Path:
    """The small scene in Blender's format."""
    folder = tmp_path / "scene"
    write_blender_split(folder, "train", tiny.train)
    write_blender_split(folder, "test", tiny.test)
    assert tiny.val is not None
    write_blender_split(folder, "val", tiny.val)
    return folder
