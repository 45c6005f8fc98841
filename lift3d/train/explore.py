"""Step 1 of a stage (method.md, section 3): the material of a fixed shape is fitted to images."""

import torch
from jaxtyping import Bool
from torch import Tensor

from lift3d import losses
from lift3d.masks.background import interior
from lift3d.model import LiftedGAN
from lift3d.scene.images import to_float
from lift3d.train.data import SampleSet, own_view_and_light
from lift3d.train.phase import Group, Losses
from lift3d.train.pixels import Smoothing, draw, draw_rays, near, shade_hits, smoothness


def explore_groups(model: LiftedGAN, with_code: bool) -> list[Group]:
    """F_m, and ``with_code`` E_I, without which a code means nothing."""
    rates = model.config.rates
    groups = [Group(list(model.material.parameters()), rates.material_explore)]
    if with_code:
        groups.append(Group(list(model.image_encoder.parameters()), rates.encoders))
    return groups


def near_insides(samples: SampleSet) -> Bool[Tensor, "n s s"]:
    """What ``explore_loss`` takes as near the samples' objects."""
    return near(interior(samples.masks))


def explore_loss(
    model: LiftedGAN,
    samples: SampleSet,
    near_masks: Bool[Tensor, "n s s"],
    smoothing: Smoothing,
    rng: torch.Generator,
    *,
    with_code: bool,
    predict: bool,
) -> Losses:
    """Step 1: fit the material of the fixed shape to the samples' own images, seen at the views and lights
    that E_v and E_l ``predict``, or else at known ones (``own_view_and_light``). ``with_code``: E_I trains.
    """
    config = model.config
    count, is_patch = draw(model, config.batch.n_surface, rng)
    index = torch.randint(len(samples.w), (count,), generator=rng)
    image = to_float(samples.images[index].to(model.device))
    masks = interior(samples.masks[index])  # a surface point has no share of the background
    rays = draw_rays(model, image, masks, near_masks[index], config.batch.n_surface, is_patch, rng)
    view, light = own_view_and_light(model, samples, index, predict)
    with torch.set_grad_enabled(with_code):
        code = model.image_encoder(image)
    color, material, hit = shade_hits(model, model.surface(code), view, light, rays, fixed_shape=True)
    seen = rays.mask & hit
    terms = {"l1": losses.l1(color, rays.target, seen[..., None])}
    total = terms["l1"]
    if is_patch:
        terms["smooth"] = smoothness(material.albedo, material.specular, rays, seen, smoothing)
        total = total + terms["smooth"]
    return {"total": total, **terms}
