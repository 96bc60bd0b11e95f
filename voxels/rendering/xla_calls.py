"""Lets compiled programs on a CPU call a Python function with NumPy views of their buffers.

`jax.pure_callback` copies every array on the way in and out, which takes longer than what is called
here, and turns some into JAX arrays that a busy thread pool has to fill first. XLA's own interface
for foreign calls hands over addresses. Its C structures are declared below as far as they are read,
as they are from version 0.1 on; XLA refuses a version it no longer speaks, and a call whose
structures have other sizes is refused here.
Source: xla/ffi/api/c_api.h, which jaxlib brings along (`jax.ffi.include_dir()`); compared field by
field with those of jaxlib 0.10.2 and 0.12.0.
"""

import _thread
import ctypes
import threading
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any

import jax
import numpy as np

_METADATA, _EXECUTE = 1, 3
_UNKNOWN_ERROR = 2
_MAJOR, _MINOR = 0, 1
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
_registered: dict[str, Any] = globals().get("_registered", {})  # kept alive, also when reloaded
_lock = threading.Lock()


def register(name: str, function: Callable[..., None]) -> None:
    """Makes `jax.ffi.ffi_call(name, ..)` call a function on the host, from any thread of XLA.

    Args:
      function: called with the arguments and then the results to be written, as NumPy views that
        end with the call: int32, int64, float32 or float64. What it raises fails the program with
        its message.
    """
    with _lock:
        if name in _registered:
            return
        handler = _HANDLER(lambda frame: _handle(name, function, frame.contents))
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler), platform="cpu")
        _registered[name] = handler


def _handle(name: str, function: Callable[..., None], call: _Frame) -> int | None:
    if call.extension and call.extension.contents.kind == _METADATA:
        version = call.extension.contents.metadata.contents.version
        version.major, version.minor = _MAJOR, _MINOR
        return None
    try:
        if call.stage == _EXECUTE:
            if {call.args.struct_size, call.rets.struct_size} != {ctypes.sizeof(_Buffers)}:
                raise RuntimeError("this version of jaxlib makes foreign calls in another way")
            function(*_views(call.args), *_views(call.rets))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            _thread.interrupt_main()  # the program fails here; the interrupt is for its caller
        message = f"{name}: {type(error).__name__}: {error}".encode(errors="replace")
        asked = _Error(ctypes.sizeof(_Error), None, message, _UNKNOWN_ERROR)
        return call.api.contents.create_error(asked)
    return None


def _views(buffers: _Buffers) -> list[np.ndarray]:
    return [_view(buffers.items[i].contents) for i in range(buffers.size)]


def _view(buffer: _Buffer) -> np.ndarray:
    shape, dtype = buffer.dims[: buffer.rank], np.dtype(_DTYPES[buffer.dtype])
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size == 0:
        return np.zeros(shape, dtype)
    memory = (ctypes.c_char * size).from_address(buffer.data)
    return np.frombuffer(memory, dtype).reshape(shape)  # pyright: ignore
