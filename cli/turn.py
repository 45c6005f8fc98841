"""``lift3d turn``: a film of a head that turns while its light moves."""

from pathlib import Path

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver


@click.command()
@options.models
@click.option(
    "--seed", "seeds", type=options.SEEDS, default="0", help="Seed; two or more, such as 3,7, to morph."
)
@options.truncation
@click.option("--out", type=options.PATH, required=True, help="A .gif, .mp4, or .png strip.")
@click.option(
    "--path",
    default="both",
    metavar="turntable|swing|light|both|morph",
    help="What moves: a full turn, a swinging head, the light, head and light; or one head becomes another.",
)
@click.option("--size", default=256, help="Pixels per side.")
@click.option("--fps", default=20.0, help="Frames per second.")
@click.option("--seconds", default=4.0, help="Length.")
@click.option("--with-gan", is_flag=True, help="Show the projection through the 2D GAN beside the render.")
@options.overwrite
@options.compute
def turn(
    models: tuple[str, ...],
    seeds: list[int],
    truncation: float | None,
    out: Path,
    fps: float,
    seconds: float,
    overwrite: bool,
    device: str,
    threads: int | None,
    **look: object,
) -> None:
    """Film a head that turns while its light moves; --path light relights it."""
    from lift3d import load
    from lift3d.export.film import check_film, film, write_film

    check_film(out, fps)
    options.require_new(out, overwrite)
    lifted = load(*models).to(options.use_device(device, threads))
    with RichObserver() as observer:
        samples = lifted.sample(seeds, truncation)
        frames = list(film(lifted, samples, n_frames=round(fps * seconds), observer=observer, **look))
    write_film(out, frames, fps)
    click.echo(f"{out}: {len(frames)} frames, {out.stat().st_size / 1e6:.1f} MB")
