"""2D GANs: StyleGAN2 networks, their files, their latent prior, and a small trainer."""
