"""``lift3d info``: what is in a dataset, a lifted model, a run, a GAN or a mesh."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lift3d.cli import options
from lift3d.cli.table import table
from lift3d.errors import ConfigError, CorruptFile

if TYPE_CHECKING:
    from lift3d.scene.mesh import Mesh

Description = tuple[dict, str]  # what is said of a file: for --json, and for people

HDF5_MAGIC = b"\x89HDF"
GLB_MAGIC = b"glTF"
MESHES = (".obj", ".ply", ".stl")  # told by their names
RUN = ("instance.lift", "model.safetensors", "state.safetensors", "checkpoint.safetensors")  # finished or not


@click.command()
@click.argument("file", type=options.PATH)
@click.option("--contact-sheet", type=options.PATH, help="Also draw an overview of a dataset, a picture.")
@options.overwrite
@options.json_output
def info(file: Path, contact_sheet: Path | None, overwrite: bool, as_json: bool) -> None:
    """Show what is in FILE: a dataset, a lifted model or the folder of a run, a GAN, a checkpoint or a mesh.

    The settings of a lifted model are printed as a file that `lift3d pretrain --dataset` takes.
    """
    file = _in_run(file) if file.is_dir() else file
    if not file.is_file():
        raise ConfigError(f"{file} is not a file; give a dataset, a model, a checkpoint or a mesh")
    with open(file, "rb") as opened:
        head = opened.read(9)
    if head[:4] == HDF5_MAGIC:
        about, text = _dataset(file)
    elif contact_sheet is not None:
        raise ConfigError(f"--contact-sheet: {file} is no dataset; give one that `lift3d sample` wrote")
    elif head[:4] == GLB_MAGIC or file.suffix.lower() in MESHES:
        about, text = _mesh(file)
    elif head[8:] == b"{":  # a safetensors file: the length of its header, then the header
        about, text = _tensors(file)
    else:
        about, text = _gan(file)
    click.echo(json.dumps(about, default=str) if as_json else text)
    if contact_sheet is not None:
        from lift3d.export.contact_sheet import write_contact_sheet

        options.require_new(contact_sheet, overwrite)
        shown = write_contact_sheet(file, contact_sheet)
        click.echo(f"{contact_sheet}: contact sheet of {shown} of {about['done']} samples", err=True)


def _dataset(file: Path) -> Description:
    """A dataset's datasets."""
    from lift3d.export.hdf5.reader import describe
    from lift3d.export.hdf5.sample_file import unfinished_parts

    about = describe(file)
    lines = [f"{file}: {about.done} of {about.planned} samples, {_size(about.nbytes)}"]
    if waiting := unfinished_parts(file):
        lines.append(f"{waiting} more samples wait in parts beside it; lift3d sample --resume puts them in")
    lines.append(f"{about.generator}, {about.created}, license {about.license}")
    lines.append(f"plan: {json.dumps(about.config.get('plan'))}\n")
    header = ("dataset", "shape", "dtype", "axes", "units", "stored")
    rows = [
        (d.name, "x".join(map(str, d.shape)), d.dtype, d.axes, d.units, _size(d.nbytes))
        for d in about.datasets
    ]
    return asdict(about), "\n".join([*lines, table([header, *rows])])


def _mesh(file: Path) -> Description:
    """A mesh, and the ranges of what its vertices say."""
    import numpy as np

    mesh = _read_mesh(file)
    columns = {"position": mesh.vertices} | mesh.attributes()
    ranges = {name: [float(f(array)) for f in (np.min, np.mean, np.max)] for name, array in columns.items()}
    about = {"vertices": len(mesh.vertices), "faces": len(mesh.faces), "ranges": ranges}
    rows = [(name, *(f"{number:.3g}" for number in found)) for name, found in ranges.items()]
    size = f"{len(mesh.vertices)} vertices, {len(mesh.faces)} faces, {_size(file.stat().st_size)}"
    values = table([("vertices'", "least", "mean", "greatest"), *rows])
    return about, f"{file}: mesh, {size}\n\n{values}"


def _in_run(folder: Path) -> Path:
    """The file that stands for a run: its model, or the state it can be resumed from."""
    for name in RUN:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"{folder} is no run: it holds none of {', '.join(RUN)}")


def _read_mesh(file: Path) -> "Mesh":
    """A mesh of any format that `lift3d export` writes, with what lift3d stores at its vertices."""
    import numpy as np
    import trimesh

    from lift3d.export.meshes.glb import read_glb
    from lift3d.scene.mesh import Mesh

    if file.suffix.lower() not in MESHES:
        return read_glb(file)
    try:
        found = trimesh.load(file, force="mesh", process=False)
        if file.suffix.lower() == ".stl":  # every face has corners of its own
            found.merge_vertices()
        vertices, faces = np.float32(found.vertices), np.int32(found.faces)
    except Exception as error:  # trimesh raises whatever its parsers do
        raise CorruptFile(f"{file} is truncated or no {file.suffix[1:].upper()} file: {error}") from error
    if not len(faces):
        raise CorruptFile(f"{file} holds no faces; export it again")
    return Mesh(vertices, faces)


def _tensors(file: Path) -> Description:
    """A file of tensors: the JSON in its metadata, and its size."""
    from lift3d.gan.files.load import FORMAT, read_tensors

    about, tensors = read_tensors(file)
    if about.get("format") == FORMAT:
        return _gan(file)
    numbers = sum(tensor.numel() for tensor in tensors.values())
    size = f"{len(tensors)} tensors, {numbers / 1e6:.2f} M numbers, {_size(file.stat().st_size)}"
    if not isinstance(preset := about.get("preset"), str):
        rest = {name: value for name, value in about.items() if name != "preset"}
        return about, f"{file}: {size}\n{json.dumps(rest, indent=2)}"
    from lift3d.config.schema import Preset
    from lift3d.config.toml import to_toml

    comments = [  # the rest is a file for --dataset
        f"# {name}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in {str(file): size, **about}.items()
        if name != "preset"
    ]
    return about, "\n".join([*comments, to_toml(Preset.from_json(preset)).rstrip()])


def _gan(file: Path) -> Description:
    """A 2D GAN of any kind that loads."""
    from lift3d.gan.files.load import describe

    about = describe(file)
    order = f"4 to {about.resolution} pixels" if about.family == "StyleGAN2" else "layer by layer"
    there = "there" if about.discriminator else "missing: features of another network stand in"
    rows = [
        ("kind", about.kind),
        ("source", about.source or "not stated"),
        ("channels", f"{', '.join(map(str, about.channels))} ({order})"),
        ("architecture", about.architecture),
        ("latents", f"z {about.z_dim}, w {about.w_dim}, {about.n_mapping_layers} mapping layers"),
        ("conditional", f"yes, {about.c_dim} numbers" if about.c_dim else "no"),
        ("discriminator", there),
        ("license", about.license or "not stated"),
        *(("note", note) for note in about.notes),
    ]
    size = f"{about.resolution} x {about.resolution} pixels, {_size(file.stat().st_size)}"
    lines = [f"{file}: {about.family}, {size}", *(f"{name:<14} {text}" for name, text in rows)]
    return asdict(about), "\n".join(lines)


def _size(nbytes: int) -> str:
    """Bytes, in a unit of their size."""
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes} B"
