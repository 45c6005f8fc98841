"""How far the images of a GAN are from others, by features of a random network: a number for the log.

The Fréchet distance of two Gaussians fitted to features, as FID has it (Heusel et al., 2017, section 4), but
of a small convolutional network whose weights are random, from a fixed seed, and the same everywhere: nothing
has to be downloaded. Its values mean nothing beside those of another network, FID among them, nor beside
those of other resolutions or numbers of images; within a run it falls as samples become like the images.
Images are ``n 3 h h`` in [-1, 1].
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SEED = 0
WIDTHS = (24, 48, 96)  # of convolutions with stride 2
MAX_SIZE = 64  # larger images are averaged down


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of the features of many images."""

    mean: Float[Tensor, " f"]
    covariance: Float[Tensor, "f f"]


def random_features(images: Float[Tensor, "n 3 h h"]) -> Float[Tensor, "n f"]:
    """Per channel of every layer, its mean and its standard deviation over the image."""
    rng = torch.Generator().manual_seed(SEED)
    x = F.avg_pool2d(images, max(images.shape[-1] // MAX_SIZE, 1))
    features = []
    for width in WIDTHS:
        weight = torch.randn(width, x.shape[1], 3, 3, generator=rng) * (2 / (9 * x.shape[1])) ** 0.5
        x = F.leaky_relu(F.conv2d(x, weight.to(x), stride=2, padding=1), 0.2)
        features += [x.mean(dim=(2, 3)), x.flatten(2).std(dim=2, correction=0)]
    return torch.cat(features, dim=1)


def fitted(features: Float[Tensor, "n f"]) -> Gaussian:
    """The Gaussian of many features, in double precision."""
    features = features.double().cpu()
    return Gaussian(features.mean(dim=0), features.T.cov(correction=0))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mean difference|^2 + trace of (A + B - 2 (A B)^(1/2)), A and B the covariances.

    The trace of the root is that of (A^(1/2) B A^(1/2))^(1/2), which is symmetric.
    """
    root = _root(a.covariance)
    cross = _root(root @ b.covariance @ root).trace()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * cross
    return float((a.mean - b.mean).square().sum() + spread)


def _root(matrix: Float[Tensor, "f f"]) -> Float[Tensor, "f f"]:
    """The square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T
