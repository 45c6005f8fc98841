"""View and light priors estimated from what a lifted model (E_v and E_l) says of its GAN's samples.

Numbers are rounded to ``DIGITS`` decimals. A range that is uniform up to outliers is estimated from its 2 %
and 98 % quantiles, extended by what they leave out.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.config.toml import to_toml
from lift3d.errors import ConfigError
from lift3d.model import LiftedGAN
from lift3d.observer import Observer, observed
from lift3d.scene.cameras import ViewPrior, placed
from lift3d.scene.lights import LightPrior
from lift3d.seeds import BLOCK, priors_seed

DIGITS = 4
TRIM = 0.02  # of the predictions, at either end, count as outliers
MIN_SAMPLES = 8
BATCH = 16


@dataclass(frozen=True)
class Priors:
    """What a category's views and lights look like."""

    view_prior: ViewPrior
    light_prior: LightPrior

    def to_toml(self) -> str:
        """The tables [view_prior] and [light_prior] of a category's file."""
        return to_toml(self)


def fit(model: LiftedGAN, n: int = 200, seed: int = 0, observer: Observer | None = None) -> Priors:
    """Priors from n samples, those that seeds.py deals out for ``seed``, at the preset's truncation."""
    if not MIN_SAMPLES <= n <= BLOCK:
        raise ConfigError(f"the number of samples is {n}, expected {MIN_SAMPLES} to {BLOCK}")
    first, views, lights = priors_seed(seed), [], []
    batches = [range(i, min(i + BATCH, first + n)) for i in range(first, first + n, BATCH)]
    for seeds in observed(observer, "predicting views and lights", batches, len):
        batch = model.sample(seeds)
        views.append(batch.view.cpu())
        lights.append(batch.light.cpu())
    reach = model.view_encoder.scale.cpu()
    pivot = model.config.view_prior.pivot
    return Priors(fit_views(torch.cat(views), reach, pivot), fit_lights(torch.cat(lights)))


def fit_views(
    views: Float[Tensor, "n 6"], reach: Float[Tensor, "6"], pivot: tuple[float, ...] = (0.0, 0.0, 0.0)
) -> ViewPrior:
    """Mean, standard deviation and largest deviation of each component, which stays within +- ``reach``, of
    objects that turn about ``pivot``.
    """
    views = placed(views, [-p for p in pivot])
    mean, deviation = views.mean(0), views.std(0)
    limit = (views - mean).abs().amax(0).minimum(reach - mean.abs())
    return ViewPrior(_rounded(mean), _rounded(deviation), _rounded(limit), pivot)


def fit_lights(lights: Float[Tensor, "n 5"]) -> LightPrior:
    """Ranges of l_x, l_y, k_d and k_n; k_a as a level that falls with k_d by the regression's slope, if it
    falls at all, and stays within 0 and 1.
    """
    ambient, diffuse, l_x, l_y, negative = lights.unbind(-1)
    centered = diffuse - diffuse.mean()
    variance = centered.square().mean()
    slope = (centered * (ambient - ambient.mean())).mean() / variance if variance > 0 else torch.zeros(())
    dark, bright = _range(diffuse)
    coupling = round(min(max(0.0, -slope.item()), 1 / max(bright - dark, 1e-6)), DIGITS)
    lowest, highest = round(coupling * bright, DIGITS), round(1 + coupling * dark, DIGITS)
    low, high = (min(max(v, lowest), highest) for v in _range(ambient + coupling * diffuse))
    return LightPrior(_range(l_x), _range(l_y), (dark, bright), (low, high), coupling, _range(negative))


def _range(values: Float[Tensor, " n"]) -> tuple[float, float]:
    """The range of a uniform distribution, within the values'."""
    low, high = torch.quantile(values, torch.tensor([TRIM, 1 - TRIM])).unbind()
    beyond = (high - low) * TRIM / (1 - 2 * TRIM)
    low, high = _rounded(torch.stack((low - beyond, high + beyond)).clamp(values.min(), values.max()))
    return low, high


def _rounded(values: Float[Tensor, " k"]) -> tuple[float, ...]:
    return tuple(round(v, DIGITS) + 0.0 for v in values.tolist())  # + 0.0: no -0.0
