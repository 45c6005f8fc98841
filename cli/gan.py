"""``lift3d gan``: train a 2D GAN, convert one, and look at one."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lift3d import defaults
from lift3d.cli import options
from lift3d.cli.progress import RichObserver
from lift3d.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from lift3d.gan.files.load import LoadedGan
    from lift3d.gan.generator import StyleGenerator

MAX_SEEDS = 10_000
BATCH = 8  # images drawn at a time

raw = click.option(
    "--raw", is_flag=True, help="The generator of the last training step instead of the average."
)


@click.group()
def gan() -> None:
    """Train a small StyleGAN2 or StyleGAN3, convert GAN files of other programs, or draw samples."""


@gan.command()
@click.argument("images", type=options.PATH)
@click.option("--out", type=options.PATH, required=True, help="Directory of the run.")
@click.option("--resolution", default=64, help="Pixels per side, a power of two.")
@click.option(
    "--channels",
    type=(int, int),
    default=(1024, 128),
    metavar="BASE MAX",
    help="A layer of r pixels has min(BASE / r, MAX) channels.",
)
@click.option(
    "--d-channels",
    type=(int, int),
    metavar="BASE MAX",
    help="The same for the discriminator.  [default: --channels]",
)
@click.option("--latent", default=128, help="Width of z and w.")
@click.option("--mapping-layers", default=4)
@click.option("--noise", is_flag=True, help="Give the generator noise inputs.")
@click.option(
    "--alias-free", is_flag=True, help="Train a StyleGAN3 (configuration T): many times as slow on a CPU."
)
@click.option("--kimg", type=float, help="Stop after this many thousand images in all.")
@click.option("--hours", type=float, help="Stop after this time; --resume goes on.")
@click.option("--batch", "batch_size", default=32, help="Images per iteration.")
@click.option("--lr", default=0.0025, help="Learning rate of both networks.")
@click.option(
    "--gamma", type=float, help="Weight of R1.  [default: 0.1 at 64 pixels, growing with their number]"
)
@click.option("--ema-kimg", default=10.0, help="Half-life of the average.")
@click.option("--mirror/--no-mirror", default=True, help="Flip half of the real images left-right.")
@click.option(
    "--augment",
    type=click.Choice(["none", "ada"]),
    default="ada",
    help="Augment what the discriminator sees, as much as it overfits; for small sets of images.",
)
@click.option("--grow-from", type=options.PATH, help="Run or GAN file to start from.")
@click.option("--checkpoint-kimg", default=20.0, help="Thousand images between checkpoints.")
@options.training
def train(
    images: Path,
    out: Path,
    resolution: int,
    channels: tuple[int, int],
    d_channels: tuple[int, int] | None,
    latent: int,
    mapping_layers: int,
    noise: bool,
    alias_free: bool,
    kimg: float | None,
    hours: float | None,
    lr: float,
    gamma: float | None,
    ema_kimg: float,
    grow_from: Path | None,
    checkpoint_kimg: float,
    overwrite: bool,
    resume: bool,
    device: str,
    threads: int | None,
    **settings: object,
) -> None:
    """Train on IMAGES: a folder of PNG, JPEG or WebP files, or a .npy file of uint8 [count, side, side, 3].

    Pictures of a folder are cropped to their central square and resized, once, into a file in the directory
    of the run. Some thousand are enough to start.
    """
    from lift3d.gan.alias_free import small_alias_free_config
    from lift3d.gan.config import DiscriminatorConfig, GeneratorConfig, channels_for
    from lift3d.gan.training.images import open_images, packed_images
    from lift3d.gan.training.state import GanTrainConfig
    from lift3d.gan.training.trainer import CHECKPOINT, require_new_run, train_gan

    options.require_one_process()
    if kimg is None and hours is None:
        raise ConfigError("the training has no end: give --kimg, --hours or both")
    options.require_one(overwrite, resume)
    widths = {"z_dim": latent, "w_dim": latent, "n_mapping_layers": mapping_layers}
    if alias_free:
        options.refuse_without_effect({"noise"}, "with --alias-free, as a StyleGAN3 has no noise inputs")
        generator = small_alias_free_config(resolution, *channels, **widths)
    else:
        generator = GeneratorConfig(channels_for(resolution, *channels), noise=noise, **widths)
    config = GanTrainConfig(
        generator,
        DiscriminatorConfig(channels_for(resolution, *(d_channels or channels))),
        g_lr=lr,
        d_lr=lr,
        r1_gamma=0.1 * (resolution / 64) ** 2 if gamma is None else gamma,
        ema_images=ema_kimg * 1000,
        style_mixing=0.0 if alias_free else 0.9,
        checkpoint_every=max(round(checkpoint_kimg * 1000), 1),
        **settings,
    )
    if grow_from is not None and grow_from.is_dir():
        grow_from = grow_from / CHECKPOINT
    where = options.use_device(device, threads)
    require_new_run(out, resume, overwrite)
    begin = {"resume": resume, "overwrite": overwrite, "grow": grow_from}
    max_images = None if kimg is None else round(kimg * 1000)
    end = {"max_images": max_images, "max_seconds": None if hours is None else hours * 3600}
    with RichObserver() as observer:
        if images.is_dir():
            pixels = packed_images(images, out, resolution, observer, resume)
        else:
            pixels = open_images(images)
        state = train_gan(pixels, config, out, observer, **begin, **end, device=where)
    click.echo(f"{out}: {state.images_seen} images seen")


@gan.command()
@click.argument("file", type=options.PATH)
@click.argument("out", type=options.PATH)
@click.option("--half", is_flag=True, help="Half precision: half the size, images equal to three digits.")
@raw
@options.overwrite
def convert(file: Path, out: Path, half: bool, raw: bool, overwrite: bool) -> None:
    """Write the GAN in FILE (NVLabs .pkl, rosinality .pt) to OUT, a safetensors file."""
    import torch

    from lift3d.gan.files.load import save_gan

    if out.suffix != ".safetensors":
        raise ConfigError(f"OUT is {out}, expected a name that ends in .safetensors")
    options.require_new(out, overwrite)
    loaded = _load(file, raw)
    dtype = torch.float16 if half else torch.float32
    save_gan(out, loaded.generator, loaded.discriminator, loaded.license, dtype, source=file.name)
    critic = "no discriminator" if loaded.discriminator is None else "its discriminator"
    click.echo(
        f"{out}: {loaded.generator.resolution}px {loaded.generator.family} and {critic}, from {loaded.kind}; "
        f"license: {loaded.license}"
    )


@gan.command()
@click.argument("file", type=options.PATH)
@click.option("--out", type=options.PATH, required=True, help="Picture to write.")
@click.option(
    "--seeds",
    type=options.NumberList(at_most=MAX_SEEDS),
    default="0-63",
    help="One sample per seed, like 0-15,20.",
)
@click.option("--columns", default=8, help="Samples per row.")
@click.option("--trunc", default=defaults.GAN_TRUNCATION, help="Truncation, 0 (the mean) to 1 (none).")
@click.option("--class", "label", type=int, help="Class to draw, where the GAN has classes.")
@click.option(
    "--translate",
    metavar="X,Y",
    help="StyleGAN3: move what is drawn to the right and down, in image sides, like 0.1,0.",
)
@click.option("--rotate", type=float, metavar="DEGREES", help="StyleGAN3: first turn it counter-clockwise.")
@raw
@options.overwrite
def sample(
    file: Path,
    out: Path,
    seeds: list[int],
    columns: int,
    trunc: float,
    label: int | None,
    translate: str | None,
    rotate: float | None,
    raw: bool,
    overwrite: bool,
) -> None:
    """Draw samples of the GAN in FILE as one picture."""
    import torch

    from lift3d.gan.latents import sample_images, sample_z
    from lift3d.pictures import grid, image_kind, save_image
    from lift3d.scene.images import images_to_colors, to_picture

    if columns < 1:
        raise ConfigError(f"--columns is {columns}, expected at least 1")
    if not math.isfinite(trunc):
        raise ConfigError(f"--trunc is {trunc}, expected a number, 0 to 1")
    image_kind(out)
    options.require_new(out, overwrite)
    generator = _load(file, raw).generator
    condition = _condition(generator.config.c_dim, label)
    motion = _motion(generator, translate, rotate)
    pictures = []
    for i in range(0, len(seeds), BATCH):
        z = torch.cat([sample_z(generator, 1, seed) for seed in seeds[i : i + BATCH]])
        c = None if condition is None else torch.tensor(condition).expand(len(z), -1)
        images = sample_images(generator, z, trunc, c, **motion).expand(-1, 3, -1, -1)
        pictures += list(to_picture(images_to_colors(images)))
    save_image(out, grid([pictures[i : i + columns] for i in range(0, len(pictures), columns)]))
    click.echo(f"{out}: {len(pictures)} samples")


def _motion(
    generator: "StyleGenerator", translate: str | None, rotate: float | None
) -> dict[str, "torch.Tensor"]:
    """What --translate and --rotate mean for ``draw``."""
    from lift3d.gan.stylegan3 import motion

    if translate is None and rotate is None:
        return {}
    if generator.family != "StyleGAN3":
        raise ConfigError(
            f"--translate and --rotate move the input of a StyleGAN3, but this GAN is a {generator.family}: "
            "leave them out"
        )
    try:
        x, y = (float(part) for part in (translate or "0,0").split(","))
    except ValueError as error:
        raise ConfigError(f"--translate is {translate!r}, expected two numbers like 0.1,-0.2") from error
    if not all(math.isfinite(number) for number in (x, y, rotate or 0.0)):
        raise ConfigError(f"--translate or --rotate is not finite: {x}, {y}, {rotate}")
    return {"transform": motion((x, y), rotate or 0.0)}


def _load(file: Path, raw: bool) -> "LoadedGan":
    """The GAN in a file; what the file lacks is said on stderr."""
    from lift3d.gan.files.load import load

    return options.load_gan(lambda: load(file, average=not raw), lambda text: click.echo(text, err=True))


def _condition(c_dim: int, label: int | None) -> list[float] | None:
    """A class as the one-hot vector that the networks take."""
    if c_dim == 0 and label is None:
        return None
    if label is None or not 0 <= label < c_dim:
        known = f"0 to {c_dim - 1}" if c_dim else "none: this GAN has no classes"
        raise ConfigError(f"--class is {'not given' if label is None else label}, expected {known}")
    return [float(i == label) for i in range(c_dim)]
