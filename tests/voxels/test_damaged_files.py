"""Damaged maps, cameras, schematics and .vox files: read, or refused by name, nothing else."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxels.block_map import make_map
from voxels.formats import magica_voxel, map_json, nbt
from voxels.formats.magica_voxel import load_vox, map_from_vox, save_vox
from voxels.formats.map_json import load_map, save_map
from voxels.formats.metadata_json import load_views, save_views
from voxels.formats.schematic import load_schematic, save_schematic
from voxels.palette import terrain_palette

from ..mutations import damaged_bytes, damaged_json, reads_or_refuses
from .test_metadata_json import example_views

PALETTE = terrain_palette()
_FEW_CELLS = 1 << 20


def _map(path):
    block_map, _ = load_map(path, PALETTE.names)
    assert block_map.materials.max() <= len(PALETTE.names)


def _cameras(path):
    views = load_views(path)
    assert all(np.isfinite(field).all() for field in views.cameras)
    assert views.cameras.focal.min() > 0


def _vox(path):
    scene = load_vox(path)
    if scene.palette is not None:
        map_from_vox(scene, PALETTE)


def _schematic(path):
    load_schematic(path, PALETTE.names)


def _packed(content):
    """Damage under the compression, whose checksum would find it otherwise."""
    return damaged_bytes(gzip.decompress(content)).map(lambda data: gzip.compress(data, mtime=0))


CASES = {
    "map.json": (damaged_json, _map),
    "metadata.json": (damaged_json, _cameras),
    "world.schem": (
        lambda content: st.one_of(damaged_bytes(content), _packed(content)),
        _schematic,
    ),
    "world.schematic": (_packed, _schematic),
    "plain.schem": (lambda content: damaged_bytes(gzip.decompress(content)), _schematic),
    "world.vox": (damaged_bytes, _vox),
    "placed.vox": (damaged_bytes, _vox),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Whole files by name."""
    pytest.importorskip("nbtlib")
    folder = tmp_path_factory.mktemp("whole")
    random = np.random.default_rng(2)
    blocks = random.integers(0, 8, (4, 3, 5)) * (random.random((4, 3, 5)) < 0.6)
    world = make_map(blocks, PALETTE.names, 2.0)
    save_map(folder / "map.json", world)
    save_views(folder / "metadata.json", example_views(folder))
    for name in ("world.schem", "world.schematic", "plain.schem"):
        save_schematic(folder / name, world)
    save_vox(folder / "world.vox", world, PALETTE)
    (folder / "placed.vox").write_bytes(_placed((folder / "world.vox").read_bytes()))
    return {name: (folder / name).read_bytes() for name in CASES}


def _words(*words):
    return b"".join(struct.pack("<i", len(word)) + word.encode() for word in words)


def _placed(content):
    """The model of a .vox file, placed by a scene graph: a transform of a group of two shapes."""

    def node(name, *content):
        body = b"".join(content)
        return name + struct.pack("<2i", len(body), 0) + body

    graph = node(
        b"nTRN",
        struct.pack("<2i", 0, 0),
        struct.pack("<4i", 1, -1, -1, 1),
        struct.pack("<i", 1) + _words("_t", "3 -2 4"),
    )
    graph += node(b"nGRP", struct.pack("<6i", 1, 0, 2, 2, 4, 0)[:20])
    graph += node(b"nTRN", struct.pack("<7i", 2, 0, 3, -1, 0, 1, 0))
    graph += node(b"nTRN", struct.pack("<7i", 4, 0, 3, -1, 0, 0, 0)[:24])
    graph += node(b"nSHP", struct.pack("<5i", 3, 0, 1, 0, 0))
    _, children = struct.unpack_from("<2i", content, 12)
    return content[:16] + struct.pack("<i", children + len(graph)) + content[20:] + graph


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where damaged files lie; small worlds only, so that a large one is refused at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(magica_voxel, "_MAX_CELLS", _FEW_CELLS)
        patch.setattr(map_json, "_MAX_CELLS", _FEW_CELLS)
        patch.setattr(nbt, "_MAX_BYTES", _FEW_CELLS)
        yield tmp_path_factory.mktemp("damaged")


def _damage(name, whole, folder, data):
    damage, read = CASES[name]
    path = folder / name
    path.write_bytes(data.draw(damage(whole[name])))
    reads_or_refuses(lambda: read(path), path)


@pytest.mark.parametrize("name", CASES)
def test_whole_files_are_read(whole, folder, name):
    (folder / name).write_bytes(whole[name])
    assert reads_or_refuses(lambda: CASES[name][1](folder / name), name)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_by_name(whole, folder, name, data):
    _damage(name, whole, folder, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=3000)
@given(data=st.data())
def test_thousands_of_damaged_files_are_read_or_refused_by_name(whole, folder, name, data):
    _damage(name, whole, folder, data)


def _vox_file(*chunks):
    body = b"".join(
        name + struct.pack("<2i", len(content), 0) + content for name, content in chunks
    )
    return b"VOX " + struct.pack("<i", 150) + b"MAIN" + struct.pack("<2i", 0, len(body)) + body


_ONE_VOXEL = (b"SIZE", struct.pack("<3i", 1, 1, 1)), (b"XYZI", struct.pack("<i4B", 1, 0, 0, 0, 1))


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        # each name once began before the end of the last: two billion of them, for ever
        ((*_ONE_VOXEL, (b"nTRN", struct.pack("<3i", 0, 2**30, -4))), "a name .* is cut short"),
        # the product of the sides once overflowed to a small number
        (((b"SIZE", struct.pack("<3i", *[2**31 - 1] * 3)), _ONE_VOXEL[1]), "has the size"),
        (((b"SIZE", struct.pack("<3i", -1, 1, 1)), _ONE_VOXEL[1]), "has the size"),
        ((_ONE_VOXEL[0], (b"XYZI", struct.pack("<i", -1))), "has -1 voxels"),
        (
            (
                *_ONE_VOXEL,
                (b"nTRN", struct.pack("<7i", 0, 0, 1, -1, 0, 1, 1) + _words("_t", "5000000 0 0")),
                (b"nSHP", struct.pack("<5i", 1, 0, 1, 0, 0)),
            ),
            "is moved by '5000000 0 0' cells",
        ),
    ],
)
def test_a_vox_file_that_lies_about_lengths_is_refused(tmp_path, chunks, message):
    path = tmp_path / "lies.vox"
    path.write_bytes(_vox_file(*chunks))
    with pytest.raises(ValueError, match=rf"lies\.vox: not a readable .vox file .*{message}"):
        load_vox(path)


def _scene(*, hidden_node=False, hidden_layer=False, models=1):
    """Two models; the second hangs on a node of layer 1 and is shown by a shape of `models`."""
    model = _ONE_VOXEL[0], (b"XYZI", struct.pack("<i4B", 1, 0, 0, 0, 7))
    about = struct.pack("<i", 1) + _words("_hidden", "1")
    node = about if hidden_node else struct.pack("<i", 0)
    shapes = b"".join(struct.pack("<2i", 1 - number, 0) for number in range(models))
    return (
        *_ONE_VOXEL,
        *model,
        (b"nTRN", struct.pack("<7i", 0, 0, 1, -1, -1, 1, 0)),
        (b"nGRP", struct.pack("<5i", 1, 0, 2, 2, 4)),
        (b"nTRN", struct.pack("<7i", 2, 0, 3, -1, 0, 1, 0)),
        (b"nSHP", struct.pack("<5i", 3, 0, 1, 0, 0)),
        (
            b"nTRN",
            struct.pack("<i", 4)
            + node
            + struct.pack("<4i", 5, -1, 1, 1)
            + struct.pack("<i", 1)
            + _words("_t", "1 0 0"),
        ),
        (b"nSHP", struct.pack("<3i", 5, 0, models) + shapes),
        (b"LAYR", struct.pack("<i", 1) + (about if hidden_layer else struct.pack("<i", 0))),
    )


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, [1, 7]),
        ({"hidden_node": True}, [1]),
        ({"hidden_layer": True}, [1]),
        ({"models": 2}, [1, 7]),  # frames of an animation: the first is shown
    ],
)
def test_what_magica_voxel_hides_is_not_read(tmp_path, options, shown):
    path = tmp_path / "scene.vox"
    path.write_bytes(_vox_file(*_scene(**options)))
    assert load_vox(path).colors.ravel().tolist() == shown


def test_models_that_nothing_places_are_refused(tmp_path):
    path = tmp_path / "pack.vox"
    path.write_bytes(_vox_file(*_ONE_VOXEL, *_ONE_VOXEL))
    with pytest.raises(ValueError, match=r"pack\.vox: .*2 models, and nothing says where"):
        load_vox(path)


_ROOT = b"\x0a\x00\x00"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            _ROOT + b"\x09\x00\x01x\x00\x7f\xff\xff\xff",
            "a list of 2147483647 tags that mean an end",
        ),
        (_ROOT + b"\x0c\x00\x01x\x7f\xff\xff\xff", "cut short"),
        (_ROOT + b"\x07\x00\x01x\xff\xff\xff\xff", "cut short"),
        (_ROOT + b"\x09\x00\x01x" + 1000 * b"\x09\x00\x00\x00\x01", "nested deeper than 128"),
        (_ROOT + b"\x4d\x00\x01x", "unknown tag 77"),
        (gzip.compress(_ROOT + bytes(1 << 21), mtime=0), "more than 1048576 bytes"),
        (gzip.compress(_ROOT + b"\x00", mtime=0)[:-9], "cut short"),
    ],
)
def test_nbt_that_lies_about_lengths_is_refused(folder, content, message):
    path = folder / "lies.schem"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"lies\.schem: not an NBT file \(.*{message}"):
        nbt.read_nbt(path)


def test_nbt_is_what_nbtlib_wrote(tmp_path):
    nbtlib = pytest.importorskip("nbtlib")
    tags = {
        "byte": nbtlib.Byte(-3),
        "short": nbtlib.Short(-300),
        "int": nbtlib.Int(1 << 30),
        "long": nbtlib.Long(-(1 << 60)),
        "float": nbtlib.Float(0.5),
        "double": nbtlib.Double(0.1),
        "text": nbtlib.String("blåbær"),
        "bytes": nbtlib.ByteArray([1, -2]),
        "ints": nbtlib.IntArray([1 << 20, -2]),
        "longs": nbtlib.LongArray([1 << 40, -2]),
        "list": nbtlib.List[nbtlib.Compound]([{"a": nbtlib.Int(1)}, {}]),
        "empty": nbtlib.List([]),
    }
    for gzipped in (False, True):
        nbtlib.File(tags, gzipped=gzipped, root_name="any").save(tmp_path / "tags.nbt")
        read = nbt.read_nbt(tmp_path / "tags.nbt")
        assert read.keys() == tags.keys()
        for name, expected in tags.items():
            if isinstance(read[name], np.ndarray):
                assert read[name].tolist() == expected.tolist()
            else:
                assert read[name] == expected.unpack()
