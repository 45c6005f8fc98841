"""``lift3d pretrain``: lift a 2D GAN by joint pre-training."""

from pathlib import Path

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver, TensorBoardObserver


@click.command()
@click.option(
    "--dataset", default="demo", show_default=True, metavar="NAME", help="Preset: domain and schedule."
)
@click.option("--out", type=options.PATH, required=True, help="Directory of the run.")
@click.option(
    "--profile", default="full", show_default=True, metavar="quick|full", help="quick: every step, as a toy."
)
@click.option("--gan", type=options.PATH, help="2D GAN to lift.  [default: the preset's]")
@click.option(
    "--tensorboard", type=options.PATH, help="Also write the losses for TensorBoard into this directory."
)
@click.option("--dry-run", is_flag=True, help="Print the resolved settings and stop.")
@options.seed
@options.overwrite
@options.resume
@options.compute
def pretrain(
    dataset: str,
    out: Path,
    profile: str,
    gan: Path | None,
    tensorboard: Path | None,
    dry_run: bool,
    seed: int,
    overwrite: bool,
    resume: bool,
    device: str,
    threads: int | None,
) -> None:
    """Train shape, material and encoders on a GAN's samples, stage by stage."""
    from lift3d.presets import get_preset
    from lift3d.train.pretrain import find_gan
    from lift3d.train.pretrain import pretrain as run

    options.require_one(overwrite, resume)
    preset = get_preset(dataset, profile)
    if dry_run:
        click.echo(preset.to_json())
        return
    where = options.use_device(device, threads)
    with RichObserver() as progress:
        observer = progress if tensorboard is None else TensorBoardObserver(progress, tensorboard)
        loaded = find_gan(preset, gan)
        run(preset, loaded, out, observer, resume=resume, overwrite=overwrite, seed=seed, device=where)
    click.echo(f"{out}: done")
