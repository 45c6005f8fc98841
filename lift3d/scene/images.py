"""Changes of range, layout and size of images; every one of them stands here.

*Images* are what GANs draw and networks see: [-1, 1], channels first. *Colors* are what renderers draw:
[0, 1], channels last. Stored images are *bytes*, 0..255; a *picture* is a numpy array of bytes with channels
last.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor


def to_float(images: UInt8[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """0..255 -> [-1, 1]."""
    return images.float() / 127.5 - 1.0


def to_bytes(images: Float[Tensor, "*s"]) -> UInt8[Tensor, "*s"]:
    """[-1, 1] -> 0..255, rounded."""
    return ((images.clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)


def resize(images: Float[Tensor, "n 3 H H"], size: int) -> Float[Tensor, "n 3 h h"]:
    """Antialiased bilinear resizing."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)


def to_uint8(x: NDArray) -> NDArray[np.uint8]:
    """[0, 1] -> 0..255, rounded to nearest, clipped."""
    return np.clip(np.rint(np.asarray(x, np.float32) * 255.0), 0, 255).astype(np.uint8)


def colors_to_images(colors: Float[Tensor, "*s h w 3"]) -> Float[Tensor, "*s 3 h w"]:
    """[0, 1], channels last -> [-1, 1], channels first."""
    return colors.movedim(-1, -3) * 2 - 1


def images_to_colors(images: Float[Tensor, "*s 3 h w"]) -> Float[Tensor, "*s h w 3"]:
    """[-1, 1], channels first -> [0, 1], channels last."""
    return (images.movedim(-3, -1) + 1) / 2


def to_picture(colors: Float[Tensor, "*s h w 3"]) -> UInt8[np.ndarray, "*s h w 3"]:
    """Colors on any device as pictures."""
    return to_uint8(colors.detach().cpu().numpy())
