"""``lift3d export``: one person as a mesh for other programs."""

from pathlib import Path

import click

from lift3d.cli import options
from lift3d.errors import ConfigError


@click.command()
@click.argument("dataset", type=options.PATH, required=False)
@click.option("--sample", type=int, help="Number of the sample in DATASET.  [default: 0]")
@click.option("--model", metavar="NAME|FILE", help="Take the person from this model instead of a dataset.")
@click.option("--seed", type=int, help="Seed of the model's sample.  [default: 0]")
@click.option(
    "--trunc", type=float, default=0.7, show_default=True, help="Truncation of the model's latents, 0 to 1."
)
@click.option(
    "--resolution", type=int, default=128, show_default=True, help="Grid cells per side of the model's mesh."
)
@click.option("--out", type=options.PATH, required=True, help="File to write, .glb.")
@options.overwrite
@options.compute
def export(
    dataset: Path | None,
    sample: int | None,
    model: str | None,
    seed: int | None,
    trunc: float,
    resolution: int,
    out: Path,
    overwrite: bool,
    device: str,
    threads: int | None,
) -> None:
    """Write the mesh of a DATASET's sample, or of a model's, with normals and vertex colours as glTF 2.0."""
    from lift3d.export.glb import write_glb

    if (dataset is None) == (model is None):
        raise ConfigError("give either a dataset (faces.h5 --sample 0) or a model (--model demo --seed 7)")
