"""``lift3d sample``: a dataset of many instances under many views and lights."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lift3d import defaults
from lift3d.cli import options
from lift3d.cli.progress import RichObserver
from lift3d.errors import ConfigError
from lift3d.settings import shown

if TYPE_CHECKING:
    from lift3d.export.estimate import Estimate
    from lift3d.export.plan.dataset import DatasetPlan
    from lift3d.export.plan.latents import LatentPlan

N = 16  # samples, unless told
VIEWS = (
    "Views per sample: 8 (from the model's prior), same:8 (for all samples), orbit:36,elevation=20, "
    "grid:5x3,yaw=40,pitch=20, file:cameras.json; all but files take ,fov=DEGREES and ,distance=UNITS."
)
LIGHTS = (
    "Lights per view: 8 (from the prior), same:8, sphere:8 (from all around), sweep:9,elevation=30 (an arc), "
    "olat:8x4 (a hemisphere, one at a time), file:lights.json; all but files take ,ambient=0 and ,diffuse=1."
)


def _maps(context: click.Context, _: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Names between commas; "list" needs no other option, and ends the command."""
    from lift3d.export.hdf5.schema import MAPS, SPECS

    if value == "list":
        click.echo("\n".join(f"{name:<17} {SPECS[name].description}" for name in MAPS))
        context.exit()
    return MAPS if value is None else tuple(name.strip() for name in value.split(","))


def _shares(_: click.Context, __: click.Parameter, value: str | None) -> tuple[float, ...]:
    """Numbers between slashes."""
    try:
        return () if value is None else tuple(float(part) for part in value.split("/"))
    except ValueError as error:
        raise ConfigError(f"--split is {shown(value)}, expected three numbers such as 0.8/0.1/0.1") from error


@click.command()
@click.option("--n", type=int, help=f"Samples: instances.  [default: {N}]")
@click.option("--out", type=options.PATH, required=True, help="HDF5 file to write.")
@options.models
@options.seed
@click.option("--seeds", type=options.SEEDS, help='The GAN\'s seeds: "7", "0-9,12".')
@click.option(
    "--latents", type=options.PATH, metavar="FILE", help="Latents: .npy of w [n, length], .npz of w or z."
)
@click.option("--interpolate", metavar="A:B:STEPS", help="From seed A to seed B, in W.")
@click.option("--views", default=str(defaults.VIEWS), metavar="PLAN", help=VIEWS)
@click.option("--lights", default=str(defaults.LIGHTS), metavar="PLAN", help=LIGHTS)
@click.option("--size", default=defaults.IMAGE_SIZE, help="Pixels per side, a power of two.")
@options.truncation
@click.option(
    "--maps",
    is_eager=True,
    callback=_maps,
    help='Intrinsic maps to store, separated by commas; "list" shows them.  [default: all]',
)
@click.option(
    "--meshes", default=str(defaults.MESH_FACES), metavar="none|full|FACES", help="Meshes to store."
)
@click.option(
    "--split",
    callback=_shares,
    metavar="SHARES",
    help="Training, validation and test samples, such as 0.8/0.1/0.1.",
)
@click.option("--shard", default="1/1", metavar="I/K", help="Only the I-th of K runs of samples, for merge.")
@click.option(
    "--engine",
    type=click.Choice(("local", "ray")),
    default="local",
    help="This process, or the shards as tasks of a Ray cluster, merged at the end.",
)
@click.option("--shards", type=int, metavar="K", help="Tasks of --engine ray.  [default: 64 at most]")
@click.option(
    "--ray-address", metavar="HOST:PORT", help="Ray cluster.  [default: one that is there, or local]"
)
@click.option("--num-gpus-per-task", type=float, help="GPUs, or parts of one, that a task of Ray needs.")
@click.option("--gan", is_flag=True, help="Also store the renders projected through the 2D GAN.")
@click.option(
    "--renderer",
    default=defaults.RENDERERS[0],
    metavar="|".join(defaults.RENDERERS),
    help="How images are made.",
)
@click.option(
    "--mesh-resolution",
    default=defaults.MESH_RESOLUTION,
    help="Grid cells per side of a mesh, for neus, too.",
)
@click.option("--contact-sheet", type=options.PATH, help="Also draw an overview of the file, a picture.")
@click.option(
    "--no-card", is_flag=True, help="Write no card (faces.card.md and its pictures) beside the file."
)
@click.option("--dry-run", is_flag=True, help="Print what would be written, bytes and time, and stop.")
@click.option("--force", is_flag=True, help="Start even where the disk is too small.")
@options.overwrite
@options.resume
@options.compute
def sample(
    out: Path,
    models: tuple[str, ...],
    n: int | None,
    seeds: list[int] | None,
    latents: Path | None,
    interpolate: str | None,
    engine: str,
    shards: int | None,
    ray_address: str | None,
    num_gpus_per_task: float | None,
    contact_sheet: Path | None,
    no_card: bool,
    dry_run: bool,
    force: bool,
    overwrite: bool,
    resume: bool,
    device: str,
    threads: int | None,
    **settings: object,
) -> None:
    """Write multi-view, multi-light images with their intrinsic maps and meshes.

    Files of views and lights are described in docs/plans.md.
    """
    from lift3d import load
    from lift3d.export.dataset import DatasetPlan, write_dataset
    from lift3d.export.estimate import estimate, require_room
    from lift3d.pictures import image_kind

    instances = _instances(seeds, latents, interpolate)
    n = N if n is None and instances.n is None else n
    names = ", ".join(Path(name).name for name in models)
    plan = DatasetPlan(n, latents=instances, model=names, **settings)
    if engine != "ray":
        options.refuse_without_effect(("shards", "ray_address", "num_gpus_per_task"), "without --engine ray")
    if contact_sheet is not None:
        image_kind(contact_sheet)
        options.require_new(contact_sheet, overwrite or resume)
    if not no_card:
        options.require_new(out.with_suffix(".card.md"), overwrite or resume or out.exists())
    lifted = load(*models).to(options.use_device(device, threads))
    if dry_run:
        plan = plan.resolved(lifted.config.truncation)
        return click.echo(_described(plan, out, estimate(lifted, plan, out, resume)))
    if not force:
        require_room(lifted, plan, out, resume)
    with RichObserver(images=plan.views.n * plan.lights.n) as observer:
        if engine == "ray":
            from lift3d.export.cluster import write_on_ray

            again = partial(load, *(name if name == "demo" else Path(name).absolute() for name in models))
            resources = {"shards": shards, "address": ray_address, "gpus": num_gpus_per_task or 0.0}
            report = write_on_ray(again, plan, out, observer, overwrite, resume, **resources)
        else:
            report = write_dataset(lifted, plan, out, observer, overwrite=overwrite, resume=resume)
    click.echo(
        f"{out}: {report.done} of {report.planned} samples; wrote {report.images} images "
        f"in {report.seconds:.1f} s ({report.images_per_second:.1f} images/s)"
    )
    if report.interrupted:
        raise KeyboardInterrupt
    if not no_card:
        from lift3d.export.card import write_card

        click.echo(f"{write_card(out).text}: card of the file")
    if contact_sheet is not None:
        from lift3d.export.contact_sheet import write_contact_sheet

        n_shown = write_contact_sheet(out, contact_sheet)
        click.echo(f"{contact_sheet}: contact sheet of {n_shown} of {report.done} samples")


def _described(plan: "DatasetPlan", out: Path, need: "Estimate") -> str:
    """A plan, and what it takes."""
    minutes, seconds = divmod(round(need.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    size = f"{need.nbytes / 1e9:.2f} GB" if need.nbytes >= 1e8 else f"{need.nbytes / 1e6:.1f} MB"
    return (
        f"plan: {json.dumps(plan.to_json())}\n"
        f"{out}: {need.samples} samples, {need.images} images\n"
        f"{size} of {need.free / 1e9:.1f} GB free, {need.peak / 1e9:.2f} GB while it is written\n"
        f"{need.memory / 1e9:.2f} GB of memory at most\n"
        f"{hours} h {minutes} min {seconds} s, at {need.sample_seconds:.2f} s a sample as measured here"
    )


def _instances(seeds: list[int] | None, latents: Path | None, interpolate: str | None) -> "LatentPlan":
    """Which instances the options name."""
    from lift3d.export.plan.latents import LatentPlan

    given = {"--seeds": seeds, "--latents": latents, "--interpolate": interpolate}
    if len(named := [name for name, value in given.items() if value is not None]) > 1:
        raise ConfigError(f"{' and '.join(named)} contradict each other; give one of them")
    if seeds is not None:
        return LatentPlan.of_seeds(seeds)
    if latents is not None:
        return LatentPlan.read(latents)
    return LatentPlan() if interpolate is None else LatentPlan.interpolate(interpolate)
