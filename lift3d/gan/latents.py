"""Samples of a GAN's latent prior: z ~ N(0, 1), w = mapping(z), pulled towards the mean by psi.

Random numbers come from an explicit seed or generator on the CPU, so they are the same on every device.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.gan.stylegan2 import Generator, NoiseMode


def sample_z(generator: Generator, n: int, rng: torch.Generator | int) -> Float[Tensor, "n z"]:
    """n latents; ``rng`` is a CPU random generator or a seed."""
    if isinstance(rng, int):
        rng = torch.Generator().manual_seed(rng)
    return torch.randn(n, generator.config.z_dim, generator=rng).to(generator.mapping.fc0.weight)


@torch.no_grad()
def sample_w(
    generator: Generator, n: int, rng: torch.Generator | int, psi: float = 0.7
) -> Float[Tensor, "n w_dim"]:
    """n intermediate latents, w_avg + psi (w - w_avg). Unconditional generators only."""
    return generator.mapping.w_avg.lerp(generator.mapping(sample_z(generator, n, rng)), psi)


@torch.no_grad()
def mean_w(generator: Generator, n: int = 4096, seed: int = 0) -> Float[Tensor, " w_dim"]:
    """Mean of w over n latents: what ``w_avg`` estimates, for files that lack it."""
    return sample_w(generator, n, seed, psi=1.0).mean(dim=0)


@torch.no_grad()
def sample_images(
    generator: Generator,
    z: Float[Tensor, "n z"],
    psi: float = 0.7,
    noise_mode: NoiseMode = "const",
    c: Float[Tensor, "n c"] | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Images in [-1, 1] for given latents, and conditions where the generator has them."""
    return generator(z, c, psi=psi, noise_mode=noise_mode).clamp(-1.0, 1.0)
