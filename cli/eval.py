"""``lift3d eval``: a lifted model against heads whose truth is known."""

import json
from dataclasses import asdict

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver
from lift3d.cli.table import table


@click.command("eval")
@options.model
@options.json_output
@options.compute
def eval_command(model: str, as_json: bool, device: str, threads: int | None) -> None:
    """Measure shape, material, view and light on 256 held-out head renders, beside simple predictors."""
    from lift3d import load
    from lift3d.evaluate import evaluate

    lifted = load(model).to(options.use_device(device, threads))
    with RichObserver() as observer:
        rows = [asdict(row) for row in evaluate(lifted, observer=observer)]
    if as_json:
        click.echo(json.dumps({"rows": rows}))
    else:
        cells = [["-" if value is None else _cell(value) for value in row.values()] for row in rows]
        click.echo(table([list(rows[0]), *cells]))


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.3f}"
