"""Reads COLMAP's sparse models, binary and text, into NumPy arrays.

A model is three files: cameras, images and points3D, with the ending .bin or .txt. Poses are
world to camera with OpenCV's axes, quaternions w, x, y, z; pixel coordinates count from the
image's corner. Source: COLMAP's documentation of its output format.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

_MODELS = (
    "SIMPLE_PINHOLE",
    "PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV",
    "OPENCV_FISHEYE",
    "FULL_OPENCV",
    "FOV",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "THIN_PRISM_FISHEYE",
)
_NUM_PARAMS = (3, 4, 4, 5, 8, 8, 12, 5, 4, 5, 12)
_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<i8")])
_MAX_NAME = 4096
_MAX_ID = 1 << 53  # what a float64 can count


class ColmapCamera(NamedTuple):
    """Intrinsics by COLMAP's model name; size is (cols, rows)."""

    model: str
    size: tuple[int, int]
    params: Float[np.ndarray, " params"]


class ColmapImage(NamedTuple):
    """A registered photograph.

    Attributes:
      quaternion, translation: world to camera.
      camera: id of its camera.
      xy: where its keypoints are that belong to points, in pixels.
      point: ids of those points.
    """

    name: str
    camera: int
    quaternion: Float[np.ndarray, " 4"]
    translation: Float[np.ndarray, " 3"]
    xy: Float[np.ndarray, "seen 2"]
    point: Int[np.ndarray, " seen"]


class ColmapPoints(NamedTuple):
    """Triangulated points, one row each: id, position, mean reprojection error, track length."""

    id: Int[np.ndarray, " points"]
    position: Float[np.ndarray, "points 3"]
    error: Float[np.ndarray, " points"]
    track: Int[np.ndarray, " points"]


class ColmapModel(NamedTuple):
    """A sparse model; `folder` is where its files are."""

    folder: Path
    cameras: dict[int, ColmapCamera]
    images: dict[int, ColmapImage]
    points: ColmapPoints


def find_model(folder: Path) -> Path | None:
    """Finds the folder of a sparse model in or below a scene's folder; the usual places only."""
    for place in ("sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse", "."):
        for suffix in (".bin", ".txt"):
            if all(
                (folder / place / f"{name}{suffix}").is_file() for name in ("cameras", "images")
            ):
                return folder / place
    return None


def read_model(folder: Path) -> ColmapModel:
    """Reads a sparse model; binary files win where both kinds are there.

    Raises:
      FileNotFoundError: naming a missing file.
      ValueError: naming file and record, if one is cut short or malformed.
    """
    suffix = ".bin" if (folder / "cameras.bin").is_file() else ".txt"
    files = [folder / f"{name}{suffix}" for name in ("cameras", "images", "points3D")]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: file not found")
    if suffix == ".bin":
        readers = (_binary_cameras, _binary_images, _binary_points)
    else:
        readers = (_text_cameras, _text_images, _text_points)
    cameras, images = readers[0](files[0]), readers[1](files[1])
    for image in images.values():
        if image.camera not in cameras:
            raise ValueError(
                f"{files[1]}: image {image.name} has the unknown camera {image.camera}"
            )
    return ColmapModel(folder, cameras, images, readers[2](files[2]))


class _Bytes:
    """A binary file read front to back; the record under way is named when it ends too soon."""

    def __init__(self, file: Path) -> None:
        self.file, self.data, self.place, self.record = file, file.read_bytes(), 0, "its header"

    def need(self, size: int) -> int:
        start = self.place
        if size < 0 or start + size > len(self.data):
            raise ValueError(f"{self.file}: truncated in {self.record}")
        self.place = start + size
        return start

    def values(self, layout: str) -> tuple:
        start = self.need(struct.calcsize("<" + layout))
        return struct.unpack_from("<" + layout, self.data, start)

    def text(self) -> str:
        end = self.data.find(b"\0", self.place, self.place + _MAX_NAME)
        if end < 0:
            raise ValueError(f"{self.file}: truncated or malformed name in {self.record}")
        start, self.place = self.place, end + 1
        return self.data[start:end].decode("utf-8", errors="replace")

    def array(self, dtype: np.dtype, count: int) -> np.ndarray:
        start = self.need(dtype.itemsize * count)
        return np.frombuffer(self.data, dtype, count, start)

    def records(self, kind: str) -> Iterator[int]:
        (count,) = self.values("Q")
        for index in range(count):
            self.record = f"{kind} {index + 1} of {count}"
            yield index


def _binary_cameras(file: Path) -> dict[int, ColmapCamera]:
    data, cameras = _Bytes(file), {}
    for _ in data.records("camera"):
        key, model, cols, rows = data.values("iiQQ")
        if not 0 <= model < len(_MODELS):
            raise ValueError(f"{file}: {data.record} has the unknown model number {model}")
        params = data.array(np.dtype("<f8"), _NUM_PARAMS[model])
        _add(cameras, key, ColmapCamera(_MODELS[model], (cols, rows), params), data.record, file)
    return cameras


def _binary_images(file: Path) -> dict[int, ColmapImage]:
    data, images = _Bytes(file), {}
    for _ in data.records("image"):
        key, *pose, camera = data.values("i7di")
        name = data.text()
        (count,) = data.values("Q")
        seen = data.array(_OBSERVATION, count)
        seen = seen[seen["point"] >= 0]
        image = ColmapImage(
            name, camera, np.array(pose[:4]), np.array(pose[4:]), seen["xy"], seen["point"]
        )
        _add(images, key, image, data.record, file)
    return images


def _binary_points(file: Path) -> ColmapPoints:
    data, rows = _Bytes(file), []
    for _ in data.records("point"):
        key, x, y, z, _, _, _, error, track = data.values("Q3d3BdQ")
        data.need(8 * track)
        rows.append((key, x, y, z, error, track))
    return _points(rows, file)


def _add(records: dict[int, Any], key: int, record: Any, place: str, file: Path) -> None:
    if key in records:
        raise ValueError(f"{file}: {place} has the id {key}, which is taken")
    records[key] = record


def _points(rows: list[tuple], file: Path) -> ColmapPoints:
    table = np.array(rows, np.float64).reshape(-1, 6)
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1) | ~(np.abs(table[:, 0]) < _MAX_ID))
    if bad.size:
        raise ValueError(f"{file}: point {bad[0] + 1} must be finite, got {table[bad[0]].tolist()}")
    ids, tracks = table[:, 0].astype(np.int64), table[:, 5].astype(np.int64)
    return ColmapPoints(ids, table[:, 1:4], table[:, 4], tracks)


def _lines(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Lines without comments, split at spaces, each with its place for errors."""
    text = file.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("#"):
            yield f"{file}: line {number}", line.split()


def _numbers(where: str, words: list[str], count: int | None = None) -> np.ndarray:
    try:
        values = np.array(words, np.float64)
    except ValueError:
        raise ValueError(f"{where} must hold numbers, got {' '.join(words)[:60]}") from None
    if count is not None and len(values) != count:
        raise ValueError(f"{where} must hold {count} numbers, got {len(values)}")
    return values


def _whole(where: str, words: list[str]) -> list[int]:
    values = _numbers(where, words)
    if not np.all((np.abs(values) < _MAX_ID) & (values == np.round(values))):
        raise ValueError(f"{where} must hold whole numbers, got {' '.join(words)[:60]}")
    return [int(value) for value in values]


def _text_cameras(file: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for where, words in _lines(file):
        if not words:
            continue
        if len(words) < 5:
            raise ValueError(f"{where} must hold an id, a model, a size and parameters")
        key, cols, rows = _whole(where, [words[0], *words[2:4]])
        camera = ColmapCamera(words[1], (cols, rows), _numbers(where, words[4:]))
        _add(cameras, key, camera, where.removeprefix(f"{file}: "), file)
    return cameras


def _text_images(file: Path) -> dict[int, ColmapImage]:
    images, lines = {}, _lines(file)
    for where, words in lines:
        if not words:  # blank lines stand between pairs only
            continue
        if len(words) < 10:
            raise ValueError(f"{where} must hold an id, a pose, a camera and a name")
        pose = _numbers(where, words[1:8], 7)
        key, camera = _whole(where, [words[0], words[8]])
        place, seen = next(lines, (where, None))
        if seen is None:
            raise ValueError(f"{file}: truncated after image {' '.join(words[9:])}")
        table = _numbers(place, seen)
        if len(table) % 3:
            raise ValueError(
                f"{place} must hold triples of x, y and a point, got {len(table)} numbers"
            )
        table = table.reshape(-1, 3)
        if not np.all(np.abs(table[:, 2]) < _MAX_ID):
            raise ValueError(f"{place} must hold ids of points, got one that is none")
        table = table[table[:, 2] >= 0]
        name, point = " ".join(words[9:]), table[:, 2].astype(np.int64)
        image = ColmapImage(name, camera, pose[:4], pose[4:], table[:, :2], point)
        _add(images, key, image, where.removeprefix(f"{file}: "), file)
    return images


def _text_points(file: Path) -> ColmapPoints:
    rows = []
    for where, words in _lines(file):
        if not words:
            continue
        if len(words) < 8 or len(words) % 2:
            raise ValueError(f"{where} must hold an id, a position, a colour, an error and a track")
        values = _numbers(where, words[:8])
        rows.append((*values[:4], values[7], (len(words) - 8) // 2))
    return _points(rows, file)
