"""``lift3d pretrain``: lift a 2D GAN by joint pre-training."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver, TensorBoardObserver
from lift3d.cli.table import table

if TYPE_CHECKING:
    import torch

    from lift3d.train.estimate import Estimate


@click.command()
@click.option(
    "--dataset",
    default="demo",
    metavar="NAME|FILE.toml",
    help="Preset: domain and schedule; or a category of your own.",
)
@click.option("--out", type=options.PATH, required=True, help="Directory of the run.")
@options.profile
@options.gan
@options.masks
@click.option(
    "--photographs",
    type=options.PATH,
    help="Pictures framed like the GAN's (a folder or .npy) that E_I learns from, too.",
)
@options.tensorboard
@options.dry_run
@click.option(
    "--estimate",
    "as_estimate",
    is_flag=True,
    help="Time a few iterations of every phase here, print time, memory and disk, and stop.",
)
@options.training
def pretrain(
    dataset: str,
    out: Path,
    profile: str,
    gan: str | None,
    accept_license: bool,
    masks: str | None,
    tensorboard: Path | None,
    dry_run: bool,
    as_estimate: bool,
    overwrite: bool,
    resume: bool,
    device: str,
    threads: int | None,
    **settings: object,
) -> None:
    """Train shape, material and encoders on a GAN's samples, stage by stage."""
    from lift3d.config.toml import open_preset, to_toml
    from lift3d.masks.sources import with_masks
    from lift3d.observer import SilentObserver
    from lift3d.train.estimate import estimate
    from lift3d.train.joint import check_run
    from lift3d.train.joint import pretrain as run
    from lift3d.train.ranks import joined_ranks

    options.require_one(overwrite, resume)
    preset = open_preset(dataset, profile)
    if dry_run:
        return click.echo(to_toml(with_masks(preset, masks)), nl=False)
    where = options.use_device(device, threads)
    if as_estimate:
        with RichObserver() as observer:
            loaded = options.find_gan(preset, gan, accept_license, observer)
            return click.echo(_described(estimate(preset, loaded, where, masks, observer), where, out))
    begin = {"resume": resume, "overwrite": overwrite}
    check_run(preset, out, **begin)
    with joined_ranks(where) as ranks, RichObserver() as progress:
        observer = progress if ranks.is_first else SilentObserver()
        if tensorboard is not None and ranks.is_first:
            observer = TensorBoardObserver(progress, tensorboard)
        with ranks.first_alone():  # who may download what the others then find
            loaded = options.find_gan(preset, gan, accept_license, observer)
        run(preset, loaded, out, observer, **begin, device=where, masks=masks, ranks=ranks, **settings)
    if ranks.is_first:
        click.echo(f"{out}: done")


def _described(found: "Estimate", device: "torch.device", out: Path) -> str:
    """What the training would take."""
    header = ("phase", "times", "seconds each", "hours")
    rows = [(c.kind, str(c.count), f"{c.each:.3g}", f"{c.seconds / 3600:.2f}") for c in found.costs]
    total = ("all", "", "", f"{found.seconds / 3600:.2f}")
    at = out if out.exists() else next(parent for parent in out.absolute().parents if parent.exists())
    device_memory = f", of {device} {found.device_bytes / 1e9:.1f} GB" if found.device_bytes else ""
    return (
        f"{table([header, *rows, total])}\n\n"
        f"memory {found.host_bytes / 1e9:.1f} GB{device_memory}; disk {found.disk_bytes / 1e9:.1f} GB, "
        f"{shutil.disk_usage(at).free / 1e9:.1f} GB are free; pseudo-labels come on top of the time"
    )
