"""``lift3d refine``: fit one object's shape, material, view and light to its image."""

from pathlib import Path

import click

from lift3d.cli import options
from lift3d.cli.invert import invert_into
from lift3d.cli.progress import RichObserver


@click.command()
@options.one_model
@click.option("--image", type=options.PATH, help="Refine the object of this image instead of a sample.")
@options.photograph
@click.option("--out", type=options.PATH, required=True, help="Folder of the results.")
@options.steps
@options.seed
@options.overwrite
@options.compute
def refine(
    out: Path,
    image: Path | None,
    box: tuple[float, ...] | None,
    masks: str | None,
    seed: int,
    overwrite: bool,
    **settings: object,
) -> None:
    """Refine a sample of a model, an instance, or an image, by its shading: shape, material, view, light."""
    options.require_one_process()
    options.require_new(out, overwrite)
    if image is not None:
        options.refuse_without_effect(["seed"], "with --image")
        return invert_into(out, image, box=box, masks=masks, **settings, mesh=False)
    options.refuse_without_effect(["box", "masks"], "without --image")
    _refine_sample(out, seed, **settings)


def _refine_sample(
    out: Path, seed: int, model: str, steps: int | None, device: str, threads: int | None
) -> None:
    """Refines the model's sample of a seed, or an instance, and writes its folder."""
    from lift3d import load
    from lift3d.export.inversion import write_inversion
    from lift3d.instance import FILE
    from lift3d.masks.sources import mask_source
    from lift3d.scene.images import to_bytes
    from lift3d.train.instance import refine_sample, with_iterations

    lifted = load(model).to(options.use_device(device, threads))
    config = with_iterations(lifted, steps)
    with RichObserver() as observer:
        sample = lifted.sample([seed])
        mask = mask_source(lifted.config)(to_bytes(sample.image).cpu(), [str(seed)])
        found = refine_sample(lifted, sample, mask, config, observer=observer)
    write_inversion(out, lifted, sample, found, mesh=False)
    click.echo(f"{out / FILE}: done")
