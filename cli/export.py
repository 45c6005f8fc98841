"""``lift3d export``: instances as meshes for other programs."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lift3d import defaults
from lift3d.cli import options
from lift3d.cli.progress import RichObserver
from lift3d.errors import ConfigError
from lift3d.observer import observed

if TYPE_CHECKING:
    from lift3d.export.objects import Finished, Instances

TEXTURED = (".glb", ".obj", ".blend")  # formats that hold textures
NORMAL_MAPPED = (".glb", ".blend")
SUFFIXES = (*TEXTURED, ".ply", ".stl", ".html")


@click.command()
@click.argument("dataset", type=options.PATH, required=False)
@click.option(
    "--sample",
    type=options.NumberList("all"),
    help='Samples in DATASET: "3", "0-9,12" or "all".  [default: 0]',
)
@options.some_models(
    help="Take instances from this model, or these instances; with a DATASET, the model that made it."
)
@click.option(
    "--seed", type=options.SEEDS, help='Seeds of the model\'s samples: "7", "0-9,12".  [default: 0]'
)
@options.truncation
@click.option(
    "--resolution",
    type=int,
    help=f"Grid cells per side of the model's mesh.  [default: {defaults.MESH_RESOLUTION}]",
)
@click.option(
    "--out",
    type=options.PATH,
    required=True,
    help="File (.glb, .obj, .ply, .stl, .blend, .html), or a folder.",
)
@click.option(
    "--format", "kind", default=defaults.EXPORT_FORMAT, metavar="NAME", help="Of the files in a folder."
)
@click.option(
    "--vertex-colors", is_flag=True, help="Colors at the vertices instead of textures (.glb, .obj, .blend)."
)
@click.option("--texture-size", default=defaults.TEXTURE_SIZE, metavar="TEXELS", help="Side of a texture.")
@click.option("--normal-map", is_flag=True, help="A texture of normals, too (.glb, .blend).")
@click.option("--decimate", type=int, metavar="FACES", help="Faces at most.  [default: 20000 with textures]")
@click.option("--material", default="exact", metavar="exact|pbr", help="Material of a .blend file.")
@click.option("--scale", default=1.0, help="Meters per unit in a .blend file.")
@click.option(
    "--up",
    default=defaults.UP,
    metavar="y|z",
    help="Axis that points up in .obj, .ply and .stl files; y in .glb, z in .blend files, always.",
)
@click.option("--blender", metavar="PROGRAM", help="Blender, or a Python with bpy, for .blend files.")
@options.overwrite
@options.resume
@options.threads
def export(
    out: Path,
    kind: str,
    vertex_colors: bool,
    texture_size: int,
    normal_map: bool,
    decimate: int | None,
    material: str,
    scale: float,
    up: str,
    blender: str | None,
    overwrite: bool,
    resume: bool,
    threads: int | None,
    **source: object,
) -> None:
    """Write the meshes of a DATASET's samples, or of a model's, in the format that --out is named for."""
    options.require_one(overwrite, resume)
    folder = out.is_dir() or (not out.suffix and not out.exists())
    suffix = f".{kind.lower()}" if folder else out.suffix.lower()
    if suffix not in SUFFIXES:
        what = f"--format {kind}" if folder else out
        raise ConfigError(f"{what} has no known format, expected one of {', '.join(SUFFIXES)}")
    textured = suffix in TEXTURED and not vertex_colors
    if normal_map and not (textured and suffix in NORMAL_MAPPED):
        raise ConfigError(
            "--normal-map is for .glb and .blend files with textures; leave it out, or write such a file"
        )
    _refuse_without_effect(suffix, out, folder, textured)
    if up not in ("y", "z"):
        raise ConfigError(f"--up is {up!r}, expected y or z")
    if not (folder or resume):
        options.require_new(out, overwrite)
    options.use_device("cpu", threads)
    from lift3d.export.blender.blend import check_setting, find_blender, write_blend
    from lift3d.export.meshes.texture import check_size
    from lift3d.export.meshes.write import write_mesh
    from lift3d.export.objects import BUDGET, finish

    if suffix == ".blend":  # what would fail after minutes of work
        check_setting(material, scale)
        find_blender(blender)
    texels = check_size(texture_size) if textured else None
    n_faces = decimate if decimate is not None else BUDGET if textured else None
    instances = _instances(textured, **source)
    if suffix == ".html":
        return _share(instances, out, decimate, source)
    paths = _paths(out, folder, suffix, instances.numbers)
    for path in paths.values():
        if not resume:
            options.require_new(path, overwrite)
    left = {number: path for number, path in paths.items() if not (resume and path.exists())}
    notes: set[str] = set()  # given already
    with RichObserver() as observer:
        for number, path in observed(observer, "exporting", left.items()):
            start, instance = time.perf_counter(), instances.instance(number)
            finished = finish(instance, texels, n_faces, normal_map)
            if instance.note and instance.note not in notes:
                notes.add(instance.note)
                observer.message(instance.note)
            if suffix == ".blend":
                scene = instance.cameras, instance.lights, instance.size, material, scale
                write_blend(finished.mesh, path, *scene, finished.textures, blender)
            else:
                write_mesh(path, finished.mesh, finished.textures, up)
            click.echo(f"{path}: {_described(finished)}, in {time.perf_counter() - start:.1f} s")


def _share(instances: "Instances", out: Path, decimate: int | None, source: dict[str, object]) -> None:
    """One page with all instances in it."""
    from lift3d import load, open_dataset
    from lift3d.export.viewer import share

    faces, numbers = share.FACES if decimate is None else decimate, instances.numbers
    if source["dataset"] is None:
        model, name = load(*source["models"]), ", ".join(source["models"])
        page = share.from_model(model, numbers, source["truncation"], faces=faces, name=name)
    else:
        chosen = open_dataset(source["dataset"])
        places = chosen.places(numbers)
        meshes = lambda place: instances.instance(int(chosen.indices[place])).mesh  # noqa: E731
        page = share.from_dataset(chosen, places, faces, meshes)
    page.save(out)
    click.echo(f"{out}: {len(numbers)} instances, {len(page.text) / 1000:.0f} kB")


def _refuse_without_effect(suffix: str, out: Path, folder: bool, textured: bool) -> None:
    """Options that change nothing in a file of this kind."""
    if not folder:
        options.refuse_without_effect(["kind"], "on a single file, whose name decides")
    if suffix != ".blend":
        options.refuse_without_effect(["material", "scale", "blender"], f"in {suffix} files, only in .blend")
    if suffix not in (".obj", ".ply", ".stl"):
        options.refuse_without_effect(["up"], f"in {suffix} files, whose standard decides")
    if suffix not in TEXTURED:
        options.refuse_without_effect(["vertex_colors"], f"in {suffix} files, which have no textures")
    if not textured:
        options.refuse_without_effect(["texture_size"], "without textures")
    if suffix == ".html":
        if folder:
            raise ConfigError(f"a page holds all instances: give a file such as {out / 'page.html'} as --out")
        options.refuse_without_effect(["resolution", "resume"], "on a page")


def _instances(
    textured: bool,
    dataset: Path | None,
    sample: str | list[int] | None,
    models: tuple[str, ...],
    seed: list[int] | None,
    truncation: float | None,
    resolution: int | None,
) -> "Instances":
    """Which instances the options name."""
    if dataset is None and not models:
        raise ConfigError("give a dataset (faces.h5 --sample 0) or a model (--model demo --seed 7)")
    ours = {"--seed": seed, "--trunc": truncation, "--resolution": resolution}
    for name, value in ({"--sample": sample} if dataset is None else ours).items():
        if value is not None:
            what = "model alone" if dataset is None else "dataset"
            raise ConfigError(f"{name} does not go with a {what}; leave it out")
    if dataset is not None and len(models) > 1:
        raise ConfigError(f"{len(models)} models for one dataset; give the one that made it")
    from lift3d import load
    from lift3d.export.objects import from_dataset, from_model

    if dataset is None:
        cells = defaults.MESH_RESOLUTION if resolution is None else resolution
        return from_model(load(*models), _once(seed), truncation, cells)
    numbers, model = None if sample == "all" else _once(sample), models[0] if models else None
    return from_dataset(dataset, numbers, model, textured)


def _once(numbers: list[int] | None) -> list[int]:
    """Each of the numbers once, as it names a file; the first of all if none is given."""
    return list(dict.fromkeys(numbers or [0]))


def _paths(out: Path, folder: bool, suffix: str, numbers: tuple[int, ...]) -> dict[int, Path]:
    """A file for everyone, in a folder that is made if need be."""
    if folder:
        out.mkdir(exist_ok=True)
        return {number: out / f"{number:06d}{suffix}" for number in numbers}
    if len(numbers) != 1:
        raise ConfigError(f"{len(numbers)} instances do not fit into {out}; give a folder as --out")
    return {numbers[0]: out}


def _described(finished: "Finished") -> str:
    """Size, state and textures of what was written."""
    mesh, state = finished.mesh, finished.report
    flaws = f"{state.boundary_edges} open and {state.nonmanifold_edges} branching edges"
    shape = "closed manifold" if state.solid else flaws
    texture = "" if finished.textures is None else f", textures of {len(finished.textures.albedo)} texels"
    return f"{len(mesh.vertices)} vertices, {len(mesh.faces)} faces, {shape}{texture}"
