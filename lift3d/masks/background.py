"""Masks of objects before a constant background."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, UInt8
from torch import Tensor

CHUNK = 64  # images at a time
TOLERANCE = 0.10  # of [0, 1]: a color channel that differs by more from the background may be object


def background_masks(
    images: UInt8[Tensor, "n 3 h w"], background: float, tolerance: float = TOLERANCE
) -> Bool[Tensor, "n h w"]:
    """Whatever differs from a constant background in [0, 1], holes filled: a highlight on a face is face.

    A pixel that the outline cuts is a mixture with the background: it counts if it differs at least half as
    much as the strongest of its 3 x 3 neighborhood, that is, if about half of it is covered.
    """
    from scipy.ndimage import binary_fill_holes

    found = np.empty(images[:, 0].shape, bool)
    for start in range(0, len(images), CHUNK):
        difference = (images[start : start + CHUNK].float() / 255.0 - background).abs().amax(1)
        strongest = F.max_pool2d(difference, 3, stride=1, padding=1)
        differs = (difference > tolerance) & (difference >= strongest / 2)
        for i, mask in enumerate(differs.cpu().numpy(), start):
            found[i] = binary_fill_holes(mask)
    return torch.from_numpy(found)
