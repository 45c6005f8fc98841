"""``lift3d export``: one person as a mesh for other programs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lift3d.cli import options
from lift3d.errors import ConfigError

if TYPE_CHECKING:
    from lift3d.mesh import Mesh


@click.command()
@click.argument("dataset", type=options.PATH, required=False)
@click.option("--sample", type=int, help="Number of the sample in DATASET.  [default: 0]")
@click.option("--model", metavar="NAME|FILE", help="Take the person from this model instead of a dataset.")
@click.option("--seed", type=int, help="Seed of the model's sample.  [default: 0]")
@click.option(
    "--trunc", type=float, help="Truncation of the model's latents, 0 to 1.  [default: the model's]"
)
@click.option("--resolution", type=int, help="Grid cells per side of the model's mesh.  [default: 128]")
@click.option("--out", type=options.PATH, required=True, help="File to write: .glb, .obj or .ply.")
@options.overwrite
@options.threads
def export(
    dataset: Path | None,
    sample: int | None,
    model: str | None,
    seed: int | None,
    trunc: float | None,
    resolution: int | None,
    out: Path,
    overwrite: bool,
    threads: int | None,
) -> None:
    """Write the mesh of a DATASET's sample, or of a model's, in the format that --out is named for."""
    if (dataset is None) == (model is None):
        raise ConfigError("give either a dataset (faces.h5 --sample 0) or a model (--model demo --seed 7)")
    foreign = (
        {"--sample": sample}
        if dataset is None
        else {"--seed": seed, "--trunc": trunc, "--resolution": resolution}
    )
    for name, value in foreign.items():
        if value is not None:
            raise ConfigError(
                f"{name} does not go with a {'model' if dataset is None else 'dataset'}; leave it out"
            )
    options.require_new(out, overwrite)
    options.use_device("cpu", threads)
    start, write = time.perf_counter(), _writer(out)
    cells = 128 if resolution is None else resolution
    mesh = _stored(dataset, sample or 0) if dataset else _lifted(model, seed or 0, trunc, cells)
    write(mesh, out)
    seconds = time.perf_counter() - start
    click.echo(f"{out}: {len(mesh.vertices)} vertices, {len(mesh.faces)} faces, in {seconds:.1f} s")


def _writer(out: Path) -> Callable[["Mesh", Path], None]:
    """What writes files of this suffix."""
    from lift3d.export.glb import write_glb
    from lift3d.export.obj import write_obj
    from lift3d.export.ply import write_ply

    writers = {".glb": write_glb, ".obj": write_obj, ".ply": write_ply}
    if out.suffix.lower() not in writers:
        raise ConfigError(f"{out} has no known format, expected a name that ends in {', '.join(writers)}")
    return writers[out.suffix.lower()]


def _stored(dataset: Path, number: int) -> "Mesh":
    """The mesh of a dataset's sample, by its number in the file."""
    from lift3d import open_dataset

    faces = open_dataset(dataset, maps=())
    numbers = faces.indices.tolist()
    if number not in numbers:
        raise ConfigError(f"{dataset} has no finished sample {number}; it has {len(numbers)}, counted from 0")
    return faces.mesh(numbers.index(number))


def _lifted(model: str, seed: int, truncation: float | None, resolution: int) -> "Mesh":
    """The mesh of a model's sample."""
    from lift3d import load

    lifted = load(model)
    return lifted.mesh(lifted.sample([seed], truncation).code[0], resolution)
