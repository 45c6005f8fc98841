"""``lift3d refine``: fit one object's shape, material, view and light to its image."""

from dataclasses import replace
from pathlib import Path

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver


@click.command()
@options.one_model
@click.option("--out", type=options.PATH, required=True, help="Directory of the results.")
@click.option("--steps", type=int, help="Steps at most.  [default: the preset's]")
@options.seed
@options.overwrite
@options.compute
def refine(
    model: str,
    out: Path,
    steps: int | None,
    seed: int,
    overwrite: bool,
    device: str,
    threads: int | None,
) -> None:
    """Refine one sample of a model, or an instance, by the shading of its image."""
    from lift3d import load
    from lift3d.instance import FILE
    from lift3d.masks.sources import mask_source
    from lift3d.scene.images import to_bytes
    from lift3d.train.instance import refine_sample

    options.require_new(out, overwrite)
    lifted = load(model).to(options.use_device(device, threads))
    config = lifted.config.refine
    if steps is not None:  # a preset checks its settings
        config = replace(lifted.config, refine=replace(config, iterations=steps)).refine
    with RichObserver() as observer:
        sample = lifted.sample([seed])
        masks = mask_source(lifted.config)(to_bytes(sample.image).cpu(), [str(seed)])
        found = refine_sample(lifted, sample, masks, config, observer=observer)
    out.mkdir(exist_ok=True)
    found.save(out / FILE)
    click.echo(f"{out / FILE}: done")
