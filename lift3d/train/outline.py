"""How much of the picture the learned shape covers, and that it has not vanished.

Where the background is not known, a ray that meets nothing shows the target itself: without masks, no object
is the best fit of all.
"""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift3d.config.schema import Preset
from lift3d.errors import TrainingDiverged
from lift3d.model import LiftedGAN
from lift3d.render.surface_hits import first_hits
from lift3d.scene.cameras import Cameras, pixel_grid
from lift3d.scene.images import to_float
from lift3d.train.log import REMEDY

GRID = 24  # rays per side
N_WATCHED = 4  # samples that are looked at
LEAST = 0.1  # of the prior's area: a shape that covers less has vanished


@torch.no_grad()
def covered(model: LiftedGAN, images: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, " n"]:
    """Share of the picture that the shapes of images cover, seen from the mean view of the prior."""
    code = model.image_encoder(to_float(images.to(model.device)))
    view = torch.tensor(model.config.view_prior.mean).to(code).expand(len(code), 6)
    pixels = pixel_grid(GRID, code.device).expand(len(code), -1, -1)
    origins, directions = Cameras.from_view(view).rays(pixels, GRID)
    return first_hits(model.surface(code), origins, directions)[1].float().mean(1)


def covered_by_prior(preset: Preset) -> float:
    """The same of the ellipsoid, from the front."""
    return math.pi / 4 * preset.radii[0] * preset.radii[1]


def require_object(model: LiftedGAN, images: UInt8[Tensor, "n 3 s s"], title: str) -> None:
    """Raises ``TrainingDiverged`` where the shapes have vanished, on average; ``title`` is the phase's."""
    area, prior = covered(model, images).mean().item(), covered_by_prior(model.config)
    if area < LEAST * prior:
        found = model.config.masks
        advice = "give masks: --masks auto or a folder" if found == "none" else f"look at the masks ({found})"
        raise TrainingDiverged(
            f"{title}: the shape has vanished, it covers {area:.1%} of the picture, the ellipsoid that it "
            f"started from {prior:.0%}; {REMEDY}: {advice}, then start anew with --overwrite"
        )
