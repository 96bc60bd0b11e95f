"""Damaged captures of every format: read, or refused by name, nothing else."""

import shutil
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenes import analytic
from scenes.formats import load
from scenes.formats.array_files import read_npy, read_npz
from scenes.formats.colmap_model import read_model
from scenes.formats.pictures import read_image

from .. import mutations
from ..mutations import damaged_arrays, damaged_bytes, damaged_json, damaged_text, reads_or_refuses
from . import written_captures as written
from .conftest import write_blender_split


def _damaged_rows(content):
    """Poses and bounds as NumPy writes them, damaged as bytes and as numbers."""

    def as_bytes(arrays):
        return mutations.npy(next(iter(arrays.values())))

    rows = np.frombuffer(content[-9 * 17 * 8 :]).reshape(9, 17)
    return st.one_of(damaged_bytes(content), damaged_arrays({"rows": rows}).map(as_bytes))


def _blender(folder):
    scene = analytic.posed_images("blocks", num_train=3, num_test=2, size=24, seed=5)
    write_blender_split(folder, "train", scene.train)
    write_blender_split(folder, "test", scene.test)


def _binary_colmap(folder):
    """The text model again, in COLMAP's binary files."""
    written.colmap(folder)
    place = folder / "sparse/0"
    words = place.joinpath("cameras.txt").read_text().splitlines()[1].split()
    content = struct.pack("<QiiQQ8d", 1, 7, 4, *map(int, words[2:4]), *map(float, words[4:]))
    (place / "cameras.bin").write_bytes(content)
    lines = place.joinpath("images.txt").read_text().splitlines()[1:]
    content = struct.pack("<Q", len(lines) // 2)
    for image, seen in zip(lines[::2], lines[1::2], strict=True):
        words = image.split()
        content += struct.pack("<i7di", int(words[0]), *map(float, words[1:8]), int(words[8]))
        table = np.array(seen.split(), float).reshape(-1, 3)
        content += words[9].encode() + b"\0" + struct.pack("<Q", len(table))
        content += b"".join(struct.pack("<ddq", x, y, int(point)) for x, y, point in table)
    (place / "images.bin").write_bytes(content)
    lines = place.joinpath("points3D.txt").read_text().splitlines()[1:]
    content = struct.pack("<Q", len(lines))
    for line in lines:
        key, x, y, z, r, g, b, error, *track = line.split()
        content += struct.pack(
            "<Q3d3B", int(key), float(x), float(y), float(z), *map(int, (r, g, b))
        )
        content += struct.pack("<dQ", float(error), len(track) // 2)
        content += b"".join(struct.pack("<i", int(word)) for word in track)
    (place / "points3D.bin").write_bytes(content)
    for path in place.glob("*.txt"):
        path.unlink()


CASES = {
    "blender": (_blender, {"transforms_train.json": damaged_json}),
    "transforms": (written.transforms, {"transforms.json": damaged_json}),
    "klevr": (written.klevr, {"metadata.json": damaged_json}),
    "llff": (written.llff, {"poses_bounds.npy": _damaged_rows}),
    "colmap text": (
        written.colmap,
        {f"sparse/0/{name}.txt": damaged_text for name in ("cameras", "images", "points3D")},
    ),
    "colmap binary": (
        _binary_colmap,
        {f"sparse/0/{name}.bin": damaged_bytes for name in ("cameras", "images", "points3D")},
    ),
    "rgbd": (
        written.rgbd,
        {"camera-intrinsics.txt": damaged_text, "frame-000003.pose.txt": damaged_text},
    ),
    "pictures": (
        written.transforms,
        {"images/003.png": damaged_bytes, "depth/003.png": damaged_bytes},
    ),
}


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    """A whole capture of every format, written when first asked for."""
    base, found = tmp_path_factory.mktemp("captures"), {}

    def folder_of(name):
        if name not in found:
            folder = base / name.replace(" ", "-")
            folder.mkdir()
            CASES[name][0](folder)
            found[name] = folder, {file: (folder / file).read_bytes() for file in CASES[name][1]}
        return found[name]

    return folder_of


def _damage(name, captures, data):
    folder, whole = captures(name)
    file = data.draw(st.sampled_from(sorted(whole)))
    try:
        (folder / file).write_bytes(data.draw(CASES[name][1][file](whole[file])))
        reads_or_refuses(lambda: _load(folder), folder)
    finally:
        (folder / file).write_bytes(whole[file])


def _load(folder):
    scene = load(folder, with_depth=True)
    for posed in (scene.train, scene.test):
        assert all(np.isfinite(field).all() for field in posed.cameras)
        assert np.isfinite(posed.aabb).all()
        assert posed.depth is None or not np.isinf(posed.depth).any()


@pytest.mark.parametrize("name", CASES)
def test_whole_captures_are_read(captures, name):
    folder, _ = captures(name)
    assert reads_or_refuses(lambda: _load(folder), folder)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=15)
@given(data=st.data())
def test_damaged_captures_are_read_or_refused_by_name(captures, name, data):
    _damage(name, captures, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=1000)
@given(data=st.data())
def test_thousands_of_damaged_captures_are_read_or_refused_by_name(captures, name, data):
    _damage(name, captures, data)


def test_the_binary_model_is_the_text_model(captures):
    """Else the damage above would be done to a file that is damaged already."""
    text, _ = captures("colmap text")
    binary, _ = captures("colmap binary")
    for a, b in zip(read_model(text / "sparse/0"), read_model(binary / "sparse/0"), strict=True):
        if isinstance(a, dict):
            assert a.keys() == b.keys()
        elif isinstance(a, tuple):
            for left, right in zip(a, b, strict=True):
                np.testing.assert_allclose(left, right)


@pytest.mark.parametrize("kind", [".npy", ".npz"])
@pytest.mark.parametrize("shape", ["(1152921504606846976, 17)", "(-1, 17)", "(2147483647,)"])
def test_a_header_that_claims_more_than_there_is_costs_nothing(tmp_path, kind, shape):
    import zipfile

    claims = mutations.npy_that_claims(shape)
    path = tmp_path / f"poses_bounds{kind}"
    if kind == ".npy":
        path.write_bytes(claims)
        read = read_npy
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("rows.npy", claims)
        read = read_npz
    assert not reads_or_refuses(lambda: read(path), path)


def test_arrays_come_back_as_numpy_wrote_them(tmp_path):
    arrays = {
        "floats": np.arange(6.0).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "names": np.array(["a", "bc"]),
        "none": np.zeros((0, 4), np.float32),
        "number": np.array(3, np.int16),
    }
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    back = read_npz(tmp_path / "a.npz")
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        np.save(tmp_path / "a.npy", array)
        for read in (back[name], read_npy(tmp_path / "a.npy")):
            assert (read.shape, read.dtype) == (array.shape, array.dtype)
            np.testing.assert_array_equal(read, array)


def test_a_picture_that_claims_to_be_vast_is_refused_by_name(captures, tmp_path):
    folder, _ = captures("pictures")
    content = bytearray((folder / "images/003.png").read_bytes())
    content[16:24] = struct.pack(">2I", 2**30, 2**30)
    import zlib

    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "images/003.png").write_bytes(content)
    assert not reads_or_refuses(lambda: read_image(copy / "images/003.png"), "003.png")
    assert not reads_or_refuses(lambda: load(copy), copy)
