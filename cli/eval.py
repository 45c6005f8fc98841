"""``lift3d eval``: a lifted model against heads whose truth is known."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import click

from lift3d import defaults
from lift3d.cli import options
from lift3d.cli.progress import RichObserver
from lift3d.cli.table import table

Value = str | int | float | None


@click.command("eval")
@options.models
@click.option("--heads", type=int, help="Use the first heads of the benchmark only.  [default: all]")
@options.json_output
@click.option("--relight", default=0, help="Also relight this many GAN samples: do their projections follow?")
@click.option(
    "--fid",
    type=int,
    is_flag=False,
    flag_value=defaults.FID_IMAGES,
    default=0,
    metavar="[N]",
    help="Also compare renders and projections of N GAN samples with them: FID, KID, LPIPS.  "
    f"[alone: {defaults.FID_IMAGES}]",
)
@click.option("--inception", type=options.PATH, help="Weights of FID's Inception-v3.  [default: downloaded]")
@options.threads
def eval_command(
    models: tuple[str, ...],
    heads: int | None,
    as_json: bool,
    relight: int,
    fid: int,
    inception: Path | None,
    threads: int | None,
) -> None:
    """Measure shape, material, view and light on held-out head renders, beside simpler predictors."""
    from lift3d import load
    from lift3d.evaluation.benchmark import N_HEADS, evaluate
    from lift3d.evaluation.image_sets import compare_image_sets
    from lift3d.evaluation.relighting import relighting

    if not fid:
        options.refuse_without_effect({"inception"}, "without --fid")
    options.use_device("cpu", threads)
    with RichObserver() as observer:
        lifted = load(*models)
        rows = [asdict(row) for row in evaluate(lifted, N_HEADS if heads is None else heads, observer)]
        light = {"relighting": asdict(relighting(lifted, relight, observer=observer))} if relight else {}
        compared = compare_image_sets(lifted, fid, inception, observer) if fid else []
    highlights = [found for row in rows for found in row["highlights"]]
    rows = [{k: v if k == "highlights" else _known(v) for k, v in row.items()} for row in rows]
    sets = {"image_sets": [_named(asdict(row)) for row in compared]} if fid else {}
    if as_json:
        click.echo(json.dumps({"rows": rows, **light, **sets}))
    else:
        click.echo(_table([{k: v for k, v in row.items() if k != "highlights"} for row in rows]))
        if highlights:
            click.echo("\nspecular radiance where the true highlight is, and the ratio of intensities there:")
            click.echo(_table(highlights))
        for name, value in light.get("relighting", {}).items():
            click.echo(f"correlation of requested and read {name} over {relight} projections: {value:.3f}")
        if sets:
            click.echo(f"\nimages of {fid} samples against the samples:")
            click.echo(_table(sets["image_sets"]))


def _named(row: dict[str, Value]) -> dict[str, Value]:
    """A comparison of images, its distances called FID and KID where they are."""
    from lift3d.evaluation.image_sets import INCEPTION

    known = {"frechet": "fid", "kernel_x1000": "kid_x1000"} if row["features"] == INCEPTION else {}
    return {known.get(key, key): value for key, value in row.items()}


def _table(rows: list[dict[str, Value]]) -> str:
    return table([list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)])


def _known(value: Value) -> Value:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
