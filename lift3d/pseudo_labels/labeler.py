"""What images show, whatever was requested of them: views by registration, lights by shading.

A network that learns views and lights only from projections as they were requested learns their artifacts,
and what they left undone. The mean look and shape of the category tell those of projections and of clean
samples alike.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lift3d.config.schema import Preset
from lift3d.model import LiftedGAN
from lift3d.pseudo_labels.lights import find_lights
from lift3d.pseudo_labels.views import CHUNK, Template, register
from lift3d.scene.images import to_float
from lift3d.scene.mesh import Mesh

N_CELLS = 64  # grid cells a side of the mean shape


@dataclass(frozen=True)
class Labeler:
    """Finds views and lights on the mean shape of a category."""

    config: Preset
    mesh: Mesh
    template: Template
    offset: Float[Tensor, "5"]  # of lights: the prior's mean is that of all samples

    def label(
        self, images: UInt8[Tensor, "n 3 s s"], masks: Bool[Tensor, "n s s"]
    ) -> tuple[Float[Tensor, "n 6"], Float[Tensor, "n 5"]]:
        """Views and lights of images."""
        views = self.template.find(images, masks)
        return views, find_lights(self.mesh, self.config.light_prior, images, masks, views) + self.offset


@torch.no_grad()
def new_labeler(model: LiftedGAN, images: UInt8[Tensor, "n 3 s s"], masks: Bool[Tensor, "n s s"]) -> Labeler:
    """Images of unlabeled samples, registered on the shape of their mean code. Views are nearly linear in w,
    so truncation by psi leaves psi times the prior's spread. The prior also settles the mean of their lights.
    """
    codes = [model.image_encoder(to_float(x.to(model.device))) for x in images.split(CHUNK)]
    mesh = model.geometry(torch.cat(codes).mean(0), N_CELLS)
    prior = model.config.view_prior
    prior = replace(prior, std=tuple(model.config.truncation * s for s in prior.std))
    template = register(mesh, prior, images, masks)
    raw = Labeler(model.config, mesh, template, torch.zeros(5, device=images.device))
    mean = raw.label(images, masks)[1].mean(0)
    return replace(raw, offset=model.config.light_prior.mean().to(mean) - mean)
