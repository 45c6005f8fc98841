"""Color conversions. Values are display-referred sRGB in [0, 1] unless a name says ``linear`` or ``uint8``.

The model shades display-referred values (method.md, section 2), so no training code calls the transfer curve;
exporters do.
"""

import numpy as np
from numpy.typing import NDArray


def srgb_to_linear(x: NDArray) -> NDArray:
    """IEC 61966-2-1 decoding of display values in [0, 1] to linear light."""
    x = np.asarray(x)
    return np.where(x <= 0.04045, x / 12.92, ((np.maximum(x, 0.0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: NDArray) -> NDArray:
    """IEC 61966-2-1 encoding of linear light in [0, 1] to display values."""
    x = np.asarray(x)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * np.maximum(x, 0.0) ** (1 / 2.4) - 0.055)
