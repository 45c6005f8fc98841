"""Errors against ground truth, one value per image (the protocol of the demo-heads benchmark).

Maps are [n, h, w, ...] with boolean masks [n, h, w]. Errors of maps are taken over the *common pixels*:
inside both masks, then eroded by one pixel (a pixel stays if its 3 x 3 neighborhood is inside; outside the
frame is outside). An image without common pixels has infinite errors; ``mean`` leaves it out and counts it.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from lift3d.render.maps import Maps, Renders
from lift3d.scene.cameras import rotation
from lift3d.scene.geometry import angle_deg
from lift3d.scene.lights import Lights

PerImage = Float[Tensor, " n"]


@dataclass(frozen=True)
class GeometryErrors:
    """Errors of predicted geometry."""

    side: PerImage  # scale-invariant depth error: standard deviation of the log z-depth difference, x 100
    mad: PerImage  # mean angle between normals, degrees
    iou: PerImage  # intersection over union of the masks (not eroded), 1 if both are empty


@dataclass(frozen=True)
class MaterialErrors:
    """Mean absolute errors of predicted reflectance."""

    albedo: PerImage  # over pixels and channels, [0, 1]
    albedo_scaled: PerImage  # the same after the best factor per image (albedo and light share one)
    specular: PerImage  # of the specular intensity, [0, 1]


@dataclass(frozen=True)
class Mean:
    """Mean over the images that have a value."""

    value: float  # infinity if no image has one
    n_empty: int  # images without


def geometry_errors(found: Renders, true: Renders) -> GeometryErrors:
    """SIDE, MAD and mask IoU, normals each in their camera's frame. Depths are z-depths > 0 inside the masks;
    anything may stand outside.
    """
    a, b = found.maps, true.maps
    angle = angle_deg(a.normals_in_camera(found.cameras), b.normals_in_camera(true.cameras))
    common = common_pixels(a.mask, b.mask)
    mad, iou = mean_inside(angle, common), mask_iou(a.mask, b.mask)
    return GeometryErrors(side(a.depth, b.depth, common), mad, iou)


def material_errors(found: Maps, true: Maps) -> MaterialErrors:
    """Errors of albedo and specular intensity."""
    common = common_pixels(found.mask, true.mask)
    a, b = (torch.where(common[..., None], x, torch.zeros_like(x)) for x in (found.albedo, true.albedo))
    factor = (a * b).sum((1, 2, 3), keepdim=True) / a.square().sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
    return MaterialErrors(
        albedo=mean_inside((a - b).abs().mean(-1), common),
        albedo_scaled=mean_inside((factor * a - b).abs().mean(-1), common),
        specular=mean_inside((found.specular - true.specular).abs(), common),
    )


def common_pixels(mask: Bool[Tensor, "n h w"], true_mask: Bool[Tensor, "n h w"]) -> Bool[Tensor, "n h w"]:
    """Pixels inside both masks, eroded by one pixel."""
    outside = F.pad((~(mask & true_mask)).float(), (1, 1, 1, 1), value=1.0)
    return F.max_pool2d(outside, 3, stride=1) == 0


def mean_inside(values: Float[Tensor, "n h w"], inside: Bool[Tensor, "n h w"]) -> PerImage:
    """Mean of ``values`` over ``inside``; infinity where that is empty."""
    n = inside.sum((1, 2))
    total = torch.where(inside, values, torch.zeros_like(values)).sum((1, 2))
    return torch.where(n > 0, total / n.clamp_min(1), torch.full_like(total, math.inf))


def side(
    depth: Float[Tensor, "n h w"], true_depth: Float[Tensor, "n h w"], inside: Bool[Tensor, "n h w"]
) -> PerImage:
    """100 x the standard deviation (of the population) of log depth - log true depth over ``inside``."""
    one = torch.ones_like(depth)
    difference = torch.where(inside, depth, one).log() - torch.where(inside, true_depth, one).log()
    center = torch.where(inside, difference, torch.zeros_like(difference)).sum((1, 2), keepdim=True)
    center = center / inside.sum((1, 2), keepdim=True).clamp_min(1)
    return 100.0 * mean_inside((difference - center).square(), inside).sqrt()


def mask_iou(mask: Bool[Tensor, "n h w"], true_mask: Bool[Tensor, "n h w"]) -> PerImage:
    """Intersection over union, 1 if both masks are empty."""
    intersection, union = (mask & true_mask).sum((1, 2)), (mask | true_mask).sum((1, 2))
    return torch.where(union > 0, intersection / union.clamp_min(1), 1.0)


def view_error(view: Float[Tensor, "*s 6"], true_view: Float[Tensor, "*s 6"]) -> Float[Tensor, "*s"]:
    """Angle in degrees of the rotation between the two views' rotations; translations do not count."""
    a, b = (rotation(*v[..., :3].unbind(-1)) for v in (view, true_view))
    r = a.mT @ b
    skew = r - r.mT  # 2 sin(angle) times the axis' cross product matrix
    sine, cosine = skew.flatten(-2).norm(dim=-1) / math.sqrt(2.0), r.diagonal(dim1=-2, dim2=-1).sum(-1) - 1.0
    return torch.rad2deg(torch.atan2(sine, cosine))


def light_error(light: Float[Tensor, "*s 5"], true_light: Float[Tensor, "*s 5"]) -> Float[Tensor, "*s"]:
    """Angle in degrees between the directions of lights (k_a, k_d, l_x, l_y, k_n)."""
    return angle_deg(Lights.from_vector(light).direction, Lights.from_vector(true_light).direction)


def mean(values: PerImage) -> Mean:
    """Mean over the images whose value is finite, and how many there were."""
    finite = values[torch.isfinite(values)]
    value = finite.double().mean().item() if len(finite) else math.inf
    return Mean(value, len(values) - len(finite))
