"""``lift3d merge``: the shards of a dataset as one file."""

from pathlib import Path

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver

SHOWN = 10  # samples that are not done


@click.command()
@click.argument("shards", nargs=-1, required=True, type=options.PATH)
@click.option("--out", type=options.PATH, required=True, help="HDF5 file to write.")
@click.option("--copy", is_flag=True, help="Copy everything, instead of referring to the shards.")
@options.overwrite
def merge(shards: tuple[Path, ...], out: Path, copy: bool, overwrite: bool) -> None:
    """Put all shards of a dataset (lift3d sample --shard) into one file.

    Without --copy the file refers to the shards, which must stay where they are.
    """
    from lift3d.export.hdf5.merge import merge as merge_files

    with RichObserver() as observer:
        report = merge_files(shards, out, copy, overwrite, observer)
    done = report.planned - len(report.missing)
    click.echo(f"{out}: {report.shards} shards, {done} of {report.planned} samples are done")
    if report.missing:
        some = ", ".join(map(str, report.missing[:SHOWN])) + ", ..." * (len(report.missing) > SHOWN)
        click.echo(f"not done: {some}; --resume their shards, then merge again")
