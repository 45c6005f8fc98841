"""What images show, beside what was asked of them: views by registration, lights off the latents.

A network that learns views only from projections as they were requested learns their artefacts, and what they
left undone. The mean look of the category tells the views of projections and of clean samples alike
(registration.py). Lights are nearly linear in the styles of a StyleGAN, and projections are latents of which
the requested light is known: a ridge regression reads it off the latent of any sample.

The first stage takes every sample's own light for the prior's mean, so it knows the *change* that a step dw
of E_w makes; readings are about the samples' mean. Later stages know the lights themselves, as far as
projections obey: how far is found by comparing the spread of the readings with the prior's.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.model import LiftedGAN
from lift3d.train.projected import Rerendered, SampleSet, to_float
from lift3d.train.registration import CHUNK, Template, register

RIDGE = 0.1  # of the mean square of a style's change
N_CELLS = 64  # grid cells a side of the mean shape


@dataclass(frozen=True)
class Readings:
    """Views and lights of the projections, and of a pool of p samples that nothing was rendered from."""

    views: Float[Tensor, "n m 6"]
    lights: Float[Tensor, "n m 5"]
    pool: SampleSet
    pool_views: Float[Tensor, "p 6"]
    pool_lights: Float[Tensor, "p 5"] | None  # None after the first stage: E_l knows better


@torch.no_grad()
def mean_look(model: LiftedGAN, pool: SampleSet) -> Template:
    """The pool, registered on the shape of its mean code. Views are nearly linear in w, so truncation by psi
    leaves psi times the prior's spread.
    """
    codes = [model.image_encoder(to_float(x.to(model.device))) for x in pool.images.split(CHUNK)]
    mesh = model.geometry(torch.cat(codes).mean(0), N_CELLS)
    prior = model.config.view_prior
    prior = replace(prior, std=tuple(model.config.truncation * s for s in prior.std))
    return register(mesh, prior, pool.images, pool.masks)


@torch.no_grad()
def read(
    model: LiftedGAN, samples: SampleSet, rerendered: Rerendered, pool: SampleSet, first: bool
) -> Readings:
    """Readings after the projections of a stage."""
    template = mean_look(model, pool)
    views = template.find(rerendered.projected.flatten(0, 1), rerendered.projected_masks.flatten(0, 1))
    lights, pool_lights = read_lights(model, samples, rerendered, pool, first)
    return Readings(
        views.view_as(rerendered.views),
        lights,
        pool,
        template.find(pool.images, pool.masks),
        pool_lights if first else None,
    )


@torch.no_grad()
def read_lights(
    model: LiftedGAN, samples: SampleSet, rerendered: Rerendered, pool: SampleSet, first: bool
) -> tuple[Float[Tensor, "n m 5"], Float[Tensor, "p 5"]]:
    """Lights of the projections, as far as they obeyed, and those that the pool's latents tell."""
    generator = model.generator
    mean = model.config.light_prior.mean()
    known = rerendered.lights.flatten(0, 1) - mean
    centre = generator.styles(generator.mapping.w_avg[None]).cpu()
    styles = lambda w: generator.styles(w.to(model.device)).cpu() - centre  # noqa: E731
    inputs = styles((samples.w[:, None] + rerendered.steps).flatten(0, 1))
    own = styles(samples.w)
    if first:  # the change that a step makes
        inputs = inputs - own.repeat_interleave(rerendered.steps.shape[1], 0)
    reader = ridge(inputs, known)
    found = styles(pool.w) @ reader
    obeyed = _obeyed(inputs, known, found)
    if first:
        found = found - (own @ reader).mean(0)
    return mean.lerp(rerendered.lights, obeyed), mean + found * obeyed


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
