"""Where object masks of GAN images come from."""

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

TOLERANCE = 0.10  # of [0, 1]: a colour channel that differs by more from the background is object


def background_masks(
    images: UInt8[Tensor, "n 3 h w"], background: float, tolerance: float = TOLERANCE
) -> Bool[Tensor, "n h w"]:
    """Whatever differs from a constant background in [0, 1], holes filled: a highlight on a face is face."""
    from scipy.ndimage import binary_fill_holes

    differs = (images.float() / 255.0 - background).abs().amax(1) > tolerance
    return torch.from_numpy(np.stack([binary_fill_holes(m) for m in differs.cpu().numpy()]))
