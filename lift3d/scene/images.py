"""Changes of range, layout and size of images; every one of them stands here."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
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
