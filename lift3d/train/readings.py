"""Views and lights of the GAN's own samples, read off their latents.

Networks that learn views from projections alone learn their artefacts, too, and tell little of clean images.
But view and light are nearly linear in the styles of a StyleGAN, and projections are latents of which both
are known: a ridge regression reads them off the latent of any sample.

The first stage takes every sample's own view and light for the canonical ones, so it knows the *change* that
a step dw of E_w makes; readings are about the samples' mean. Later stages know the views themselves.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.model import LiftedGAN
from lift3d.train.projected import Rerendered, SampleSet

RIDGE = 0.1  # of the mean square of a style's change


@dataclass(frozen=True)
class Readings:
    """What the latents say of n samples, and of a pool of others that nothing was rendered from."""

    pool: SampleSet
    pool_views: Float[Tensor, "p 6"]
    pool_lights: Float[Tensor, "p 5"]
    views: Float[Tensor, "n 6"] | None = None  # the samples' own; None: not needed after the first stage


@torch.no_grad()
def read_latents(
    model: LiftedGAN, samples: SampleSet, rerendered: Rerendered, pool: SampleSet, first: bool
) -> Readings:
    """Readings after the projections of a stage."""
    config, generator = model.config, model.generator
    means = torch.cat((torch.tensor(config.view_prior.mean), config.light_prior.mean()))
    known = torch.cat((rerendered.views, rerendered.lights), -1).flatten(0, 1) - means
    centre = generator.styles(generator.mapping.w_avg[None]).cpu()
    styles = lambda w: generator.styles(w.to(model.device)).cpu() - centre  # noqa: E731
    projected = styles((samples.w[:, None] + rerendered.steps).flatten(0, 1))
    if not first:
        views, lights = (styles(pool.w) @ ridge(projected, known) + means).split((6, 5), -1)
        return Readings(pool, views, lights)
    own = styles(samples.w)
    reader = ridge(projected - own.repeat_interleave(rerendered.steps.shape[1], 0), known)
    own = own @ reader
    offset = means - own.mean(0)  # the canonical frame is that of the samples' mean
    views, lights = (styles(pool.w) @ reader + offset).split((6, 5), -1)
    return Readings(pool, views, lights, (own + offset)[:, :6])


def ridge(inputs: Float[Tensor, "k s"], targets: Float[Tensor, "k c"]) -> Float[Tensor, "s c"]:
    """Linear map without intercept that predicts targets from inputs, regularised by ``RIDGE``."""
    x, y = inputs.double(), targets.double()
    gram = x.T @ x / len(x)
    weight = RIDGE * gram.diagonal().mean().clamp_min(1e-12)
    return torch.linalg.solve(gram + weight * torch.eye(len(gram)), x.T @ y / len(x)).to(inputs)
