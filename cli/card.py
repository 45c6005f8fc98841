"""``lift3d card``: the card of a dataset, again."""

from pathlib import Path

import click

from lift3d.cli import options


@click.command()
@click.argument("file", type=options.PATH)
@options.overwrite
def card(file: Path, overwrite: bool) -> None:
    """Write the card of a dataset beside it: what it is, counts, conventions, histograms, pictures, license.

    `lift3d sample` writes faces.card.md beside faces.h5 by itself; this makes it again.
    """
    from lift3d.export.card import Card, write_card

    options.require_new(Card.of(file).text, overwrite)
    written = write_card(file)
    click.echo(f"{written.text}: card of {file}, with {written.sheet.name} and {written.histograms.name}")
