"""The highlights that an image shows by its colors: what a surface mirrors has the color of the light, white
here, and not its own (the dichromatic reflection model, Shafer 1985). Shading says where highlights are only
for normals that are right to within their width. Colors say it without normals, and so tell these and the
light where a highlight is.

p pixels of each of b images; colors are in [0, 1].
"""

from jaxtyping import Bool, Float
from torch import Tensor

from lift3d import losses

NOISE = 0.05  # saturation at which colors are trusted by half: gray surfaces show no highlights
BRIGHTEST = 0.4  # radiance of a highlight, at most
DARKEST = 0.02  # albedo that a color can be told of


def separate(
    observed: Float[Tensor, "b p 3"], albedo: Float[Tensor, "b p 3"]
) -> tuple[Float[Tensor, "b p 1"], Float[Tensor, "b p 1"]]:
    """The white radiance h of colors e albedo + h, e and h by least squares, and how far it is to be trusted,
    from 0 for gray surfaces to 1 for saturated ones.
    """
    albedo = albedo.clamp_min(DARKEST)
    gray = albedo.sum(-1, keepdim=True)
    saturation = 3 * albedo.square().sum(-1, keepdim=True) - gray.square()  # sum of squared differences
    along = (observed * albedo).sum(-1, keepdim=True)
    white = albedo.square().sum(-1, keepdim=True) * observed.sum(-1, keepdim=True) - gray * along
    radiance = (white / saturation.clamp_min(1e-4)).clamp(0.0, BRIGHTEST)
    return radiance, saturation / (saturation + NOISE)


def highlight_loss(
    specular: Float[Tensor, "b p 1"],
    observed: Float[Tensor, "b p 3"],
    albedo: Float[Tensor, "b p 3"],
    counts: Bool[Tensor, "b p"],
) -> Float[Tensor, ""]:
    """Mean absolute difference of specular radiance and what colors show, where they can; the albedo, which
    tells the color of the surface, does not learn.
    """
    radiance, trust = separate(observed, albedo.detach())
    return losses.masked_mean((specular - radiance).abs(), trust * counts[..., None])
