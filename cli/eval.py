"""``lift3d eval``: a lifted model against heads whose truth is known."""

import json
import math
from dataclasses import asdict

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver
from lift3d.cli.table import table

Value = str | int | float | None


@click.command("eval")
@options.model
@click.option("--heads", type=int, help="Use the first heads of the benchmark only.  [default: all]")
@options.json_output
@options.threads
def eval_command(model: str, heads: int | None, as_json: bool, threads: int | None) -> None:
    """Measure shape, material, view and light on held-out head renders, beside simpler predictors."""
    from lift3d import load
    from lift3d.evaluate import N_HEADS, evaluate

    options.use_device("cpu", threads)
    with RichObserver() as observer:
        rows = [asdict(row) for row in evaluate(load(model), N_HEADS if heads is None else heads, observer)]
    rows = [{name: _known(value) for name, value in row.items()} for row in rows]
    if as_json:
        click.echo(json.dumps({"rows": rows}))
    else:
        click.echo(table([list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]))


def _known(value: Value) -> Value:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
