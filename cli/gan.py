"""``lift3d gan``: train a 2D GAN, and look at one."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver
from lift3d.errors import ConfigError, CorruptFile

if TYPE_CHECKING:
    import numpy as np


@click.group()
def gan() -> None:
    """Train a small StyleGAN2, or draw samples from a GAN file."""


@gan.command()
@click.argument("images", type=options.PATH)
@click.option("--out", type=options.PATH, required=True, help="Directory of the run.")
@click.option(
    "--resolution", type=int, default=64, show_default=True, help="Pixels per side, a power of two."
)
@click.option(
    "--channels",
    type=(int, int),
    default=(1024, 128),
    show_default=True,
    metavar="BASE MAX",
    help="A layer of r pixels has min(BASE / r, MAX) channels.",
)
@click.option(
    "--d-channels",
    type=(int, int),
    metavar="BASE MAX",
    help="The same for the discriminator.  [default: --channels]",
)
@click.option("--latent", type=int, default=128, show_default=True, help="Width of z and w.")
@click.option("--mapping-layers", type=int, default=4, show_default=True)
@click.option("--noise", is_flag=True, help="Give the generator noise inputs.")
@click.option("--kimg", type=float, help="Stop after this many thousand images in all.")
@click.option("--hours", type=float, help="Stop after this time; --resume goes on.")
@click.option("--batch", type=int, default=32, show_default=True, help="Images per iteration.")
@click.option("--lr", type=float, default=0.0025, show_default=True, help="Learning rate of both networks.")
@click.option(
    "--gamma", type=float, help="Weight of R1.  [default: 0.1 at 64 pixels, growing with their number]"
)
@click.option("--no-mirror", is_flag=True, help="Do not flip real images.")
@click.option(
    "--grow-from", type=options.PATH, help="Checkpoint of a run at a lower resolution to start from."
)
@options.seed
@options.resume
@options.compute
def train(
    images: Path,
    out: Path,
    resolution: int,
    channels: tuple[int, int],
    d_channels: tuple[int, int] | None,
    latent: int,
    mapping_layers: int,
    noise: bool,
    kimg: float | None,
    hours: float | None,
    batch: int,
    lr: float,
    gamma: float | None,
    no_mirror: bool,
    grow_from: Path | None,
    seed: int,
    resume: bool,
    device: str,
    threads: int | None,
) -> None:
    """Train on IMAGES, a .npy file of uint8 [count, side, side, 3]."""
    from lift3d.gan.stylegan2 import DiscriminatorConfig, GeneratorConfig, channels_for
    from lift3d.gan.train import GanTrainConfig, train_gan

    if kimg is None and hours is None:
        raise ConfigError("the training has no end: give --kimg, --hours or both")
    config = GanTrainConfig(
        GeneratorConfig(
            channels_for(resolution, *channels),
            z_dim=latent,
            w_dim=latent,
            n_mapping_layers=mapping_layers,
            noise=noise,
        ),
        DiscriminatorConfig(channels_for(resolution, *(d_channels or channels))),
        batch_size=batch,
        g_lr=lr,
        d_lr=lr,
        r1_gamma=0.1 * (resolution / 64) ** 2 if gamma is None else gamma,
        mirror=not no_mirror,
        seed=seed,
    )
    where = options.use_device(device, threads)
    with RichObserver() as observer:
        state = train_gan(
            _read_images(images),
            config,
            out,
            observer,
            resume=resume,
            grow=grow_from,
            max_images=None if kimg is None else round(kimg * 1000),
            max_seconds=None if hours is None else hours * 3600,
            device=where,
        )
    click.echo(f"{out}: {state.images_seen} images seen")


@gan.command()
@click.argument("file", type=options.PATH)
@click.option("--out", type=options.PATH, required=True, help="PNG to write.")
@click.option("--n", type=int, default=64, show_default=True, help="Samples.")
@click.option("--columns", type=int, default=8, show_default=True, help="Samples per row.")
@click.option(
    "--trunc", type=float, default=0.7, show_default=True, help="Truncation, 0 (the mean) to 1 (none)."
)
@options.seed
@options.overwrite
def sample(file: Path, out: Path, n: int, columns: int, trunc: float, seed: int, overwrite: bool) -> None:
    """Draw samples of the GAN in FILE as one picture."""
    from lift3d.color import to_uint8
    from lift3d.gan.load import load
    from lift3d.gan.prior import sample_images, sample_z
    from lift3d.pictures import grid, save_png

    if n < 1 or columns < 1:
        raise ConfigError(f"--n is {n} and --columns is {columns}, expected at least 1")
    options.require_new(out, overwrite)
    generator = load(file).generator
    images = sample_images(generator, sample_z(generator, n, seed), psi=trunc)
    pictures = list(to_uint8(images.permute(0, 2, 3, 1).numpy() / 2 + 0.5))
    save_png(out, grid([pictures[i : i + columns] for i in range(0, n, columns)]))
    click.echo(f"{out}: {n} samples")


def _read_images(path: Path) -> "np.ndarray":
    """A .npy file as a memory map."""
    import numpy as np

    try:
        return np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise CorruptFile(f"{path} is truncated or no .npy file: {error}") from error
