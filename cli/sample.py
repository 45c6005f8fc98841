"""``lift3d sample``: a dataset of many instances under many views and lights."""

from pathlib import Path

import click

from lift3d import defaults
from lift3d.cli import options
from lift3d.cli.progress import RichObserver


@click.command()
@click.option("--n", type=int, default=16, show_default=True, help="Samples: instances.")
@click.option("--out", type=options.PATH, required=True, help="HDF5 file to write.")
@options.model
@options.seed
@click.option("--views", type=int, default=defaults.VIEWS, show_default=True, help="Views per sample.")
@click.option("--lights", type=int, default=defaults.LIGHTS, show_default=True, help="Lights per view.")
@click.option(
    "--size",
    type=int,
    default=defaults.IMAGE_SIZE,
    show_default=True,
    help="Pixels per side, a power of two.",
)
@click.option("--trunc", type=float, help="Truncation of the GAN's latents, 0 to 1.  [default: the model's]")
@click.option("--maps", help="Intrinsic maps to store, separated by commas.  [default: all]")
@click.option("--gan", is_flag=True, help="Also store the renders projected through the 2D GAN.")
@click.option(
    "--renderer",
    default=defaults.RENDERERS[0],
    show_default=True,
    metavar="|".join(defaults.RENDERERS),
    help="How images are made.",
)
@click.option(
    "--mesh-resolution",
    type=int,
    default=defaults.MESH_RESOLUTION,
    show_default=True,
    help="Grid cells per side of a mesh.",
)
@click.option("--contact-sheet", type=options.PATH, help="Also draw an overview of the file, a PNG.")
@options.overwrite
@options.resume
@options.compute
def sample(
    n: int,
    out: Path,
    model: str,
    seed: int,
    views: int,
    lights: int,
    size: int,
    trunc: float | None,
    maps: str | None,
    gan: bool,
    renderer: str,
    mesh_resolution: int,
    contact_sheet: Path | None,
    overwrite: bool,
    resume: bool,
    device: str,
    threads: int | None,
) -> None:
    """Write multi-view, multi-light images with their intrinsic maps and meshes."""
    from lift3d import load
    from lift3d.export.dataset import MAPS, DatasetPlan, write_dataset

    plan = DatasetPlan(
        n=n,
        seed=seed,
        views=views,
        lights=lights,
        size=size,
        truncation=trunc,
        maps=MAPS if maps is None else tuple(name.strip() for name in maps.split(",")),
        gan=gan,
        renderer=renderer,
        mesh_resolution=mesh_resolution,
        model=Path(model).name,
    )
    if contact_sheet is not None:
        options.require_new(contact_sheet, overwrite or resume)
    lifted = load(model).to(options.use_device(device, threads))
    with RichObserver(images=views * lights) as observer:
        report = write_dataset(lifted, plan, out, observer, overwrite=overwrite, resume=resume)
    click.echo(
        f"{out}: {report.done} of {report.planned} samples; wrote {report.images} images "
        f"in {report.seconds:.1f} s ({report.images_per_second:.1f} images/s)"
    )
    if report.interrupted:
        raise KeyboardInterrupt
    if contact_sheet is not None:
        from lift3d.export.contact_sheet import write_contact_sheet

        shown = write_contact_sheet(out, contact_sheet)
        click.echo(f"{contact_sheet}: contact sheet of {shown} of {report.done} samples")
