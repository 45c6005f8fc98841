"""Views and lights of the GAN's own samples, read off their latents.

Networks that learn views from projections alone learn their artefacts, too, and tell little of clean images.
But view and light are nearly linear in the styles of a StyleGAN, and projections are latents of which both
are known: a ridge regression reads them off the latent of any sample.

The first stage takes every sample's own view and light for the canonical ones, so it knows the *change* that
a step dw of E_w makes; readings are about the samples' mean. Later stages know the views themselves, as far
as projections obey: how far is found by comparing the spread of the readings with the prior's.
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
    obeyed: Float[Tensor, "11"]  # share of what was requested that projections show, of view and light
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
    inputs = styles((samples.w[:, None] + rerendered.steps).flatten(0, 1))
    own = styles(samples.w)
    if first:  # the change that a step makes
        inputs = inputs - own.repeat_interleave(rerendered.steps.shape[1], 0)
    reader = ridge(inputs, known)
    read = styles(pool.w) @ reader
    obeyed = _obeyed(inputs, known, read)
    read, own = read * obeyed, (own @ reader) * obeyed
    offset = means
    if first:  # the canonical frame is that of the samples' mean
        offset = means - own.mean(0)
    views, lights = (read + offset).split((6, 5), -1)
    return Readings(pool, views, lights, obeyed, (own + offset)[:, :6] if first else None)


def _obeyed(
    inputs: Float[Tensor, "k s"], known: Float[Tensor, "k c"], read: Float[Tensor, "p c"]
) -> Float[Tensor, " c"]:
    """The factor, at most 1, that gives readings of samples the spread that the prior asks for.

    A projection that turns by half of what was requested makes a reader that says twice of what it sees. The
    spread of good readings is the prior's times their correlation with the truth, measured on projections
    that another reader has not seen.
    """
    cut = len(inputs) * 4 // 5
    guess, truth = inputs[cut:] @ ridge(inputs[:cut], known[:cut]), known[cut:]
    guess, truth = guess - guess.mean(0), truth - truth.mean(0)
    scale = (guess.square().mean(0) * truth.square().mean(0)).sqrt().clamp_min(1e-12)
    correlation = ((guess * truth).mean(0) / scale).clamp_min(0.0)
    return (correlation * known.std(0) / read.std(0).clamp_min(1e-6)).clamp_max(1.0)


def ridge(inputs: Float[Tensor, "k s"], targets: Float[Tensor, "k c"]) -> Float[Tensor, "s c"]:
    """Linear map without intercept that predicts targets from inputs, regularised by ``RIDGE``."""
    x, y = inputs.double(), targets.double()
    gram = x.T @ x / len(x)
    weight = RIDGE * gram.diagonal().mean().clamp_min(1e-12)
    return torch.linalg.solve(gram + weight * torch.eye(len(gram)), x.T @ y / len(x)).to(inputs)
