"""Random GANs of 16 x 16 pixels and a preset that lifts it in seconds."""

from dataclasses import replace

import torch

from lift3d.config.presets import TINY
from lift3d.config.schema import BatchConfig, Preset, Schedule
from lift3d.gan.alias_free import AliasFreeConfig
from lift3d.gan.files.load import LoadedGan
from lift3d.gan.stylegan2 import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from lift3d.gan.stylegan3 import AliasFreeGenerator

PRESET: Preset = replace(
    TINY,
    size=16,
    instance=(),
    joint=Schedule(
        16, 4, 2, 2, 4, 3, 3, 4, (0.3, 1.0), 0.2, 0.1, latent=3, calibrate=4, distill=4, lean=4, realign=4
    ),
    batch=BatchConfig(2, 32, 4, 64, 2),
)


def tiny_gan(seed: int = 0) -> LoadedGan:
    """Generator and discriminator with random weights."""
    return other_gan(seed)


def other_gan(
    seed: int = 0, channels: tuple[int, ...] = (8, 8, 8), noise: bool = False, **changes: int
) -> LoadedGan:
    """``tiny_gan`` with other widths, and other settings of both networks."""
    torch.manual_seed(seed)
    config = GeneratorConfig(channels, z_dim=16, w_dim=16, n_mapping_layers=4, noise=noise, **changes)
    generator, discriminator = Generator(config), Discriminator(DiscriminatorConfig(channels, **changes))
    return LoadedGan(
        generator.requires_grad_(False).eval(),
        discriminator.requires_grad_(False).eval(),
        generator.mapping.w_avg,
        "lift3d",
        "tiny",
        "",
    )


def alias_free_gan(seed: int = 0) -> LoadedGan:
    """A StyleGAN3 of configuration R with random weights, and a discriminator."""
    torch.manual_seed(seed)
    config = AliasFreeConfig((8, 8, 8, 8), 16, z_dim=12, w_dim=16, margin=4, conv_size=1, radial=True)
    generator = AliasFreeGenerator(config).requires_grad_(False).eval()
    discriminator = Discriminator(DiscriminatorConfig((8, 8, 8))).requires_grad_(False).eval()
    return LoadedGan(generator, discriminator, generator.w_avg, "lift3d", "tiny", "")
