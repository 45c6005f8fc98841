"""``lift3d prior``: view and light priors from a lifted model."""

import json
from dataclasses import asdict

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver


@click.group()
def prior() -> None:
    """View and light priors of a category."""


@prior.command()
@options.one_model
@click.option("--n", default=200, help="GAN samples to look at.")
@options.seed
@options.json_output
@options.compute
def fit(model: str, n: int, seed: int, as_json: bool, device: str, threads: int | None) -> None:
    """Estimate priors from what a lifted model says of its GAN's samples.

    Prints the tables [view_prior] and [light_prior] of a category's .toml file.
    """
    from lift3d import load
    from lift3d.pseudo_labels.priors import fit as fit_priors

    where = options.use_device(device, threads)
    with RichObserver() as observer:
        priors = fit_priors(load(model).to(where), n, seed, observer)
    click.echo(json.dumps(asdict(priors)) if as_json else priors.to_toml(), nl=as_json)
