"""Damaged copies of small valid files, and the law that every reader obeys on them.

A reader of a damaged file either returns a valid result or raises ValueError, FileNotFoundError or
another OSError whose message names the file. It raises nothing else, comes back, and never asks
for memory because a number in the file says so.
"""

import contextlib
import copy
import io
import json
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

HEADROOM = 2 << 30
"""Bytes of address space a reader may take on top of what the process has; threads need much."""
PATIENCE = 60
"""Seconds of this process's work after which a reader counts as hanging; milliseconds are usual."""

_INTEGERS = (0, 1, -1, 2, 127, 255, 256, 65535, 2**20, 2**31 - 1, -(2**31), 2**60, 2**63 - 1)
_NUMBERS = (
    *(float("nan"), float("inf"), -float("inf"), -0.0, 1e-320, 1e-30, 1e18, 1e39, -1e300, 1.7e308),
    *(0, 1, -1, 0.5, 3, 2**31, 2**40, -(2**63), 2**64, 10**25, 10**400),
)
_MARKS = {  # JSON no writer writes, put in as text
    "<deep>": "[" * 100_000 + "]" * 100_000,
    "<nested>": "[" * 500 + "]" * 500,
    "<long>": "9" * 5000,
}
_TEXTS = ("", " ", "x", "nan", "1", "\0", "\ud800", "å" * 9, "a" * 5000, "..", ".", "/", "a/../b")
_VALUES = (None, True, False, [], {}, [[]], [{}], [None], [[[[0]]]], {"x": {}}, *_MARKS)
_WORDS = ("", "x", "nan", "inf", "-1", "0", "1e400", "-1e39", "1e300", "9" * 400, "2.5", "#", "å")
_WORDS += ("2147483648", "9223372036854775808", "-9223372036854775809", "1_0", "\0", "a" * 5000)


@st.composite
def damaged_bytes(draw: Any, content: bytes, *, most: int = 3) -> bytes:
    """A file with bits flipped, parts cut, repeated or moved, and integers overwritten."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, most))):
        size = len(data)
        start = draw(st.integers(0, size))
        end = min(size, start + draw(st.integers(0, 64)))
        kind = draw(st.sampled_from(("flip", "integer", "cut", "drop", "repeat", "move", "fill")))
        if kind == "flip" and start < size:
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "integer":
            value, width = draw(st.sampled_from(_INTEGERS)), draw(st.sampled_from((1, 2, 4, 8)))
            order = draw(st.sampled_from(("little", "big")))
            number = (value % (1 << 8 * width)).to_bytes(width, order)
            data[start : start + width] = number
        elif kind == "cut":
            del data[start:]
        elif kind == "drop":
            del data[start:end]
        elif kind == "repeat":
            data[end:end] = data[start:end] * draw(st.integers(1, 3))
        elif kind == "move":
            part, place = data[start:end], draw(st.integers(0, size))
            data[place:place] = part
        elif kind == "fill":
            data[start:end] = bytes([draw(st.sampled_from((0, 255)))]) * (end - start)
    return bytes(data)


@st.composite
def damaged_text(draw: Any, content: bytes) -> bytes:
    """A text of numbers with words replaced, and lines lost or repeated; or damaged as bytes."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged_bytes(content))
    lines = content.decode().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        if not lines:
            break
        row = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(("word", "word", "word", "lose word", "lose", "repeat")))
        if kind == "lose":
            del lines[row]
        elif kind == "repeat":
            lines.insert(draw(st.integers(0, len(lines))), lines[row])
        else:
            between = "," if "," in lines[row] else " "
            words = lines[row].split(between)
            place = draw(st.integers(0, len(words) - 1))
            if kind == "word":
                words[place] = draw(st.sampled_from(_WORDS))
            else:
                del words[place]
            lines[row] = between.join(words)
    return ("\n".join(lines) + "\n").encode()


@st.composite
def damaged_json(draw: Any, content: bytes) -> bytes:
    """JSON with values of other types and sizes, entries lost or repeated; or damaged as bytes."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged_bytes(content))
    root = [json.loads(content)]
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(root, shallow=draw(st.booleans()))) or [(root, 0)]
        holder, place = draw(st.sampled_from(places))
        value = holder[place]
        kinds = ["value", "text", "number", "number", "lose", "wrap"]
        kinds += ["scale", "scale"] if _is_number(value) and abs(value) < 1e300 else []
        kinds += ["repeat"] if isinstance(value, list) and value else []
        kind = draw(st.sampled_from(kinds))
        if kind == "value":
            holder[place] = copy.deepcopy(draw(st.sampled_from(_VALUES)))
        elif kind == "text":
            holder[place] = draw(st.sampled_from(_TEXTS))
        elif kind == "number":
            holder[place] = draw(st.sampled_from(_NUMBERS))
        elif kind == "lose" and holder is not root:
            del holder[place]
        elif kind == "wrap":
            holder[place] = [copy.deepcopy(value)]
        elif kind == "scale":
            holder[place] = value * draw(st.sampled_from((-1, 1e-9, 1.001, 1e9, 1e30)))
        elif kind == "repeat":
            value.append(copy.deepcopy(value[draw(st.integers(0, len(value) - 1))]))
    text = json.dumps(root[0])
    for mark, meant in _MARKS.items():
        text = text.replace(json.dumps(mark), meant)
    return text.encode()


@st.composite
def damaged_arrays(draw: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Named arrays of which some have other values, shapes or types, or are gone."""
    arrays = {name: array.copy() for name, array in arrays.items()}
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(arrays)))
        array = arrays[name]
        kind = draw(st.sampled_from(("value", "value", "type", "cut", "more", "flat", "lose")))
        if kind == "lose" and len(arrays) > 1:
            del arrays[name]
        elif kind == "type" and array.dtype.kind != "c":
            kinds = (np.float16, np.int8, np.uint64, np.complex64, bool, "S3", "U2", "M8[s]")
            with (
                np.errstate(all="ignore"),
                contextlib.suppress(ValueError, TypeError, RuntimeError),
            ):
                arrays[name] = array.astype(draw(st.sampled_from(kinds)))
        elif kind == "cut" and array.ndim:
            axis = draw(st.integers(0, array.ndim - 1))
            arrays[name] = np.take(array, range(array.shape[axis] // 2), axis)
        elif kind == "more":
            arrays[name] = array[None]
        elif kind == "flat":
            arrays[name] = array.reshape(-1)
        elif array.size and np.issubdtype(array.dtype, np.floating):
            flat = array.reshape(-1)
            place = draw(st.integers(0, array.size - 1))
            value = draw(st.sampled_from([v for v in _NUMBERS if abs(v) < 1e308 or v != v]))
            with np.errstate(all="ignore"):
                flat[place] = value
            arrays[name] = flat.reshape(array.shape)
    return arrays


def npy(array: np.ndarray) -> bytes:
    """An array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of an uncompressed .npz file, so that damage reaches their headers."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy_that_claims(shape: str, *, descr: str = "'<f8'") -> bytes:
    """A .npy file of no data whose header claims a shape."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def reads_or_refuses(read: Callable[[], Any], *names: str | Path) -> bool:
    """Runs a reader on a damaged file and checks the law of this module.

    Args:
      names: any of them must be in the message; the file, or its folder where others are read.
    Returns:
      Whether it was read.
    """
    with _bounded():
        try:
            read()
        except (ValueError, OSError) as error:
            refusal = error
        else:
            return True
    kind, message = type(refusal), str(refusal)
    assert kind is ValueError or issubclass(kind, OSError), f"{kind.__name__}: {message}"
    assert any(str(name) in message for name in names), f"{message} does not name {names}"
    return False


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Little more memory than now, and an end."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)

    def hangs(number: int, frame: Any) -> None:
        raise AssertionError(f"the reader has not come back after {PATIENCE} s")

    before = signal.signal(signal.SIGPROF, hangs)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _places(holder: Any, *, shallow: bool) -> Iterator[tuple[Any, Any]]:
    """Where values are in a document; `shallow` leaves out numbers in lists, which are most."""
    items = holder.items() if isinstance(holder, dict) else enumerate(holder)
    for place, value in items:
        if not (shallow and isinstance(holder, list) and _is_number(value)):
            yield holder, place
        if isinstance(value, dict | list):
            yield from _places(value, shallow=shallow)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
