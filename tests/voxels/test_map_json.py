"""map.json: what is written comes back, what is broken is counted or refused by name."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxels.block_map import make_map
from voxels.formats.map_json import load_map, map_document, parse_map, save_map
from voxels.palette import terrain_palette

NAMES = terrain_palette().names


def document(blocks, **more):
    config = {"dimensions": {"x": 2, "y": 3, "z": 4}, "worldScale": 2.0}
    return {"blocks": blocks, "worldConfig": config, **more}


def block(x, y, z, kind="Stone"):
    return {"position": [x, y, z], "blockType": kind}


@given(
    hnp.arrays(np.int16, (3, 2, 4), elements=st.integers(0, len(NAMES))),
    st.floats(0.25, 8.0, allow_nan=False),
)
def test_export_reads_back_to_the_same_map_without_repair(materials, scale):
    before = make_map(materials, NAMES, scale)
    after, repairs = parse_map(json.loads(json.dumps(map_document(before))), NAMES)
    np.testing.assert_array_equal(after.materials, before.materials)
    assert after.scale == before.scale
    assert not repairs


def test_files_round_trip(tmp_path):
    before = make_map(np.arange(8).reshape(2, 2, 2), NAMES, 2.0)
    save_map(tmp_path / "map.json", before, metadata={"prompt": "a hill"})
    after, _ = load_map(tmp_path / "map.json", NAMES, is_strict=True)
    np.testing.assert_array_equal(after.materials, before.materials)


@pytest.mark.parametrize(
    ("config", "top", "scale"),
    [({"worldScale": 3.0}, {}, 3.0), ({}, {"worldScale": 4.0}, 4.0), ({}, {}, 2.0)],
)
def test_both_spellings_of_the_scale_are_read(config, top, scale):
    config["dimensions"] = {"x": 1, "y": 1, "z": 1}
    read, repairs = parse_map({"blocks": [], "worldConfig": config, **top}, NAMES)
    assert read.scale == scale
    assert repairs.is_scale_assumed == (not config.get("worldScale") and not top)


def test_repairs_are_counted():
    blocks = [block(0, 0, 0), block(0, 0, 0, "Grass"), block(9, 0, 0), block(-1, 0, 0)]
    blocks += [block(1, 0, 0, "Lava"), block(1, 1, 0, "Air")]
    read, repairs = parse_map(document(blocks, surprise=1), NAMES)
    assert repairs.unknown == {"Lava": 1}
    assert (repairs.outside, repairs.repeated, repairs.explicit_air) == (2, 1, 1)
    assert read.num_blocks == 1
    assert NAMES[read.materials[0, 0, 0] - 1] == "Grass"
    assert "Lava (1)" in repairs.describe()


def test_size_is_inferred_from_positions_when_missing():
    read, repairs = parse_map({"blocks": [block(1, 4, 2)], "worldScale": 1.0}, NAMES)
    assert read.materials.shape == (2, 5, 3)
    assert repairs.is_size_inferred


def test_aliases_rename_blocks():
    blocks = [block(0, 0, 0, "granite"), block(0, 1, 0, "void")]
    aliases = {"granite": "Stone", "void": "Air"}
    read, repairs = parse_map(document(blocks), NAMES, aliases=aliases)
    assert read.num_blocks == 1
    assert not repairs
    with pytest.raises(ValueError, match='alias "granite" points to "Rock"'):
        parse_map(document(blocks), NAMES, aliases={"granite": "Rock"})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ([], "JSON object"),
        ({"blocks": 3}, '"blocks" must be a list'),
        (document([{"position": [0, 0, 0]}]), r"blocks\[0\] needs"),
        (document([{"position": [0, 0.5, 0], "blockType": "Dirt"}]), r"blocks\[0\].position"),
        (document([{"position": [0, True, 0], "blockType": "Dirt"}]), r"blocks\[0\].position"),
        ({"blocks": []}, "dimensions"),
        ({"blocks": [], "worldConfig": {"dimensions": {"x": 0, "y": 1, "z": 1}}}, "positive"),
        (document([], worldScale=5.0), "differ"),
        ({"blocks": [block(0, 0, 0)], "worldScale": float("nan")}, "positive number"),
    ],
)
def test_what_cannot_be_mended_is_refused_by_name(broken, message):
    with pytest.raises(ValueError, match=message):
        parse_map(broken, NAMES)


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "map.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"map\.json: not valid JSON"):
        load_map(path, NAMES)
    path.write_text(json.dumps(document([block(0, 0, 0, "Lava")])))
    with pytest.raises(ValueError, match=r"map\.json: 1 blocks of unknown type"):
        load_map(path, NAMES, is_strict=True)
    with pytest.raises(FileNotFoundError):
        load_map(tmp_path / "none.json", NAMES)
