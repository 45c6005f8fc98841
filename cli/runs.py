"""``lift3d runs``: what a training in a folder has come to."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from lift3d.cli import options
from lift3d.cli.table import table


@click.group()
def runs() -> None:
    """Runs of the training."""


@runs.command()
@click.argument("folder", type=options.PATH)
@options.json_output
def show(folder: Path, as_json: bool) -> None:
    """Print how far the run in FOLDER is, its latest losses, the time left and its latest pictures."""
    from lift3d.train.progress import read_run

    run = read_run(folder)
    if as_json:
        about = {"progress": asdict(run.progress), "losses": run.losses}
        return click.echo(json.dumps(about | {"pictures": [str(path) for path in run.pictures]}))
    click.echo(f"{folder}: {run.progress.sentence()}")
    for entry in run.losses:
        values = [name for name in entry if name not in ("stage", "phase", "step")]
        where = (str(entry["phase"]), str(entry.get("stage", "") + 1), str(entry["step"]))
        rows = [("phase", "stage", "step", *values), (*where, *(f"{entry[name]:.4g}" for name in values))]
        click.echo("\n" + table(rows))
    if run.pictures:
        click.echo("\n" + "\n".join(str(path) for path in run.pictures[:4]))
