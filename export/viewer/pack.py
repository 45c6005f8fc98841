"""Arrays for the page: a length (uint32), that many bytes of JSON, and the arrays, each at a multiple of 4.

The JSON is ``{"about": {...}, "arrays": {name: {dtype, shape, start, scale, low}}}``, little-endian, starts
counted from the first byte after it. A value is low + scale * number. ``page/viewer.js`` reads the same.
"""

import json
import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

DTYPES = ("u1", "i2", "u2", "u4", "f4")


def quantize(array: NDArray, dtype: str, low: int | float, high: int | float) -> tuple[NDArray, float, float]:
    """Numbers whose range stands for [low, high], with scale and low of the module docstring."""
    info = np.iinfo(dtype)
    scale = (high - low) / (info.max - info.min) or 1.0
    numbers = np.rint((np.clip(array, low, high) - low) / scale) + info.min
    return numbers.astype(dtype), scale, low - info.min * scale


def pack(about: Mapping[str, object], arrays: Mapping[str, NDArray | tuple[NDArray, float, float]]) -> bytes:
    """Facts (JSON) and arrays, plain ones or ``quantize``'s, as bytes."""
    entries, parts, start = {}, [], 0
    for name, value in arrays.items():
        array, scale, low = value if isinstance(value, tuple) else (value, 1.0, 0.0)
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        data += b"\0" * (-len(data) % 4)
        entry = {"dtype": array.dtype.str[1:], "shape": array.shape, "start": start}
        entries[name] = entry | {"scale": scale, "low": low}
        parts.append(data)
        start += len(data)
    header = json.dumps({"about": about, "arrays": entries}).encode()
    header += b" " * (-len(header) % 4)
    return b"".join((struct.pack("<I", len(header)), header, *parts))


def unpack(data: bytes) -> tuple[dict, dict[str, NDArray]]:
    """Inverse of ``pack``: facts, and arrays as float32 where they were quantized."""
    (length,) = struct.unpack_from("<I", data)
    header = json.loads(data[4 : 4 + length])
    arrays = {}
    for name, entry in header["arrays"].items():
        count = int(np.prod(entry["shape"]))
        array = np.frombuffer(data, "<" + entry["dtype"], count, 4 + length + entry["start"])
        array = array.reshape(entry["shape"])
        plain = entry["scale"] == 1.0 and entry["low"] == 0.0
        arrays[name] = array if plain else (array * entry["scale"] + entry["low"]).astype(np.float32)
    return header["about"], arrays
