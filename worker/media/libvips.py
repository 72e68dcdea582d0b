"""libvips, as far as bands of a picture need it: opens a file of a known format and gives its rows, from the top down.

The package pyvips-binary has it as a module of cffi; these are the few functions of it that we call. Only used in the
decoding child (band_child.py). Source: libvips 8.18, "Introduction to libvips for writing bindings".
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

import numpy as np

from fleet.errors import UnsupportedMedia
from worker.contract import Array

#: Those that libvips itself lets strangers' files near, and that give rows one by one.
_LOADERS = {"jpeg": b"VipsForeignLoadJpeg", "png": b"VipsForeignLoadPng", "tiff": b"VipsForeignLoadTiff"}
Kind = Literal["jpeg", "png", "tiff"]
_STRING, _INT, _ENUM = b"gchararray", b"gint", b"VipsBandFormat"
#: VIPS_FORMAT_UCHAR and VIPS_FORMAT_USHORT.
_TYPES: dict[int, np.dtype[Any]] = {0: np.dtype(np.uint8), 2: np.dtype(np.uint16)}


class BrokenFile(Exception):
    """libvips could not read on."""


class Libvips:
    """One per process; not thread-safe. It uses one thread, keeps nothing, and reads no other formats."""

    def __init__(self) -> None:
        """Raises UnsupportedMedia `bands-unavailable` where it is not installed."""
        try:
            module: Any = import_module("_libvips")
        except ImportError as error:
            raise UnsupportedMedia(
                "pictures of so many pixels are read with libvips, which this worker does not have: install "
                "pyvips-binary there, or send the picture smaller",
                code="bands-unavailable",
            ) from error
        self._lib, self._ffi = module.lib, module.ffi
        if self._lib.vips_init(b"fleet") != 0:
            raise UnsupportedMedia("libvips could not be started", code="bands-unavailable")
        self._lib.vips_concurrency_set(1)
        self._lib.vips_cache_set_max(0)
        self._lib.vips_operation_block_set(b"VipsForeignLoad", 1)
        for loader in _LOADERS.values():
            self._lib.vips_operation_block_set(loader, 0)

    def opened(self, path: str, kind: Kind) -> "Rows":
        """Raises BrokenFile."""
        lib, ffi = self._lib, self._ffi
        operation = lib.vips_operation_new(f"{kind}load".encode())
        if operation == ffi.NULL:
            raise BrokenFile
        made = ffi.NULL
        try:
            self._set_string(operation, b"filename", path.encode())
            if lib.vips_object_set_from_string(ffi.cast("VipsObject *", operation), b"access=sequential,fail_on=error"):
                raise BrokenFile
            made = lib.vips_cache_operation_build(operation)
            if made == ffi.NULL:
                raise BrokenFile
            image = self._get(made, b"out", b"VipsImage", lib.g_value_get_object)
            return Rows(lib, ffi, ffi.cast("VipsImage *", image), self._get)
        finally:
            lib.vips_error_clear()
            if made != ffi.NULL:
                lib.vips_object_unref_outputs(ffi.cast("VipsObject *", made))
                lib.g_object_unref(ffi.cast("GObject *", made))
            lib.g_object_unref(ffi.cast("GObject *", operation))

    def _set_string(self, operation: Any, name: bytes, text: bytes) -> None:
        value = self._ffi.new("GValue *")
        self._lib.g_value_init(value, self._lib.g_type_from_name(_STRING))
        self._lib.g_value_set_string(value, text)
        self._lib.g_object_set_property(self._ffi.cast("GObject *", operation), name, value)
        self._lib.g_value_unset(value)

    def _get(self, thing: Any, name: bytes, kind: bytes, read: Callable[[Any], Any]) -> Any:
        value = self._ffi.new("GValue *")
        self._lib.g_value_init(value, self._lib.g_type_from_name(kind))
        self._lib.g_object_get_property(self._ffi.cast("GObject *", thing), name, value)
        # Not unset: the picture belongs to the value, and both to the process, which reads one picture and ends.
        return read(value)


class Rows:
    """An open picture. Rows are to be read from the top down."""

    def __init__(self, lib: Any, ffi: Any, image: Any, get: Callable[..., Any]) -> None:
        self._lib, self._ffi, self._image = lib, ffi, image
        self.width: int = get(image, b"width", _INT, lib.g_value_get_int)
        self.height: int = get(image, b"height", _INT, lib.g_value_get_int)
        self.channels: int = get(image, b"bands", _INT, lib.g_value_get_int)
        #: None for numbers that are neither bytes nor 16 bits.
        self.dtype = _TYPES.get(get(image, b"format", _ENUM, lib.g_value_get_enum))
        self._region = lib.vips_region_new(image)

    def read(self, top: int, count: int) -> Array:
        """[count, width, channels] of `dtype`. Raises BrokenFile, also for what is cut off, and MemoryError."""
        size = self._ffi.new("size_t *")
        found = self._lib.vips_region_fetch(self._region, 0, top, self.width, count, size)
        if found == self._ffi.NULL:
            told = self._ffi.string(self._lib.vips_error_buffer())
            self._lib.vips_error_clear()
            raise MemoryError if b"out of memory" in told else BrokenFile
        try:
            rows = np.frombuffer(bytes(self._ffi.buffer(found, size[0])), self.dtype)
        finally:
            self._lib.g_free(found)
        shaped: Array = rows.reshape(count, self.width, self.channels)
        return shaped
