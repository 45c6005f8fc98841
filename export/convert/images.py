"""PNG files with 8 bits from uint8 and with 16 bits from uint16 arrays; values in 16 bits."""

import math
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped, UInt16
from numpy import ndarray

LEVEL = 6  # of zlib
_COLOR_TYPE = {1: 0, 3: 2, 4: 6}  # PNG's: gray, RGB, RGBA, by channels


def png(pixels: Shaped[ndarray, "h w *c"]) -> bytes:
    """A PNG of uint8 or uint16 pixels: gray [h, w], RGB [h, w, 3] or RGBA [h, w, 4].

    Pillow has no 16-bit RGB. Each row is stored as its difference to the one above (filter 2 of the
    specification, ISO/IEC 15948).
    """
    height, width = pixels.shape[:2]
    depth, channels = 8 * pixels.itemsize, pixels.size // (height * width)
    rows = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    filtered = np.full((height, 1 + rows.shape[1]), 2, np.uint8)
    filtered[:, 1:] = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOR_TYPE[channels], 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), LEVEL)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def write_png(path: Path, pixels: Shaped[ndarray, "h w *c"]) -> None:
    """``png`` as a file; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(pixels))


def quantized(
    values: Float[ndarray, "*s"], signed: bool = False
) -> tuple[UInt16[ndarray, "*s"], float, float]:
    """Values in 16 bits, and (scale, offset) with values = offset + scale * stored up to scale / 2.

    The range is 0 to the next power of two, or symmetric about 0 if ``signed`` or if there are negative
    values. Without negative ones 0 stays exactly 0.
    """
    bound = 2.0 ** math.ceil(math.log2(max(float(np.abs(values).max(initial=0.0)), 2.0**-16)))
    offset = -bound if signed or (values < 0).any() else 0.0
    scale = (bound - offset) / 65535
    return np.rint((values.astype(np.float64) - offset) / scale).astype(np.uint16), scale, offset
