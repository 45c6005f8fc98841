"""``lift3d info``: what is in a dataset, a lifted model, a GAN or a GLB file."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from lift3d.cli import options
from lift3d.cli.table import table
from lift3d.errors import ConfigError

HDF5_MAGIC = b"\x89HDF"
GLB_MAGIC = b"glTF"


@click.command()
@click.argument("file", type=options.PATH)
@click.option("--contact-sheet", type=options.PATH, help="Also draw an overview of a dataset, a PNG.")
@options.overwrite
@options.json_output
def info(file: Path, contact_sheet: Path | None, overwrite: bool, as_json: bool) -> None:
    """Show what is in FILE: a dataset, a lifted model, a GAN, a training checkpoint or a mesh (.glb)."""
    if not file.is_file():
        raise ConfigError(f"{file} is not a file; give a dataset, a model or a checkpoint")
    with open(file, "rb") as opened:
        head = opened.read(9)
    start = head[:4]
    if start == HDF5_MAGIC:
        _dataset(file, contact_sheet, overwrite, as_json)
    elif contact_sheet is not None:
        raise ConfigError(f"--contact-sheet: {file} is no dataset; give one that `lift3d sample` wrote")
    elif start == GLB_MAGIC:
        _mesh(file, as_json)
    elif head[8:] == b"{":  # a safetensors file: the length of its header, then the header
        _tensors(file, as_json)
    else:
        _gan(file, as_json)


def _dataset(file: Path, contact_sheet: Path | None, overwrite: bool, as_json: bool) -> None:
    """A dataset's datasets."""
    from lift3d.export.hdf5.reader import describe

    about = describe(file)
    if as_json:
        click.echo(json.dumps(asdict(about), default=str))
    else:
        click.echo(f"{file}: {about.done} of {about.planned} samples, {_size(about.nbytes)}")
        click.echo(f"{about.generator}, {about.created}, license {about.license}")
        click.echo(f"plan: {json.dumps(about.config.get('plan'))}\n")
        header = ("dataset", "shape", "dtype", "axes", "units", "stored")
        rows = [
            (d.name, "x".join(map(str, d.shape)), d.dtype, d.axes, d.units, _size(d.nbytes))
            for d in about.datasets
        ]
        click.echo(table([header, *rows]))
    if contact_sheet is not None:
        from lift3d.export.contact_sheet import write_contact_sheet

        options.require_new(contact_sheet, overwrite)
        write_contact_sheet(file, contact_sheet)
        click.echo(f"{contact_sheet}: contact sheet", err=True)


def _mesh(file: Path, as_json: bool) -> None:
    """A mesh, and the ranges of what its vertices say."""
    import numpy as np

    from lift3d.export.meshes.glb import read_glb

    mesh = read_glb(file)
    columns = {"position": mesh.vertices} | mesh.attributes()
    ranges = {name: [float(f(array)) for f in (np.min, np.mean, np.max)] for name, array in columns.items()}
    if as_json:
        about = {"vertices": len(mesh.vertices), "faces": len(mesh.faces), "ranges": ranges}
        return click.echo(json.dumps(about))
    size = _size(file.stat().st_size)
    click.echo(f"{file}: mesh, {len(mesh.vertices)} vertices, {len(mesh.faces)} faces, {size}\n")
    rows = [(name, *(f"{number:.3g}" for number in found)) for name, found in ranges.items()]
    click.echo(table([("vertices'", "least", "mean", "greatest"), *rows]))


def _tensors(file: Path, as_json: bool) -> None:
    """A file of tensors: the JSON in its metadata, and its size."""
    from lift3d.gan.files.load import FORMAT, read_tensors

    about, tensors = read_tensors(file)
    if about.get("format") == FORMAT:
        return _gan(file, as_json)
    if as_json:
        click.echo(json.dumps(about))
        return
    numbers = sum(tensor.numel() for tensor in tensors.values())
    click.echo(f"{file}: {len(tensors)} tensors, {numbers / 1e6:.2f} M numbers, {_size(file.stat().st_size)}")
    click.echo(json.dumps(about, indent=2))


def _gan(file: Path, as_json: bool) -> None:
    """A 2D GAN of any kind that loads."""
    from lift3d.gan.files.load import describe

    about = describe(file)
    if as_json:
        return click.echo(json.dumps(asdict(about)))
    click.echo(
        f"{file}: {about.family}, {about.resolution} x {about.resolution} pixels, "
        f"{_size(file.stat().st_size)}"
    )
    order = f"4 to {about.resolution} pixels" if about.family == "StyleGAN2" else "layer by layer"
    rows = [
        ("kind", about.kind),
        ("source", about.source or "not stated"),
        ("channels", f"{', '.join(map(str, about.channels))} ({order})"),
        ("architecture", about.architecture),
        ("latents", f"z {about.z_dim}, w {about.w_dim}, {about.n_mapping_layers} mapping layers"),
        ("conditional", f"yes, {about.c_dim} numbers" if about.c_dim else "no"),
        ("discriminator", "there" if about.discriminator else "missing: this file cannot be lifted"),
        ("license", about.license or "not stated"),
        *(("note", note) for note in about.notes),
    ]
    click.echo("\n".join(f"{name:<14} {text}" for name, text in rows))


def _size(nbytes: int) -> str:
    """Bytes for instances."""
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes} B"
