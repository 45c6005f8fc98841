"""Samples of a GAN's latent prior: z ~ N(0, 1), w = mapping(z), pulled towards the mean by psi.

Random numbers come from an explicit seed or generator on the CPU, so they are the same on every device.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.defaults import GAN_TRUNCATION
from lift3d.gan.generator import Liftable, StyleGenerator


def sample_z(generator: Liftable, n: int, rng: torch.Generator | int) -> Float[Tensor, "n z"]:
    """n latents; ``rng`` is a CPU random generator or a seed."""
    if isinstance(rng, int):
        rng = torch.Generator().manual_seed(rng)
    return torch.randn(n, generator.z_dim, generator=rng).to(generator.w_avg)


@torch.no_grad()
def sample_w(
    generator: Liftable, n: int, rng: torch.Generator | int, psi: float = GAN_TRUNCATION
) -> Float[Tensor, "n w_dim"]:
    """n intermediate latents, w_avg + psi (w - w_avg). Unconditional generators only."""
    return generator.w_avg.lerp(generator.to_w(sample_z(generator, n, rng)), psi)


@torch.no_grad()
def mean_w(generator: Liftable, n: int = 4096, seed: int = 0) -> Float[Tensor, " w_dim"]:
    """Mean of w over n latents: what ``w_avg`` estimates, for files that lack it."""
    return sample_w(generator, n, seed, psi=1.0).mean(dim=0)


@torch.no_grad()
def sample_images(
    generator: StyleGenerator,
    z: Float[Tensor, "n z"],
    psi: float = GAN_TRUNCATION,
    c: Float[Tensor, "n c"] | None = None,
    **settings: Float[Tensor, "3 3"] | Float[Tensor, "n 3 3"],
) -> Float[Tensor, "n 3 h w"]:
    """Images in [-1, 1] for given latents, and conditions where the generator has them; ``settings`` are
    those of its ``draw`` (alias-free: ``transform``).
    """
    return generator.draw(generator.ws(z, c, psi), **settings).clamp(-1.0, 1.0)
