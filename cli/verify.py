"""``lift3d verify``: does a dataset keep its word?"""

from pathlib import Path

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver

SHOWN = 20  # findings


@click.command()
@click.argument("file", type=options.PATH)
@click.option("--quick", is_flag=True, help="Schema, attributes and checksums only.")
@click.pass_context
def verify(context: click.Context, file: Path, quick: bool) -> None:
    """Check a dataset: schema, attributes, checksums, and that its numbers agree with each other.

    Masks and ranges, the shading equations, normals against depth, views against each other, meshes against
    views: these find what was changed together with its checksum. Exits with 1 if anything is wrong.
    """
    from lift3d.export.hdf5.probe import probe
    from lift3d.export.hdf5.verify import verify as verify_file

    if file.is_file():
        probe(file)
    with RichObserver() as observer:
        report = verify_file(file, observer, quick)
    for finding in report.findings[:SHOWN]:
        where = finding.dataset if finding.sample is None else f"{finding.dataset}, sample {finding.sample}"
        click.echo(f"{where}: {finding.problem}")
    if len(report.findings) > SHOWN:
        click.echo(f"... and {len(report.findings) - SHOWN} more")
    click.echo(f"{file}: {report.samples} samples checked, {len(report.findings)} problems")
    context.exit(0 if report.ok else 1)
