"""Step 2 of a stage (method.md, section 3): E_w learns to project renders onto the GAN."""

import torch

from lift3d import losses
from lift3d.model import LiftedGAN
from lift3d.networks.perceptual import Features
from lift3d.scene.images import resize, to_float
from lift3d.train.consistency import inconsistency
from lift3d.train.data import Images, SampleSet
from lift3d.train.phase import Group, Losses
from lift3d.train.ranks import ALONE, Ranks


def align_groups(model: LiftedGAN) -> list[Group]:
    """E_w."""
    return [Group.of(model.config.rates.gan_encoder, model.gan_encoder)]


def latent_loss(model: LiftedGAN, unlabeled: SampleSet, pseudo: Images, rng: torch.Generator) -> Losses:
    """Before the first step 2: E_w learns by which latents GAN samples differ, w_a + dw(I_b) = w_b.

    I_b is cut out like a pseudo image of the first stage, and the latents are compared by the styles that
    they give: that teaches E_w views and lights at a fraction of the cost of images. Relative loss: 1 is what
    dw = 0 scores."""
    n = model.config.batch.n_latent
    a, b = torch.randint(len(unlabeled.w), (2, n), generator=rng)
    shapes = pseudo.masks.flatten(0, 1)
    shapes = shapes[torch.randint(len(shapes), (n,), generator=rng)].to(model.device)
    image = to_float(unlabeled.images[b].to(model.device))
    inside = unlabeled.masks[b, None].to(image)
    tone = (image * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp_min(1)
    image = torch.where(inside > 0, image, tone)
    image = torch.where(shapes[:, None], image, 2 * model.background[0] - 1)
    step = model.offset(image, to_float(unlabeled.images[a].to(model.device)))
    w = unlabeled.w.to(model.device)
    styles = model.generator.styles
    error = styles(w[a] + step) - styles(w[b])
    total = error.square().sum(-1).mean() / (styles(w[a]) - styles(w[b])).square().sum(-1).mean()
    return {"total": total, "latent": total}


def align_loss(
    model: LiftedGAN,
    samples: SampleSet,
    pseudo: Images,
    features: Features,
    rng: torch.Generator,
    *,
    masked: bool,
    consistency: float,
    ranks: Ranks = ALONE,
) -> Losses:
    """Step 2: E_w learns to project pseudo images onto the GAN.

    ``masked``: only the object counts. Where the surface is more than the prior, a constant background is
    part of the picture: the outline says much of the view. ``consistency``: weight of whether E_v and E_l see
    in the projection what was requested. ``ranks`` share out the images of ``features``."""
    weights, device = model.config.weights, model.device
    n, m = pseudo.batch_shape
    i = torch.randint(n, (model.config.batch.n_align,), generator=rng)
    j = torch.randint(m, (len(i),), generator=rng)
    target = pseudo[i, j].to(device)
    image, original = to_float(target.images), to_float(samples.images[i].to(device))
    offset = model.offset(image, original)
    projected = resize(model.synthesize(samples.w[i].to(device) + offset), model.config.size)
    terms = losses.projection(
        projected, image, target.masks[:, None] if masked else None, offset,
        features, weights.features, weights.offset, ranks.divided,
    )  # fmt: skip
    if consistency:
        terms["consistency"] = inconsistency(model, projected, target)
        terms["total"] = terms["total"] + consistency * terms["consistency"]
    return terms
