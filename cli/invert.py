"""``lift3d invert``: from a photograph to an object."""

from pathlib import Path

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver
from lift3d.errors import ConfigError


@click.command()
@click.argument("photo", type=options.PATH)
@options.one_model
@options.photograph
@click.option("--out", type=options.PATH, required=True, help="Folder of the results.")
@options.steps
@options.overwrite
@options.compute
def invert(photo: Path, out: Path, overwrite: bool, **settings: object) -> None:
    """Make an object of a PHOTO of the model's kind: an instance, maps, views, lights, and a mesh."""
    options.require_one_process()
    options.require_new(out, overwrite)
    invert_into(out, photo, **settings, mesh=True)


def invert_into(
    out: Path,
    photo: Path,
    model: str,
    box: tuple[float, ...] | None,
    masks: str | None,
    steps: int | None,
    device: str,
    threads: int | None,
    mesh: bool,
) -> None:
    """Reads, encodes and refines a photograph and writes its folder; tells what is doubtful about it."""
    from lift3d import load
    from lift3d.export.inversion import write_inversion
    from lift3d.instance import FILE, Instances
    from lift3d.photographs import kind_of, read_image, read_photograph
    from lift3d.train.instance import with_iterations
    from lift3d.train.invert import for_photographs, invert_photograph

    read_image(photo)  # what is no image fails before the model is loaded
    lifted = load(model).to(options.use_device(device, threads))
    if isinstance(lifted, Instances):
        raise ConfigError(f"{model} is an instance; photographs are encoded by a joint model")
    with RichObserver() as observer:
        kind = kind_of(lifted)
        photograph = read_photograph(photo, lifted, box, masks, kind)
        for note in photograph.notes:
            observer.message(f"{photo}: {note}")
        config = for_photographs(with_iterations(lifted, steps))
        found = invert_photograph(lifted, photograph, kind, config, observer=observer)
        for warning in found.warnings:
            observer.message(f"{photo}: warning: {warning}")
    write_inversion(out, lifted, found.sample, found.instances, mesh)
    errors = f"{found.error_before:.3f} before, {found.error_after:.3f} after"
    click.echo(f"{out / FILE}: done; mean error of colors {errors}")
