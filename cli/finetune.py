"""``lift3d finetune``: train a single object, from a joint model or from nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver, TensorBoardObserver
from lift3d.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from lift3d.config.schema import Preset
    from lift3d.model import LiftedGAN


@click.command()
@click.option("--model", metavar="NAME|FILE", help="Joint model to start from.  [default: demo]")
@click.option("--dataset", metavar="NAME|FILE.toml", help="Start from nothing, by this preset, instead.")
@options.profile
@options.gan
@click.option("--latent", type=options.PATH, help="The sample of this w, a .npy file, instead of the seed's.")
@click.option("--out", type=options.PATH, required=True, help="Directory of the run.")
@options.masks
@options.tensorboard
@options.dry_run
@options.training
def finetune(
    model: str | None,
    dataset: str | None,
    profile: str,
    gan: str | None,
    accept_license: bool,
    latent: Path | None,
    out: Path,
    masks: str | None,
    tensorboard: Path | None,
    dry_run: bool,
    seed: int,
    overwrite: bool,
    resume: bool,
    device: str,
    threads: int | None,
) -> None:
    """Train one sample of a GAN, stage by stage, into an instance that all commands take as --model."""
    from lift3d.config.toml import to_toml
    from lift3d.masks.sources import with_masks
    from lift3d.train.instance import check_instance_run
    from lift3d.train.instance import finetune as run

    options.require_one_process()
    options.require_one(overwrite, resume)
    start, preset = _start(model, dataset, profile)
    if dry_run:
        return click.echo(to_toml(with_masks(preset, masks)), nl=False)
    where = options.use_device(device, threads)
    check_instance_run(preset, out, resume, overwrite)
    w = None if latent is None else _latent(latent)
    with RichObserver() as progress:
        observer = progress if tensorboard is None else TensorBoardObserver(progress, tensorboard)
        loaded = options.find_gan(preset, gan, accept_license, observer)
        run(start, loaded, out, seed, w, observer, resume, overwrite, device=where, masks=masks)
    click.echo(f"{out / 'instance.lift'}: done")


def _latent(path: Path) -> "torch.Tensor":
    """The one w of a file."""
    from lift3d.export.plan.latents import LatentPlan

    plan = LatentPlan.read(path)
    if plan.n != 1 or plan.space != "w":
        raise ConfigError(f"{path} holds {plan.n} latents {plan.space}, expected one w, [1, length]")
    return plan.latents[0]


def _start(model: str | None, dataset: str | None, profile: str) -> "tuple[LiftedGAN | Preset, Preset]":
    """What training starts from, and its settings."""
    from lift3d import load
    from lift3d.config.presets import with_few_steps
    from lift3d.config.toml import open_preset
    from lift3d.instance import Instances

    if model is not None and dataset is not None:
        raise ConfigError(f"--model {model} and --dataset {dataset} are two beginnings; give one of them")
    if dataset is not None:
        preset = open_preset(dataset, profile)
        return preset, preset
    joint = load(model or "demo")
    if isinstance(joint, Instances):
        raise ConfigError(f"{model} is an instance already; `lift3d refine` goes on with it")
    if profile == "quick":
        joint.config = with_few_steps(joint.config)
    elif profile != "full":
        raise ConfigError(f"profile is {profile!r}, but a model has its preset: expected full or quick")
    return joint, joint.config
