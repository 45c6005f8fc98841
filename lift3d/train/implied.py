"""The albedo that an image implies, its brightness divided by the shading of a surface, and what shape and
F_m learn from it: between two pixels of one chromaticity it should not change (Retinex, Land and McCann
1971), but for edges, which a robust loss lets pass.

p pixels of each of b images, the second half of them neighbors of the first (pixels.py). Colors are in
[0, 1].
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lift3d import losses
from lift3d.scene.shading import Shading

SAME = 2e-4  # square of a difference in chromaticity at which pixels count exp(-1)
NEAR, NEAR_EDGE = 0.05, 0.1  # weight of neighbors; difference of the logarithm at an edge
FAR, FAR_EDGE = 0.2, 0.25  # of any two pixels
DARKEST = 0.03  # brightness below which an image says nothing of shading


@dataclass(frozen=True)
class Implied:
    """What pixels imply, and the pairs of them that are compared."""

    logarithm: Float[Tensor, "b p 1"]  # of the albedo; gradients reach the shading
    chroma: Float[Tensor, "b p 3"]
    counts: Bool[Tensor, "b p"]  # pixels that show the surface
    near: Int64[Tensor, "2 half"]  # pairs of neighbors
    far: Int64[Tensor, "2 p"]  # pairs of any two

    def alike(self, pairs: Int64[Tensor, "2 q"], same: float) -> Float[Tensor, "b q 1"]:
        """How surely pairs are of one material, by their chromaticity."""
        i, j = pairs
        difference = (self.chroma[:, i] - self.chroma[:, j]).square().sum(-1, keepdim=True)
        return torch.exp(-difference / same) * (self.counts[:, i] & self.counts[:, j])[..., None]

    def change(self, pairs: Int64[Tensor, "2 q"], edge: float) -> Float[Tensor, "b q 1"]:
        """Squared differences of the logarithm, in units of an edge's."""
        i, j = pairs
        return ((self.logarithm[:, i] - self.logarithm[:, j]) / edge).square()


def implied_albedo(
    observed: Float[Tensor, "b p 3"], factors: Shading, counts: Bool[Tensor, "b p"], rng: torch.Generator
) -> Implied:
    """What colors imply under the shading of a surface; every pixel is paired with a random one."""
    diffuse = observed.mean(-1, keepdim=True) - factors.specular
    logarithm = diffuse.clamp_min(DARKEST).log() - factors.diffuse.clamp_min(DARKEST).log()
    everywhere = torch.arange(observed.shape[1], device=observed.device)
    near = everywhere.view(2, -1)
    far = torch.stack((everywhere, torch.randperm(len(everywhere), generator=rng).to(observed.device)))
    return Implied(logarithm, losses.chromaticity(observed), counts, near, far)


def shape_loss(implied: Implied) -> Float[Tensor, ""]:
    """Robust differences of the implied albedo (Welsch), 0 where it changes nowhere."""
    return sum(
        weight * losses.masked_mean(1 - torch.exp(-implied.change(pairs, edge)), implied.alike(pairs, SAME))
        for weight, pairs, edge in ((NEAR, implied.near, NEAR_EDGE), (FAR, implied.far, FAR_EDGE))
    )


def smoothness(
    implied: Implied, values: Float[Tensor, "b p c"], pairs: Int64[Tensor, "2 q"], beta: float
) -> Float[Tensor, ""]:
    """Mean difference of F_m's values between pairs of one material, but for edges of the implied albedo."""
    gate = torch.exp(-implied.change(pairs, FAR_EDGE).detach())
    i, j = pairs
    return losses.masked_mean((values[:, i] - values[:, j]).abs(), implied.alike(pairs, beta) * gate)
