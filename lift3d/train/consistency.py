"""View-light consistency: E_v and E_l against known views and lights."""

from dataclasses import fields

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lift3d import losses
from lift3d.model import LiftedGAN
from lift3d.scene.images import to_float
from lift3d.train.data import Images, mirrored


def inconsistency(model: LiftedGAN, images: Float[Tensor, "b 3 s s"], known: Images) -> Float[Tensor, ""]:
    """How far what E_v and E_l say of images in [-1, 1] is from their ``known`` views and lights."""
    e_v, e_l = model.view_encoder, model.light_encoder
    views, lights = e_v.to_tanh(known.views.to(images)), e_l.to_tanh(known.lights.to(images))
    return losses.view_light(e_v.tanh(images), views, e_l.tanh(images), lights)


def view_light_loss(
    model: LiftedGAN, projected: Images, clean: Images, rng: torch.Generator
) -> Float[Tensor, ""]:
    """Inconsistency with images of their own: they cost no rendering.

    Projections [n, m] know what was requested or their pseudo-labels. Where ``clean`` images know theirs,
    half of the images are such. Half of all images are mirrored, as objects are taken to be symmetric."""
    n, m = projected.batch_shape
    batch = model.config.batch
    i = torch.randint(n, (batch.n_view_light,), generator=rng)
    j = torch.randint(m, i.shape, generator=rng)
    flip = torch.rand(len(i), generator=rng) < 0.5
    known = projected[i, j]
    if clean.views is not None:
        some = clean[torch.randint(len(clean), (len(i) // 2,), generator=rng)]
        for f in fields(known):
            getattr(known, f.name)[: len(some)] = getattr(some, f.name)
    known = mirrored(known, flip)
    images = to_float(known.images.to(model.device))
    if batch.jitter:
        images = jittered(images, batch.jitter, rng)
    return inconsistency(model, images, known)


def jittered(
    images: Float[Tensor, "b 3 s s"], share: float, rng: torch.Generator
) -> Float[Tensor, "b 3 s s"]:
    """Every image stretched along both axes by up to ``share``, moved and slanted by half as much at most,
    its edge continued: sizes and proportions say nothing of views and lights.
    """
    n = len(images)
    draw = lambda limit: limit * (2 * torch.rand(n, generator=rng) - 1)  # noqa: E731
    zero = torch.zeros(n)
    x = torch.stack((1 + draw(share), draw(share / 2), draw(share / 2)), -1)
    y = torch.stack((zero, 1 + draw(share), draw(share / 2)), -1)
    grid = F.affine_grid(torch.stack((x, y), 1), list(images.shape), align_corners=False).to(images)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
