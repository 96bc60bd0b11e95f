"""NBT, the tree of named tags that block worlds are stored in, read into dicts and NumPy arrays.

A compound is a dict, a list a list, a string a str, a number an int or float, and an array an
array. Files may be compressed by gzip. What a length in the file claims is compared with the bytes
that are there, so a damaged file costs no more memory than a whole one. The package nbtlib, which
writes our schematics, cannot be trusted with damaged ones: version 2.0.4 reads an array that is cut
short as an empty one without a word, and makes as many tags of a list of ends as the file claims.
Source: the published NBT format of Minecraft Java Edition (big-endian).
"""

import pathlib
import struct
import zlib
from typing import Any

import numpy as np

_MAX_BYTES = 1 << 31
_MAX_DEPTH = 128
_END, _LIST, _COMPOUND, _STRING = 0, 9, 10, 8
_NUMBERS = {1: ">b", 2: ">h", 3: ">i", 4: ">q", 5: ">f", 6: ">d"}
_ARRAYS = {7: np.dtype(np.int8), 11: np.dtype(">i4"), 12: np.dtype(">i8")}


def read_nbt(path: pathlib.Path) -> dict[str, Any]:
    """Reads the compound at the root of a file; its own name is left out.

    Raises:
      FileNotFoundError: no such file.
      ValueError: naming the file, for anything that is not NBT, is cut short, nests deeper than
        128, or holds more than 2 GiB.
    """
    content = path.read_bytes()
    try:
        if content[:2] == b"\x1f\x8b":
            content = _unzip(content)
        tags = _Tags(content)
        if tags.number(">b") != _COMPOUND:
            raise ValueError("it does not begin with a compound")
        tags.text()
        return tags.value(_COMPOUND, 0)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{path}: not an NBT file ({error})") from None


def _unzip(content: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    data = unzip.decompress(content, _MAX_BYTES)
    if unzip.unconsumed_tail:
        raise ValueError(f"it holds more than {_MAX_BYTES} bytes")
    if not unzip.eof:
        raise ValueError("its compressed bytes are cut short")
    return data


class _Tags:
    """Bytes read front to back."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, size: int) -> int:
        """Where the next `size` bytes begin."""
        start = self.place
        if size < 0 or start + size > len(self.data):
            raise ValueError(f"cut short at byte {start}")
        self.place = start + size
        return start

    def number(self, layout: str) -> Any:
        return struct.unpack_from(layout, self.data, self.take(struct.calcsize(layout)))[0]

    def text(self) -> str:
        size = self.number(">H")
        start = self.take(size)
        return self.data[start : start + size].decode("utf-8", "replace")

    def value(self, kind: int, depth: int) -> Any:
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind in _ARRAYS:
            count, dtype = self.number(">i"), _ARRAYS[kind]
            return np.frombuffer(self.data, dtype, count, self.take(count * dtype.itemsize))
        if kind == _STRING:
            return self.text()
        if depth >= _MAX_DEPTH:
            raise ValueError(f"tags are nested deeper than {_MAX_DEPTH}")
        if kind == _LIST:
            return self.items(depth + 1)
        if kind == _COMPOUND:
            return self.entries(depth + 1)
        raise ValueError(f"unknown tag {kind} before byte {self.place}")

    def items(self, depth: int) -> list[Any]:
        kind, count = self.number(">b"), self.number(">i")
        if kind == _END and count > 0:  # of no size, so nothing else would end them
            raise ValueError(f"a list of {count} tags that mean an end, before byte {self.place}")
        return [self.value(kind, depth) for _ in range(count)]

    def entries(self, depth: int) -> dict[str, Any]:
        found = {}
        while (kind := self.number(">b")) != _END:
            name = self.text()
            found[name] = self.value(kind, depth)
        return found
