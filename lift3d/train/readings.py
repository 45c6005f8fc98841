"""Views and lights of the GAN's own samples, read off their latents.

The first stage takes every sample's own view and light for the canonical ones; they are not, and a network
that is told so learns to recognise samples instead of views. But a step dw that E_w takes from w_i to a
re-rendering has a known change of view and light, and both are nearly linear in the styles of a StyleGAN: a
ridge regression from steps to changes reads view and light of any sample off its latent, about their means.
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

    views: Float[Tensor, "n 6"]
    lights: Float[Tensor, "n 5"]
    pool: SampleSet
    pool_views: Float[Tensor, "p 6"]
    pool_lights: Float[Tensor, "p 5"]


@torch.no_grad()
def read_latents(model: LiftedGAN, samples: SampleSet, rerendered: Rerendered, pool: SampleSet) -> Readings:
    """Readings after the projections of the first stage."""
    config, generator = model.config, model.generator
    means = torch.cat((torch.tensor(config.view_prior.mean), config.light_prior.mean()))
    changes = torch.cat((rerendered.views, rerendered.lights), -1).flatten(0, 1) - means
    styles = lambda w: generator.styles(w.to(model.device)).cpu()  # noqa: E731
    steps = (samples.w[:, None] + rerendered.steps).flatten(0, 1)
    origin = styles(samples.w).repeat_interleave(rerendered.steps.shape[1], 0)
    reader = ridge(styles(steps) - origin, changes)
    centre = styles(generator.mapping.w_avg[None])
    own, others = ((styles(w) - centre) @ reader for w in (samples.w, pool.w))
    drift = own.mean(0)  # the canonical frame is that of the samples' mean
    views, lights = (own - drift + means).split((6, 5), -1)
    pool_views, pool_lights = (others - drift + means).split((6, 5), -1)
    return Readings(views, lights, pool, pool_views, pool_lights)


def ridge(inputs: Float[Tensor, "k s"], targets: Float[Tensor, "k c"]) -> Float[Tensor, "s c"]:
    """Linear map without intercept that predicts targets from inputs, regularised by ``RIDGE``."""
    x, y = inputs.double(), targets.double()
    gram = x.T @ x / len(x)
    weight = RIDGE * gram.diagonal().mean().clamp_min(1e-12)
    return torch.linalg.solve(gram + weight * torch.eye(len(gram)), x.T @ y / len(x)).to(inputs)
