"""Reads NumPy's .npy and .npz files without trusting them; writes .npz files.

What a header claims is compared with the bytes that are there before memory is taken for it, and
objects, which would have to be unpickled and could run code, are refused.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from .atomic import write_file

_MOST_COMPRESSION = 1100  # deflate makes at most 1032 bytes of one


def read_npy(path: Path) -> Shaped[np.ndarray, "..."]:
    """Reads an array.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: naming the file, if it is no array, holds objects or is cut short.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: file not found") from None
    try:
        return _read_array(io.BytesIO(content), len(content), f"{path}: not a readable .npy array")
    except _UnreadableError as error:
        raise ValueError(str(error)) from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an archive by name.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: naming the file and the array, if one is no array, holds objects or is cut short.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                most = _MOST_COMPRESSION * info.compress_size + 1024
                with archive.open(info) as file:
                    arrays[name] = _read_array(file, most, f"{path}: array {name}")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: file not found") from None
    except _UnreadableError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # zipfile and its decompressors raise many kinds for damaged files
        raise ValueError(f"{path}: not a readable npz file: {error}") from None
    return arrays


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed archive, whole or not at all.

    Raises:
      OSError: when it cannot be written, naming it; what was there before stays.
    """

    def fill(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]

    write_file(path, fill)


class _UnreadableError(ValueError):
    """An array that cannot be read, with the reason and the file."""


def _read_array(file: Any, most: int, where: str) -> np.ndarray:
    """Reads one array; `most` is how many bytes its values can have at all.

    `file` is anything opened for bytes.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of the format is not supported")
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read_header(file)
    except Exception as error:  # the header is a Python literal: any kind of error
        raise _UnreadableError(f"{where} ({_first_line(error)})") from None
    if dtype.hasobject:
        raise _UnreadableError(
            f"{where}: holds pickled objects, which can run code when read; refused"
        )
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size > most:
        raise _UnreadableError(f"{where}: its header claims {shape}, more than there is")
    # one byte more meets the end of the file, where archives compare checksums
    data = file.read(size + 1)
    if len(data) < size:
        raise _UnreadableError(f"{where}: cut short, {len(data)} of {size} bytes are there")
    if not size:
        return np.zeros(shape, dtype)
    order = "F" if is_fortran else "C"
    return np.frombuffer(data, dtype, math.prod(shape)).reshape(shape, order=order).copy()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
