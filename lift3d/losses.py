"""The losses of method.md, section 3, as pure functions that return scalars.

A *masked mean* of values v under a mask m in [0, 1], which broadcasts against v, is sum(m v) / sum(m) over
the whole batch, with m expanded to the shape of v; it is 0 under an empty mask. Rays and patches carry their
channels last ([..., c]), images first ([n, c, h, w]). The weights of losses are the caller's (Tables 4 to 6).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Mask = Bool[Tensor, "..."] | Float[Tensor, "..."]  # 1 (True) counts, 0 does not
Features = Callable[[Tensor], list[Tensor]]  # images [n, 3, h, w] in [-1, 1] -> feature maps [n, c, h', w']

BETA = 3e-5  # of the chromaticity-based smoothness, Table 4
CHROMATICITY_EPS = 0.05  # keeps the chromaticity of black pixels finite and quiet
OFFSET_WEIGHT = 0.01  # of the latent offset in the projection loss (from GAN2Shape)


def masked_mean(values: Float[Tensor, "..."], mask: Mask | None = None) -> Float[Tensor, ""]:
    """Mean of ``values`` weighted by ``mask`` (module docstring); the plain mean without one."""
    if mask is None:
        return values.mean()
    weights = mask.to(values.dtype).expand_as(values)
    return (values * weights).sum() / weights.sum().clamp_min(1e-8)


def l1(
    predicted: Float[Tensor, "*s"], target: Float[Tensor, "*s"], mask: Mask | None = None
) -> Float[Tensor, ""]:
    """Masked mean of |predicted - target|; images of rays [..., 3] or maps [n, c, h, w] alike."""
    return masked_mean((predicted - target).abs(), mask)


def eikonal(gradient: Float[Tensor, "*s 3"], weights: Mask | None = None) -> Float[Tensor, ""]:
    """Mean of (|gradient of the SDF| - 1)^2 over the sampled points; ``weights`` [*s] may leave points out.

    Supplement, section 1, L_eik; its weight is 0.1. Differentiable at a gradient of 0.
    """
    length = (gradient.square().sum(-1) + 1e-12).sqrt()
    return masked_mean((length - 1.0).square(), weights)


def view_light(
    view: Float[Tensor, "n 6"],
    view_target: Float[Tensor, "n 6"],
    light: Float[Tensor, "n k"],
    light_target: Float[Tensor, "n k"],
) -> Float[Tensor, ""]:
    """Squared distance of predicted and sampled view and light, as tanh values (``to_tanh`` of encoders.py).

    Sum over components, mean over images; its weight is lambda_vl (Table 4).
    """
    return ((view - view_target).square().sum(-1) + (light - light_target).square().sum(-1)).mean()


def mask_bce(accumulated: Float[Tensor, "*s"], mask: Mask) -> Float[Tensor, ""]:
    """Binary cross-entropy of the rays' accumulated weights and the mask [*s], as in NeuS; weight lambda_m.

    Weights are clipped to [1e-3, 1 - 1e-3], so a ray beyond either end gets no gradient.
    """
    return F.binary_cross_entropy(accumulated.clamp(1e-3, 1.0 - 1e-3), mask.to(accumulated.dtype))


def chromaticity(image: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s 3"]:
    """rgb / (r + g + b + 0.05) of colors in [0, 1]: free of shading where the light is white."""
    return image / (image.sum(-1, keepdim=True) + CHROMATICITY_EPS)


def smoothness(
    material: Float[Tensor, "n p q c"],
    image: Float[Tensor, "n p q 3"],
    mask: Bool[Tensor, "n p q"] | None = None,
    beta: float = BETA,
) -> Float[Tensor, ""]:
    """Chromaticity-based smoothness of a material map on patches: it may change only where chromaticity does.

    Mean over pairs of 4-neighbors i, j, both inside the mask, and over channels, of
    exp(-|chi_i - chi_j|^2 / beta) |a_i - a_j|, with chi of the observed ``image`` in [0, 1]. In single
    precision: one step of 8-bit color moves chi by about sqrt(beta) / 2. Weights: lambda_reg1 (albedo),
    lambda_reg2 (specularity).
    """
    a, chi = material.float(), chromaticity(image.float())
    inside = torch.ones_like(a[..., :1]) if mask is None else mask[..., None].float()
    total, count = a.new_zeros(()), a.new_zeros(())
    for axis in (1, 2):
        similar = torch.exp(-chi.diff(dim=axis).square().sum(-1, keepdim=True) / beta)
        size = a.shape[axis] - 1
        pairs = inside.narrow(axis, 1, size) * inside.narrow(axis, 0, size)
        total = total + (pairs * similar * a.diff(dim=axis).abs()).mean(-1).sum()
        count = count + pairs.sum()
    return total / count.clamp_min(1.0)


def features_l1(
    features: Features,
    predicted: Float[Tensor, "n 3 h w"],
    target: Float[Tensor, "n 3 h w"],
    mask: Mask | None = None,
    divided: Callable[[Callable], Callable] = lambda function: function,
) -> Float[Tensor, ""]:
    """Sum over feature maps of their masked L1 distance; the mask [n, 1, h, w] is averaged down to each map.

    No gradient flows into ``target``. ``divided`` may share out the images (train/ranks.py).
    """

    def sums(predicted: Tensor, target: Tensor, mask: Tensor | None) -> Float[Tensor, "n levels 2"]:
        """Of every image and map: the weighted differences, and the weights."""
        with torch.no_grad():
            targets = features(target)
        found = []
        for p, t in zip(features(predicted), targets, strict=True):
            if mask is None:
                weights = torch.ones_like(p[:, :1, :1, :1])
                size = weights.flatten() * p[0].numel()
            else:
                weights = F.interpolate(mask.to(p.dtype), p.shape[-2:], mode="area")
                size = weights.sum((1, 2, 3)) * p.shape[1]
            found.append(torch.stack((((p - t).abs() * weights).sum((1, 2, 3)), size), -1))
        return torch.stack(found, 1)

    difference, size = divided(sums)(predicted, target, mask).sum(0).unbind(-1)
    return (difference / size.clamp_min(1e-8)).sum()


def projection(
    projected: Float[Tensor, "n 3 h w"],
    pseudo: Float[Tensor, "n 3 h w"],
    mask: Mask | None,
    offset: Float[Tensor, "n ..."],
    features: Features,
    lambda_d: float = 1.0,
    offset_weight: float = OFFSET_WEIGHT,
    divided: Callable[[Callable], Callable] = lambda function: function,
) -> dict[str, Float[Tensor, ""]]:
    """What trains E_w in step 2: projections G(w + offset) against pseudo images, both in [-1, 1].

    The "total" of masked L1 ("pixels") + lambda_d * masked L1 of discriminator "features" + 0.01 * mean
    square of the latent "offset"; mask [n, 1, h, w].
    """
    pixels = l1(projected, pseudo.detach(), mask)
    feature = features_l1(features, projected, pseudo.detach(), mask, divided)
    size = offset.square().mean()
    total = pixels + lambda_d * feature + offset_weight * size
    return {"total": total, "pixels": pixels, "features": feature, "offset": size}
