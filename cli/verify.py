"""``lift3d verify``: does a dataset keep its word?"""

from pathlib import Path

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver

SHOWN = 20  # findings


@click.command()
@click.argument("file", type=options.PATH)
@click.pass_context
def verify(context: click.Context, file: Path) -> None:
    """Check a dataset: schema, checksums, unit normals, masks, the shading identity, depth between views.

    Exits with 1 if anything is wrong.
    """
    from lift3d.export.hdf5.verify import verify as verify_file

    with RichObserver() as observer:
        report = verify_file(file, observer)
    for finding in report.findings[:SHOWN]:
        where = finding.dataset if finding.sample is None else f"{finding.dataset}, sample {finding.sample}"
        click.echo(f"{where}: {finding.problem}")
    if len(report.findings) > SHOWN:
        click.echo(f"... and {len(report.findings) - SHOWN} more")
    click.echo(f"{file}: {report.samples} samples checked, {len(report.findings)} problems")
    context.exit(0 if report.ok else 1)
