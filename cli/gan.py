"""``lift3d gan``: train and look at 2D GANs."""

from pathlib import Path

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver


@click.group()
def gan() -> None:
    """Train a small 2D StyleGAN2, or draw samples from a GAN file."""
