"""Lets compiled programs on a CPU call a Python function with NumPy views of their buffers.

`jax.pure_callback` copies every array on the way in and out, which takes longer than what is called
here, and turns some into JAX arrays that a busy thread pool has to fill first. XLA's own interface
for foreign calls hands over addresses. Its C structures are declared below as far as they are read;
all begin with their size, so later versions can only add to their ends.
Source: xla/ffi/api/c_api.h, which jaxlib brings along (`jax.ffi.include_dir()`).
"""

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any

import jax
import numpy as np

_METADATA, _EXECUTE = 1, 3
_UNKNOWN_ERROR = 2
_DTYPES = {4: np.int32, 5: np.int64, 11: np.float32, 12: np.float64}


class _Extension(ctypes.Structure):
    pass


_HEAD = [("struct_size", c_size_t), ("extension", POINTER(_Extension))]


class _Version(ctypes.Structure):
    _fields_ = [*_HEAD, ("major", c_int), ("minor", c_int)]


class _Metadata(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("version", _Version)]


_Extension._fields_ = [
    ("struct_size", c_size_t),
    ("kind", c_int),
    ("next", POINTER(_Extension)),
    ("metadata", POINTER(_Metadata)),
]


class _Error(ctypes.Structure):
    _fields_ = [*_HEAD, ("message", c_char_p), ("code", c_int)]


class _Api(ctypes.Structure):
    _fields_ = [
        *_HEAD,
        ("version", _Version),
        ("internal", c_void_p),
        ("create_error", ctypes.CFUNCTYPE(c_void_p, POINTER(_Error))),
    ]


class _Buffer(ctypes.Structure):
    _fields_ = [
        *_HEAD,
        ("dtype", c_int),
        ("data", c_void_p),
        ("rank", c_int64),
        ("dims", POINTER(c_int64)),
    ]


class _Buffers(ctypes.Structure):
    _fields_ = [
        *_HEAD,
        ("size", c_int64),
        ("kinds", c_void_p),
        ("items", POINTER(POINTER(_Buffer))),
    ]


class _Frame(ctypes.Structure):
    _fields_ = [
        *_HEAD,
        ("api", POINTER(_Api)),
        ("context", c_void_p),
        ("stage", c_int),
        ("args", _Buffers),
        ("rets", _Buffers),
    ]


_HANDLER = ctypes.CFUNCTYPE(c_void_p, POINTER(_Frame))
_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype, _capsule.argtypes = ctypes.py_object, [c_void_p, c_char_p, c_void_p]
_registered: dict[str, Any] = {}  # keeps what XLA calls alive


def register(name: str, function: Callable[..., None]) -> None:
    """Makes `jax.ffi.ffi_call(name, ..)` call a function on the host, from any thread of XLA.

    Args:
      function: called with the arguments and then the results to be written, as NumPy views that
        end with the call: int32, int64, float32 or float64. What it raises fails the program with
        its message.
    """
    if name in _registered:
        return

    def handle(frame: Any) -> int | None:
        call = frame.contents
        if call.extension and call.extension.contents.kind == _METADATA:
            version = call.extension.contents.metadata.contents.version
            version.major, version.minor = (
                call.api.contents.version.major,
                call.api.contents.version.minor,
            )
            return None
        try:
            if call.stage == _EXECUTE:
                function(*_views(call.args), *_views(call.rets))
        except BaseException as error:
            message = f"{name}: {type(error).__name__}: {error}".encode()
            asked = _Error(ctypes.sizeof(_Error), None, message, _UNKNOWN_ERROR)
            return call.api.contents.create_error(asked)
        return None

    _registered[name] = handler = _HANDLER(handle)
    address = ctypes.cast(handler, c_void_p)
    jax.ffi.register_ffi_target(name, _capsule(address, None, None), platform="cpu")


def _views(buffers: _Buffers) -> list[np.ndarray]:
    return [_view(buffers.items[i].contents) for i in range(buffers.size)]


def _view(buffer: _Buffer) -> np.ndarray:
    shape, dtype = buffer.dims[: buffer.rank], np.dtype(_DTYPES[buffer.dtype])
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size == 0:
        return np.zeros(shape, dtype)
    memory = memoryview((ctypes.c_char * size).from_address(buffer.data)).cast("B")
    return np.frombuffer(memory, dtype).reshape(shape)
