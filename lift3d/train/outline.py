"""The learned shape in the picture: how much it covers, that it has not vanished, and that its outline fits.

Where the background is not known, a ray that meets nothing shows the target itself: without masks, no object
is the best fit of all.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lift3d.config.schema import Preset
from lift3d.errors import TrainingDiverged
from lift3d.model import LiftedGAN
from lift3d.render.ray_sampling import stratified
from lift3d.render.surface_hits import first_hits
from lift3d.scene.geometry import ray_sphere
from lift3d.scene.images import to_float
from lift3d.scene.surface import Surface, signed_distance
from lift3d.train.log import REMEDY
from lift3d.train.pixels import at, pick, rays

GRID = 24  # rays per side
N_WATCHED = 4  # samples that are looked at
N_ALONG = 20  # samples along the ray of a pixel near it
SHARPNESS = 60.0  # 1 / world units: how fast it fades
LEAST = 0.1  # of the prior's area: a shape that covers less has vanished


@torch.no_grad()
def covered(model: LiftedGAN, images: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, " n"]:
    """Share of the picture that the shapes of images cover, seen from the mean view of the prior."""
    code = model.image_encoder(to_float(images.to(model.device)))
    view = model.config.view_prior.typical().to(code).expand(len(code), 6)
    pixels = torch.arange(GRID**2, device=code.device).expand(len(code), -1)
    return first_hits(model.surface(code), *rays(view, pixels, GRID))[1].float().mean(1)


def covered_by_prior(preset: Preset) -> float:
    """The same of the ellipsoid, from the front."""
    return math.pi / 4 * preset.radii[0] * preset.radii[1]


def require_object(model: LiftedGAN, images: UInt8[Tensor, "n 3 s s"], title: str) -> None:
    """Raises ``TrainingDiverged`` where the shapes have vanished, on average; ``title`` is the phase's.
    Before a known background they may: it shows wherever they are missing.
    """
    if model.config.background is not None:
        return
    area, prior = covered(model, images).mean().item(), covered_by_prior(model.config)
    if area < LEAST * prior:
        found = model.config.masks
        advice = "give masks: --masks auto or a folder" if found == "none" else f"look at the masks ({found})"
        raise TrainingDiverged(
            f"{title}: the shape has vanished, it covers {area:.1%} of the picture, the ellipsoid that it "
            f"started from {prior:.0%}; {REMEDY}: {advice}, then start anew with --overwrite"
        )


def outline_loss(
    surface: Surface,
    view: Float[Tensor, "b 6"],
    where: Bool[Tensor, "b s s"],
    mask: Bool[Tensor, "b s s"],
    n: int,
    rng: torch.Generator,
) -> Float[Tensor, ""]:
    """Cross-entropy of the mask and of how close the rays of n pixels come to the surface, ``where`` the
    outline is near (as in IDR, Yariv et al. 2020, eq. 7).
    """
    pixels = pick(where, n, rng)
    origins, directions = rays(view, pixels, mask.shape[-1])
    t, along = distances_along(surface, origins, directions, N_ALONG)
    sdf = surface.sdf(origins + t.gather(-1, along.argmin(-1, keepdim=True)) * directions)[0][..., 0]
    return F.binary_cross_entropy_with_logits(-SHARPNESS * sdf, at(mask, pixels).to(sdf))


@torch.no_grad()
def distances_along(
    surface: Surface, origins: Float[Tensor, "b n 3"], directions: Float[Tensor, "b n 3"], k: int
) -> tuple[Float[Tensor, "b n k"], Float[Tensor, "b n k"]]:
    """k even distances t along rays through the unit sphere, and the signed distances there."""
    first, last, _ = ray_sphere(origins, directions)
    t = stratified(first, last, k, None)
    points = origins[..., None, :] + t[..., None] * directions[..., None, :]
    return t, signed_distance(surface, points.flatten(1, 2)).view_as(t)
