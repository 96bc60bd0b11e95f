"""Point clouds and meshes as binary PLY files, which every 3D program reads."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from scenes.formats.atomic import write_file


def write_ply(
    path: Path,
    points: Float[np.ndarray, "points 3"],
    colors: UInt8[np.ndarray, "points 3"],
    *,
    normals: Float[np.ndarray, "points 3"] | None = None,
    faces: Int[np.ndarray, "faces 3"] | None = None,
) -> None:
    """Writes coloured points, or a mesh when there are faces, in one step.

    Raises:
      ValueError: when a face names a point that does not exist.
    """
    if faces is not None and faces.size and not 0 <= faces.min() <= faces.max() < len(points):
        raise ValueError(f"faces must name points 0 to {len(points) - 1}, got {faces.max()}")
    columns = [(axis, "<f4") for axis in "xyz"]
    parts = [np.asarray(points, np.float32)]
    if normals is not None:
        columns += [(f"n{axis}", "<f4") for axis in "xyz"]
        parts.append(np.asarray(normals, np.float32))
    columns += [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.empty(len(points), np.dtype(columns))
    values = [column for part in (*parts, colors) for column in part.T]
    for (name, _), column in zip(columns, values, strict=True):
        vertices[name] = column
    kinds = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property {kinds[kind]} {name}" for name, kind in columns]
    body = vertices.tobytes()
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        rows = np.empty(len(faces), np.dtype([("count", "u1"), ("corners", "<i4", (3,))]))
        rows["count"], rows["corners"] = 3, faces
        body += rows.tobytes()
    text = "\n".join([*header, "end_header", ""]).encode("ascii")
    write_file(path, lambda partial: partial.write_bytes(text + body))
