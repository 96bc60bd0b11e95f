"""Schematics, .vox and meshes: third-party readers see what we wrote, and we what they wrote."""

import pathlib

import numpy as np
import pytest

from voxels.block_map import exposed_faces, make_map
from voxels.formats.any_map import WRITABLE, load_any_map, save_any_map
from voxels.formats.blocks import (
    LEGACY_ID_OF_MATERIAL,
    MATERIAL_OF_LEGACY_ID,
    MINECRAFT_OF_MATERIAL,
    material_of,
)
from voxels.formats.magica_voxel import default_palette, load_vox, map_from_vox, save_vox
from voxels.formats.mesh import MESH_ENDINGS, save_mesh
from voxels.formats.schematic import _from_varints, load_schematic, save_schematic
from voxels.meshing import face_mesh
from voxels.palette import AIR, terrain_palette

PALETTE = terrain_palette()


@pytest.fixture
def world():
    random = np.random.default_rng(2)
    return make_map(
        random.integers(0, 8, (4, 3, 5)) * (random.random((4, 3, 5)) < 0.6), PALETTE.names
    )


def test_block_tables_are_consistent():
    for name in PALETTE.names:
        assert material_of(MINECRAFT_OF_MATERIAL[name]) == name
        assert MATERIAL_OF_LEGACY_ID[LEGACY_ID_OF_MATERIAL[name]] == name
    allowed = {*PALETTE.names, AIR}
    assert set(MATERIAL_OF_LEGACY_ID.values()) <= allowed
    assert material_of("minecraft:spruce_planks") == "Plank"
    assert material_of("minecraft:water[level=0]") == "Water"
    assert material_of("minecraft:torch") == AIR
    assert material_of("create:shaft") is None


@pytest.mark.parametrize("name", ["world.schem", "world.schematic", "x.SCHEM", "x.Schematic"])
def test_schematics_round_trip(tmp_path, world, name):
    pytest.importorskip("nbtlib")
    save_schematic(tmp_path / name, world)
    read, repairs = load_schematic(tmp_path / name, PALETTE.names)
    np.testing.assert_array_equal(read.materials, world.materials)
    assert not repairs


def test_nbtlib_reads_our_schem_in_the_documented_order(tmp_path, world):
    nbtlib = pytest.importorskip("nbtlib")
    save_schematic(tmp_path / "world.schem", world)
    root = nbtlib.load(tmp_path / "world.schem")
    names = {int(v): str(k) for k, v in root["Palette"].items()}
    width, length = int(root["Width"]), int(root["Length"])
    for (x, y, z), material in np.ndenumerate(world.materials):
        number = int(root["BlockData"][(y * length + z) * width + x])
        expected = MINECRAFT_OF_MATERIAL[PALETTE.names[material - 1]] if material else "air"
        assert names[number] == f"minecraft:{expected}"


def test_nbtlib_reads_our_schematic_in_the_documented_order(tmp_path, world):
    nbtlib = pytest.importorskip("nbtlib")
    save_schematic(tmp_path / "world.schematic", world)
    root = nbtlib.load(tmp_path / "world.schematic")
    assert str(root["Materials"]) == "Alpha"
    width, length = int(root["Width"]), int(root["Length"])
    assert len(root["Data"]) == len(root["Blocks"]) == world.materials.size
    for (x, y, z), material in np.ndenumerate(world.materials):
        number = int(root["Blocks"][(y * length + z) * width + x])
        assert number == (LEGACY_ID_OF_MATERIAL[PALETTE.names[material - 1]] if material else 0)


def test_we_read_what_mcschematic_writes(tmp_path):
    pytest.importorskip("nbtlib")
    mcschematic = pytest.importorskip("mcschematic")
    other = mcschematic.MCSchematic()
    for position, block in {
        (0, 0, 0): "stone",
        (2, 1, 3): "sand",
        (1, 0, 2): "magma_block",
    }.items():
        other.setBlock(position, f"minecraft:{block}")
    other.save(str(tmp_path), "other", mcschematic.Version.JE_1_16_5)
    read, repairs = load_schematic(tmp_path / "other.schem", PALETTE.names)
    assert PALETTE.names[read.materials[0, 0, 0] - 1] == "Stone"
    assert PALETTE.names[read.materials[2, 1, 3] - 1] == "Sand"
    assert repairs.unknown == {"minecraft:magma_block": 1}


def test_variable_length_numbers():
    data = np.array([0x05, 0x80, 0x01, 0xFF, 0xFF, 0x03], np.uint8)
    np.testing.assert_array_equal(_from_varints(data), [5, 128, 65535])
    with pytest.raises(ValueError, match="middle"):
        _from_varints(np.array([0x80], np.uint8))


def test_broken_schematics_are_refused(tmp_path, world):
    pytest.importorskip("nbtlib")
    (tmp_path / "bad.schem").write_bytes(b"not nbt at all")
    with pytest.raises(ValueError, match=r"bad\.schem: not an NBT file"):
        load_schematic(tmp_path / "bad.schem", PALETTE.names)
    with pytest.raises(FileNotFoundError):
        load_schematic(tmp_path / "none.schem", PALETTE.names)
    with pytest.raises(ValueError, match="ends in"):
        save_schematic(tmp_path / "world.zip", world)


def test_sample_schematics_are_understood(data_folder):
    pytest.importorskip("nbtlib")
    folder = pathlib.Path(data_folder) / "voxels/schematics"
    house, repairs = load_schematic(folder / "smallhouse1.schem", PALETTE.names)
    assert house.materials.shape == (21, 28, 20)
    assert sum(repairs.unknown.values()) < 0.01 * house.num_blocks
    assert house.num_blocks > 1000
    viking, repairs = load_schematic(folder / "viking-house1.schematic", PALETTE.names)
    assert viking.materials.shape == (23, 35, 23)
    assert not repairs.unknown
    # ids 2 and 3 of the file are grass and dirt
    counts = np.bincount(viking.materials.ravel(), minlength=8)
    assert counts[1 + PALETTE.names.index("Grass")] == 292
    assert counts[1 + PALETTE.names.index("Dirt")] == 97
    with pytest.raises(ValueError, match="not a schematic"):
        load_schematic(folder / "bigtest.nbt", PALETTE.names)


def test_vox_round_trips_through_its_palette(tmp_path, world):
    save_vox(tmp_path / "world.vox", world, PALETTE)
    scene = load_vox(tmp_path / "world.vox")
    np.testing.assert_array_equal(map_from_vox(scene, PALETTE).materials, world.materials)


def test_third_party_reads_our_vox(tmp_path, world):
    parser = pytest.importorskip("pyvox.parser")
    save_vox(tmp_path / "world.vox", world, PALETTE)
    model = parser.VoxParser(str(tmp_path / "world.vox")).parse().models[0]
    depth = world.materials.shape[2]
    assert tuple(model.size) == (4, 5, 3)
    read = {(v.x, v.z, depth - 1 - v.y): v.c for v in model.voxels}
    expected = {
        tuple(map(int, c)): int(world.materials[tuple(c)]) for c in np.argwhere(world.is_solid)
    }
    assert read == expected


def test_sample_vox_is_read(data_folder):
    scene = load_vox(pathlib.Path(data_folder) / "voxels/vox/3x3x3.vox")
    assert scene.colors.shape == (3, 3, 3)
    assert (scene.colors > 0).sum() == 20
    np.testing.assert_array_equal(scene.palette, default_palette())
    assert map_from_vox(scene, PALETTE).num_blocks == 20


def test_the_default_palette_is_the_one_others_read():
    theirs = pytest.importorskip("pyvox.defaultpalette").default_palette
    # they hold 0xAABBGGRR by number
    expected = np.array(theirs, "<u4").view(np.uint8).reshape(256, 4)[1:]
    np.testing.assert_array_equal(default_palette(), expected)


@pytest.mark.parametrize("data", [b"", b"VOX \x96\0\0\0", b"VOX \x96\0\0\0MAIN\0\0\0\0\xff\0\0\0"])
def test_broken_vox_files_are_refused(tmp_path, data):
    (tmp_path / "bad.vox").write_bytes(data)
    with pytest.raises(ValueError, match=r"bad\.vox: not a readable"):
        load_vox(tmp_path / "bad.vox")


def test_merged_faces_cover_exposed_faces_once(world):
    exposed = exposed_faces(world.materials)
    merged, single = face_mesh(world), face_mesh(world, is_merged=False)
    assert len(single.face) == exposed.sum()
    assert len(merged.face) < len(single.face)
    for face in range(6):
        areas = []
        for mesh in (merged, single):
            corners = mesh.corners[mesh.face == face]
            sides = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1]
            areas.append(np.linalg.norm(np.cross(*sides), axis=-1).sum())
        assert areas[0] == areas[1]


def test_faces_are_wound_outwards(world):
    mesh = face_mesh(world)
    across = mesh.corners[:, 1] - mesh.corners[:, 0], mesh.corners[:, 2] - mesh.corners[:, 0]
    normals = np.cross(*across)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    expected = np.repeat(np.eye(3), 2, axis=0) * np.tile([1, -1], 3)[:, None]
    np.testing.assert_allclose(normals, expected[mesh.face], atol=1e-12)


@pytest.mark.parametrize("ending", MESH_ENDINGS)
def test_every_mesh_is_one_file_through_the_door_for_maps(tmp_path, world, ending):
    trimesh = pytest.importorskip("trimesh")
    assert ending in WRITABLE
    path = tmp_path / f"world{ending}"
    save_any_map(path, world, PALETTE)
    assert list(tmp_path.iterdir()) == [path]
    moved = path.rename(tmp_path / f"moved{ending}")
    assert trimesh.load(moved, force="mesh").area > 0


@pytest.mark.parametrize("ending", ["glb", "gltf", "ply", "OBJ"])
def test_trimesh_reads_back_area_bounds_and_volume(tmp_path, ending):
    trimesh = pytest.importorskip("trimesh")
    blocks = np.zeros((3, 2, 2), int)
    blocks[:2, 0, :] = 3
    blocks[0, 1, 0] = 1
    count = save_mesh(tmp_path / f"world.{ending}", make_map(blocks, PALETTE.names, 2.0), PALETTE)
    mesh = trimesh.load(tmp_path / f"world.{ending}", force="mesh")
    assert len(mesh.faces) == 2 * count
    np.testing.assert_allclose(mesh.area, 20 * 4)
    np.testing.assert_allclose(mesh.volume, 5 * 8, rtol=1e-6)
    np.testing.assert_allclose(mesh.bounds, [[-3, 0, -2], [1, 4, 2]], atol=1e-6)


def test_meshes_of_nothing_or_of_unknown_kind_are_refused(tmp_path, world):
    empty = make_map(np.zeros((2, 2, 2), int), PALETTE.names)
    with pytest.raises(ValueError, match="no blocks"):
        save_mesh(tmp_path / "empty.glb", empty, PALETTE)
    with pytest.raises(ValueError, match="ends in"):
        save_mesh(tmp_path / "world.step", world, PALETTE)


def test_colours_survive_the_way_through_other_programs(tmp_path):
    """Faces and voxels have the colours of their material when others read them."""
    blocks = np.zeros((3, 2, 2), int)
    blocks[:2, 0, :], blocks[0, 1, 0] = 3, 1
    world = make_map(blocks, PALETTE.names)
    table = np.round(255 * np.asarray(PALETTE.colors)).astype(int)
    trimesh = pytest.importorskip("trimesh")
    for ending in ("glb", "ply"):
        save_mesh(tmp_path / f"world.{ending}", world, PALETTE)
        mesh = trimesh.load(tmp_path / f"world.{ending}", force="mesh", process=False)
        up = mesh.face_normals[:, 1] > 0.9
        seen = {tuple(map(int, c)) for c in np.asarray(mesh.visual.face_colors)[up, :3]}
        assert seen == {tuple(table[0, 0]), tuple(table[2, 0])}, ending
    parser = pytest.importorskip("pyvox.parser")
    save_any_map(tmp_path / "world.vox", world, PALETTE)
    model = parser.VoxParser(str(tmp_path / "world.vox")).parse()
    colors = {v.c: model.palette[v.c - 1] for v in model.models[0].voxels}
    assert set(colors) == {1, 3}
    for material, color in colors.items():
        assert (color.r, color.g, color.b) == tuple(table[material - 1, 2])


@pytest.mark.parametrize("name", ["world.json", "world.vox", "world.schem", "world.schematic"])
def test_every_readable_ending_is_read_back_through_one_door(tmp_path, world, name):
    if "schem" in name:
        pytest.importorskip("nbtlib")
    save_any_map(tmp_path / name, world, PALETTE)
    again, repairs = load_any_map(tmp_path / name, PALETTE)
    assert not repairs
    np.testing.assert_array_equal(again.materials, world.materials)


def test_other_endings_and_broken_files_are_named(tmp_path, world):
    with pytest.raises(ValueError, match=r"world\.step: a map is written as one of"):
        save_any_map(tmp_path / "world.step", world, PALETTE)
    with pytest.raises(ValueError, match=r"world\.glb: a map ends in one of"):
        load_any_map(tmp_path / "world.glb", PALETTE)
    with pytest.raises(FileNotFoundError, match=r"none\.vox"):
        load_any_map(tmp_path / "none.vox", PALETTE)
    (tmp_path / "grey.vox").write_bytes(b"VOX ")
    with pytest.raises(ValueError, match=r"grey\.vox"):
        load_any_map(tmp_path / "grey.vox", PALETTE)
