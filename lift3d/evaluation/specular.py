"""Specularity, measured where it can be seen: in the pixels that the true highlight lights.

Specular *radiance* is what a highlight adds to the color, s k_d (r.o)^p (shading.py). It is nearly 0 almost
everywhere, so that errors of the intensity s over whole faces favor maps that explain no highlight. Here only
pixels count that are common to both masks (metrics.py) and whose true radiance exceeds ``LIT``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.evaluation.benchmark import Prediction
from lift3d.evaluation.metrics import common_pixels
from lift3d.scene.cameras import Cameras, pixel_grid
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, shading
from lift3d.synthetic.render import HeadRender

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


def specular_rows(predictions: Sequence[Prediction], heads: Sequence[HeadRender]) -> list[SpecularRow]:
    """Rows "predicted", "best constant" (the intensity and exponent of least error, on the predicted normals
    under the predicted lights: what a map of s must beat) and "black". ``ConfigError`` if no pixel is lit.
    """
    true = torch.stack([_radiance(*_true_surface(h), h.view, h.light) for h in heads])
    masks = torch.cat([p.maps.mask for p in predictions])
    lit = common_pixels(masks, torch.stack([h.mask for h in heads])) & (true > LIT)
    if not lit.any():
        raise ConfigError(
            f"no common pixel of {len(heads)} images has a true radiance above {LIT}: add images"
        )
    true_s = torch.stack([h.specular for h in heads])
    predicted = torch.cat([p.maps.specular_shading[:, 0] for p in predictions])
    intensity = torch.cat([p.maps.specular for p in predictions])
    constants = []
    for exponent in EXPONENTS:
        lobe = torch.stack([_constant_lobe(p, exponent) for p in predictions])
        constants += [_row("best constant", s * lobe, torch.full_like(true, s), true, true_s, lit)
                      for s in INTENSITIES]  # fmt: skip
    black = torch.zeros_like(true)
    return [
        _row("predicted", predicted, intensity, true, true_s, lit),
        min(constants, key=lambda row: row.error),
        _row("black", black, black, true, true_s, lit),
    ]


def _row(
    name: str,
    radiance: Float[Tensor, "n h w"],
    intensity: Float[Tensor, "n h w"],
    true: Float[Tensor, "n h w"],
    true_intensity: Float[Tensor, "n h w"],
    lit: Bool[Tensor, "n h w"],
) -> SpecularRow:
    a, b = radiance[lit].double(), true[lit].double()
    x, y = a - a.mean(), b - b.mean()
    size = (x.square().sum() * y.square().sum()).sqrt()
    correlation = (x * y).sum() / size if size > 1e-12 else torch.zeros(())
    ratio = intensity[lit].mean() / true_intensity[lit].mean()
    return SpecularRow(name, (a - b).abs().mean().item(), float(correlation), ratio.item())


def _true_surface(head: HeadRender) -> tuple[Float[Tensor, "h w 3"], Material]:
    return head.normal, Material(head.albedo, head.specular[..., None], head.shininess[..., None])


def _constant_lobe(prediction: Prediction, exponent: float) -> Float[Tensor, "h w"]:
    """Radiance of intensity 1 and one exponent on the predicted normals."""
    maps = prediction.maps
    one = torch.ones_like(maps.specular[0])[..., None]
    material = Material(maps.albedo[0], one, exponent * one)
    return _radiance(maps.normals[0], material, prediction.view, prediction.light)


def _radiance(
    normal: Float[Tensor, "h w 3"], material: Material, view: Float[Tensor, "6"], light: Float[Tensor, "5"]
) -> Float[Tensor, "h w"]:
    """s k_d (r.o)^p of every pixel; 0 where there is no normal."""
    size = normal.shape[0]
    pixels = pixel_grid(size, normal.device)[None]
    _, directions = Cameras.from_view(view[None]).rays(pixels, size)
    to_camera = -directions.view(size, size, 3)
    return shading(normal, to_camera, material, Lights.from_vector(light)).specular[..., 0]
