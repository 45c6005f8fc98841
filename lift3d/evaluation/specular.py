"""Specularity, measured where it can be seen: in the pixels that the true highlight lights.

Specular *radiance* is what a highlight adds to the color, s k_d (r.o)^p (shading.py). It is nearly 0 almost
everywhere, so that errors of the intensity s over whole faces favor maps that explain no highlight. Here only
pixels count that are common to both masks (metrics.py) and whose true radiance exceeds ``LIT``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.evaluation.metrics import common_pixels
from lift3d.render.maps import Renders
from lift3d.scene.cameras import pixel_grid
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, shading

LIT = 0.02  # radiance, of [0, 1]: five steps of 8-bit color
INTENSITIES = tuple(0.05 * i for i in range(1, 9))  # that "best constant" chooses from
EXPONENTS = (8.0, 12.0, 20.0, 30.0, 50.0)


@dataclass(frozen=True)
class SpecularRow:
    """Errors over all lit pixels of all images together."""

    name: str
    error: float  # mean absolute error of the radiance
    correlation: float  # of predicted and true radiance; 0 where the prediction does not vary
    ratio: float  # mean predicted / mean true intensity s


def specular_rows(predicted: Renders, true: Renders) -> list[SpecularRow]:
    """Rows "predicted", "best constant" (the intensity and exponent of least error, on the predicted normals
    under the predicted lights: what a map of s must beat) and "black"; none if no common pixel is lit.
    """
    maps, radiance, intensity = predicted.maps, true.maps.specular_shading[:, 0], true.maps.specular
    lit = common_pixels(maps.mask, true.maps.mask) & (radiance > LIT)
    if not lit.any():
        return []
    b = radiance[lit].double()
    y = b - b.mean()

    def row(name: str, found: Float[Tensor, "n h w"], found_intensity: Float[Tensor, "n h w"]) -> SpecularRow:
        a = found[lit].double()
        x = a - a.mean()
        size = (x.square().sum() * y.square().sum()).sqrt()
        correlation = (x * y).sum() / size if size > 1e-12 else torch.zeros(())
        ratio = found_intensity[lit].mean() / intensity[lit].mean()
        return SpecularRow(name, (a - b).abs().mean().item(), float(correlation), ratio.item())

    lobes = [constant_lobe(predicted, exponent) for exponent in EXPONENTS]
    constants = [
        row("best constant", s * lobe, torch.full_like(lobe, s)) for lobe in lobes for s in INTENSITIES
    ]
    black = torch.zeros_like(radiance)
    return [
        row("predicted", maps.specular_shading[:, 0], maps.specular),
        min(constants, key=lambda row: row.error),
        row("black", black, black),
    ]


def constant_lobe(renders: Renders, exponent: float) -> Float[Tensor, "n h w"]:
    """Radiance of intensity 1 and one exponent on the normals of renders; 0 where there is no normal."""
    normals = renders.maps.normals
    size = normals.shape[-2]
    pixels = pixel_grid(size, normals.device).expand(len(normals), -1, -1)
    _, directions = renders.cameras.rays(pixels, size)
    one = torch.ones_like(normals[..., :1])
    lamps = Lights.from_vector(renders.light).per_point(2)
    material = Material(normals, one, exponent * one)  # whose albedo does not matter
    return shading(normals, -directions.view(normals.shape), material, lamps).specular[..., 0]
