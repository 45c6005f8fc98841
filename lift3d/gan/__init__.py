"""2D GANs: StyleGAN2 networks, their files, their latent prior, and a small trainer.

``lift3d.gan.load(path)`` reads a GAN.
"""

from lift3d.gan.files.load import LoadedGan, describe, load, save_gan

__all__ = ["LoadedGan", "describe", "load", "save_gan"]
