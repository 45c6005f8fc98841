"""Step 1 of a stage (method.md, section 3): the material of a fixed shape is fitted to images."""

import torch

from lift3d import losses
from lift3d.config.schema import Schedule
from lift3d.model import LiftedGAN
from lift3d.scene.images import to_float
from lift3d.train.data import SampleSet, own_view_and_light
from lift3d.train.phase import Group, Losses
from lift3d.train.pixels import draw, draw_pixels, see, smoothness


def explore_groups(model: LiftedGAN, from_prior: bool) -> list[Group]:
    """F_m, and E_I where it knows nothing yet: without it a code means nothing."""
    rates = model.config.rates
    groups = [Group.of(rates.material_explore, model.material)]
    return [*groups, Group.of(rates.encoders, model.image_encoder)] if from_prior else groups


def explore_loss(
    model: LiftedGAN, samples: SampleSet, schedule: Schedule, rng: torch.Generator, *, from_prior: bool
) -> Losses:
    """Step 1: fit the material of the fixed shape to the samples' own images, seen at the views and lights
    that E_v and E_l predict. ``from_prior``, as long as these know nothing, at known ones
    (``own_view_and_light``), and E_I trains.
    """
    config = model.config
    count, is_patch = draw(model, config.batch.n_surface, rng)
    index = torch.randint(len(samples), (count,), generator=rng)
    image = to_float(samples.images[index].to(model.device))
    masks = samples.inside[index]  # a surface point has no share of the background
    pixels = draw_pixels(
        model, image, masks, samples.near_inside[index], config.batch.n_surface, is_patch, rng
    )
    view, light = own_view_and_light(model, samples, index, predict=not from_prior)
    with torch.set_grad_enabled(from_prior):
        code = model.image_encoder(image)
    seen = see(model.surface(code), view, pixels.numbers, config.size, create_graph=False)
    counts = pixels.mask & seen.hit
    terms = {"l1": losses.l1(seen.colors(light), pixels.colors, counts[..., None])}
    if is_patch:
        material, beta = seen.material, config.weights.beta
        terms["smooth"] = smoothness(material.albedo, material.specular, pixels, counts, schedule, beta)
    return {"total": sum(terms.values()), **terms}
