"""Adaptive discriminator augmentation: what keeps a discriminator from learning a small data set by heart.

Source: Karras et al., "Training Generative Adversarial Networks with Limited Data" (ADA), 2020, section 2 and
appendix B. Whatever the discriminator sees, real or fake, is moved and recolored at random, each kind of
change with probability p. As long as p stays below about 0.8 the generator still learns the images as they
are: the unchanged ones remain the most frequent (section 2.2). p follows the discriminator (``adapted``).
Two simplifications: images are resampled bilinearly (there: with wavelets), and there is no additive noise
and no cutout, as in the published configuration "bgc".

Positions are in half image sides from the center, x to the right, y down; ``motions`` are inverse: they map a
position in the new image to the one in the old image that is seen there. Colors are in [-1, 1]. All is linear
in the images and differentiable twice with respect to them (R1).
"""

from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor

MAX_P = 0.8  # beyond, changed images outnumber the others and the generator learns the changes
TARGET = 0.6  # of the mean sign of the logits of training images
SIGN_BATCHES = 4  # half-life of that mean


@dataclass(frozen=True)
class Augmentation:
    """What is done to each of n images."""

    motions: Float[Tensor, "n 3 3"]
    colors: Float[Tensor, "n 3 4"]  # new color = colors[:, :, :3] @ color + colors[:, :, 3]


def adapted(p: float, mean_sign: float, n_images: int, full_range: float) -> float:
    """p after n images: up if the logits of training images are positive more often than ``TARGET`` allows,
    else down, from 0 to 1 within ``full_range`` images.
    """
    step = n_images / full_range
    return min(max(p + step if mean_sign > TARGET else p - step, 0.0), MAX_P)


def draw_augmentation(n: int, size: int, p: float, rng: torch.Generator) -> Augmentation:
    """Random changes for n images of ``size`` pixels: appendix B, "pixel blitting", "general geometric
    transformations" and "color transformations", in this order.
    """
    chance = _Chance(n, rng)
    motions = chance.identity(3)
    for inverse in _motions(chance, size, p):
        motions = motions @ inverse
    colors = chance.identity(4)
    for change in _recolorings(chance, p):
        colors = change @ colors
    return Augmentation(motions, colors[:, :3])


def augment(images: Float[Tensor, "n 3 h h"], change: Augmentation) -> Float[Tensor, "n 3 h h"]:
    """The images moved, then recolored."""
    moved, colors = warp(images, change.motions), change.colors.to(images)
    return torch.einsum("nij,njhw->nihw", colors[:, :, :3], moved) + colors[:, :, 3, None, None]


def warp(images: Float[Tensor, "n c h h"], motions: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n c h h"]:
    """Images as inverse motions show them: bilinear, mirrored at their edges.

    ``grid_sample`` does the same, but can be differentiated only once.
    """
    n, c, size, _ = images.shape
    center = (torch.arange(size, device=images.device, dtype=images.dtype) * 2 + 1) / size - 1
    y, x = (axis.flatten() for axis in torch.meshgrid(center, center, indexing="ij"))
    places = motions.to(images) @ torch.stack((x, y, torch.ones_like(x)))  # [n, 3, pixels]
    pixels = _mirrored((places[:, :2] + 1) * (size / 2) - 0.5, size)
    first = pixels.floor().clamp(0, size - 1)
    share = (pixels - first)[:, :, None]  # [n, (x, y), 1, pixels]
    (x0, y0), (x1, y1) = (corner.long().unbind(1) for corner in (first, (first + 1).clamp(max=size - 1)))
    flat = images.reshape(n, c, -1)

    def at(y: Tensor, x: Tensor) -> Tensor:
        return flat.gather(2, (y * size + x)[:, None].expand(-1, c, -1))

    above = at(y0, x0).lerp(at(y0, x1), share[:, 0])
    below = at(y1, x0).lerp(at(y1, x1), share[:, 0])
    return above.lerp(below, share[:, 1]).reshape(images.shape)


def _mirrored(position: Tensor, size: int) -> Tensor:
    """Positions in pixels, mirrored at the edges -0.5 and size - 0.5 until they are inside."""
    there_and_back = (position + 0.5).remainder(2 * size)
    return (size - (there_and_back - size).abs() - 0.5).clamp(0, size - 1)


class _Chance:
    """Random numbers for a batch of n; every one is the neutral ``rest`` except with probability p."""

    def __init__(self, n: int, rng: torch.Generator) -> None:
        self.n, self.rng = n, rng

    def normal(self, p: float, std: float, columns: int = 1) -> Float[Tensor, "n k"]:
        """N(0, std^2), else 0."""
        values = torch.randn(self.n, columns, generator=self.rng, device=self.rng.device) * std
        return values * self._happens(p)

    def uniform(self, p: float, low: float, high: float, columns: int = 1) -> Float[Tensor, "n k"]:
        """U(low, high), else 0."""
        values = torch.rand(self.n, columns, generator=self.rng, device=self.rng.device)
        return (values * (high - low) + low) * self._happens(p)

    def number(self, p: float, below: int) -> Float[Tensor, "n 1"]:
        """One of 0, 1, ..., below - 1, else 0."""
        return self.uniform(p, 0.0, float(below)).floor()

    def _happens(self, p: float) -> Tensor:
        return (torch.rand(self.n, 1, generator=self.rng, device=self.rng.device) < p).float()

    def identity(self, size: int) -> Float[Tensor, "n k k"]:
        return torch.eye(size, device=self.rng.device).repeat(self.n, 1, 1)


def _motions(chance: _Chance, size: int, p: float) -> list[Float[Tensor, "n 3 3"]]:
    """Inverses of the motions, in the order in which they happen."""
    p_turn = 1 - (1 - p) ** 0.5  # of either of two rotations, so that one happens with probability p
    zoom, stretch = chance.normal(p, 0.2 * log(2)).exp(), chance.normal(p, 0.2 * log(2)).exp()
    return [
        _scaling(1 - 2 * chance.number(p, 2), torch.ones_like(zoom)),  # mirrored
        _rotation(chance.number(p, 4) * (pi / 2)),
        _translation((chance.uniform(p, -0.125, 0.125, 2) * size).round() * (2 / size)),
        _scaling(zoom, zoom),
        _rotation(chance.uniform(p_turn, -pi, pi)),
        _scaling(stretch, 1 / stretch),
        _rotation(chance.uniform(p_turn, -pi, pi)),
        _translation(chance.normal(p, 0.125, 2) * 2),
    ]


def _recolorings(chance: _Chance, p: float) -> list[Float[Tensor, "n 4 4"]]:
    """Affine maps of colors, in the order in which they happen."""
    along = torch.full((3, 3), 1 / 3, device=chance.rng.device)  # projects on the gray axis
    across = torch.eye(3, device=chance.rng.device) - along
    brightness = _affine(chance.identity(3), chance.normal(p, 0.2).expand(-1, 3))
    contrast = chance.normal(p, 0.5 * log(2)).exp()[:, :, None] * chance.identity(3)
    flip = chance.number(p, 2)[:, :, None]
    saturation = chance.normal(p, log(2)).exp()[:, :, None]
    linear = (
        contrast,
        chance.identity(3) - 2 * flip * along,  # light and dark exchanged
        _about_gray(chance.uniform(p, -pi, pi)),
        along + saturation * across,
    )
    return [brightness, *(_affine(matrix) for matrix in linear)]


def _about_gray(angle: Float[Tensor, "n 1"]) -> Float[Tensor, "n 3 3"]:
    """Hue turned: rotations of colors about the gray axis (Rodrigues)."""
    k = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=angle.device) / 3**0.5
    angle = angle[:, :, None]
    return torch.eye(3, device=angle.device) + angle.sin() * k + (1 - angle.cos()) * (k @ k)


def _affine(linear: Float[Tensor, "n k k"], offset: Float[Tensor, "n k"] | None = None) -> Tensor:
    """Homogeneous matrices, [n, k + 1, k + 1]."""
    n, k, _ = linear.shape
    matrix = torch.zeros(n, k + 1, k + 1, device=linear.device)
    matrix[:, :k, :k], matrix[:, k, k] = linear, 1.0
    if offset is not None:
        matrix[:, :k, k] = offset
    return matrix


def _scaling(x: Float[Tensor, "n 1"], y: Float[Tensor, "n 1"]) -> Float[Tensor, "n 3 3"]:
    """Inverse of scaling by x and y."""
    return _affine(torch.diag_embed(1 / torch.cat((x, y), dim=1)))


def _rotation(angle: Float[Tensor, "n 1"]) -> Float[Tensor, "n 3 3"]:
    """Inverse of turning by an angle from the x to the y axis."""
    c, s = angle.cos(), angle.sin()
    return _affine(torch.cat((c, s, -s, c), dim=1).unflatten(1, (2, 2)))


def _translation(shift: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3 3"]:
    """Inverse of moving by (x, y)."""
    return _affine(torch.eye(2, device=shift.device).repeat(len(shift), 1, 1), -shift)
