"""``lift3d view``: a live page on a model or a dataset."""

import os
import webbrowser
from pathlib import Path

import click

from lift3d.cli import options
from lift3d.errors import ConfigError


@click.command()
@click.argument("dataset", type=options.PATH, required=False)
@options.some_models(help="Look at this model, or at these instances, instead.  [default: demo]")
@click.option("--port", default=8013, help="On 127.0.0.1; 0 takes a free one.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option("--size", default=256, help="Pixels per side of the picture.")
@click.option("--resolution", default=128, help="Grid cells per side of the model's mesh.")
@options.device
@click.option(
    "--threads", type=int, help="CPU threads.  [default: all cores but one, which is left to the browser]"
)
def view(
    dataset: Path | None,
    models: tuple[str, ...],
    port: int,
    no_browser: bool,
    size: int,
    resolution: int,
    device: str,
    threads: int | None,
) -> None:
    """Turn the samples of a DATASET or a model, and move the light, in the browser. Ctrl-C ends it."""
    if dataset is not None and models:
        raise ConfigError(f"{dataset} and --model {models[0]} are two things to look at; give one of them")
    if not 0 <= port < 65536:
        raise ConfigError(f"--port is {port}, expected 0 to 65535")
    from lift3d.export.viewer import scene
    from lift3d.export.viewer.server import Server

    ranges = ("--size", size, scene.SIZES), ("--resolution", resolution, scene.RESOLUTIONS)
    for name, value, (low, high) in ranges:
        if not low <= value <= high:
            raise ConfigError(f"{name} is {value}, expected {low} to {high}")
    if dataset is not None:
        shown = scene.DatasetScene(dataset)
    else:
        from torch import get_num_threads

        from lift3d import load

        threads = max(1, get_num_threads() - 1) if threads is None else threads
        lifted = load(*models).to(options.use_device(device, threads))
        shown = scene.ModelScene(lifted, ", ".join(models) or "demo", size, resolution)
    with Server(shown, port) as server:
        click.echo(f"{server.url}  (Ctrl-C ends it)")
        remote = "SSH_CONNECTION" in os.environ
        if remote:
            number, host = server.server_address[1], os.environ["SSH_CONNECTION"].split()[2]
            tunnel = f"ssh -L {number}:127.0.0.1:{number} {host}"
            click.echo(f"from your own computer: {tunnel}, then open it there")
        if not (no_browser or remote):
            webbrowser.open(server.url)
        try:
            server.run()
        except KeyboardInterrupt:
            click.echo()
