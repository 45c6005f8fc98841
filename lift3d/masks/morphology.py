"""Masks grown and shrunk: where objects surely are, where they are near, where their outlines are.

What lies beyond the edge of a picture counts neither as object nor as background."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

CHUNK = 64  # masks at a time
REACH = 4  # pixels on both sides of an outline


def grown(masks: Bool[Tensor, "*n h w"], reach: int) -> Bool[Tensor, "*n h w"]:
    """The pixels that have one of the mask within ``reach`` along both axes (dilation)."""
    parts = masks.reshape(-1, 1, *masks.shape[-2:]).split(CHUNK)
    wide = [F.max_pool2d(part.float(), 2 * reach + 1, 1, reach) > 0 for part in parts]
    return torch.cat(wide).view(masks.shape)


def interior(masks: Bool[Tensor, "*n h w"], reach: int = 1) -> Bool[Tensor, "*n h w"]:
    """The masks without their outermost pixels, which are mixed with the background (erosion)."""
    return ~grown(~masks, reach)


def near(masks: Bool[Tensor, "*n s s"]) -> Bool[Tensor, "*n s s"]:
    """The masks and what lies around them, up to a sixteenth of the side."""
    return grown(masks, masks.shape[-1] // 16)


def around_outline(masks: Bool[Tensor, "*n s s"]) -> Bool[Tensor, "*n s s"]:
    """Pixels within ``REACH`` of a mask's border."""
    return grown(masks, REACH) & ~interior(masks, REACH)
