"""``lift3d convert``: a dataset in the layout of another program."""

from pathlib import Path

import click

from lift3d import defaults
from lift3d.cli import options
from lift3d.cli.progress import RichObserver
from lift3d.errors import ConfigError


@click.command()
@click.argument("dataset", type=options.PATH)
@click.option("--to", "kind", required=True, metavar="|".join(defaults.LAYOUTS), help="Layout to write.")
@click.option("--out", type=options.PATH, required=True, help="Folder to write; it appears whole.")
@click.option("--samples", type=options.NumberList("all"), default="all", help='"3", "0-9,12" or "all".')
@click.option("--split", metavar="train|val|test", help="Only the samples of one part of the split.")
@options.overwrite
def convert(
    dataset: Path, kind: str, out: Path, samples: str | list[int], split: str | None, overwrite: bool
) -> None:
    """Write the images, cameras and lights of a DATASET as other programs read them.

    Layouts: png (a folder of PNG files per sample), nerf (transforms.json for instant-ngp and nerfstudio),
    eg3d (dataset.json), blenderproc (HDF5 files per image), webdataset (tar shards), usd (a scene per
    sample). Meshes alone: lift3d export.
    """
    if kind not in defaults.LAYOUTS:
        raise ConfigError(f"--to is {kind!r}, expected one of {', '.join(defaults.LAYOUTS)}")
    options.require_new(out, replace=True)  # an existing folder: see export/convert/convert.py
    from lift3d.export.convert.convert import convert as write

    with RichObserver() as observer:
        report = write(dataset, kind, out, None if samples == "all" else samples, split, overwrite, observer)
    size = f"{report.nbytes / 1e6:.1f} MB in {report.files} files"
    click.echo(f"{out}: {report.samples} samples as {kind}, {size}")
    if report.unfinished:
        click.echo(
            f"{report.unfinished} samples of {dataset} are not finished and were left out; "
            "lift3d sample --resume finishes them"
        )
