"""``lift3d export``: people as meshes for other programs."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lift3d.cli import options
from lift3d.cli.progress import RichObserver
from lift3d.errors import ConfigError

if TYPE_CHECKING:
    from lift3d.cameras import Cameras
    from lift3d.export.texture import Maps, Materials
    from lift3d.lights import Lights
    from lift3d.mesh import Mesh

TEXTURED = (".glb", ".obj", ".blend")  # formats that hold textures
SUFFIXES = (*TEXTURED, ".ply", ".stl")
BUDGET = 20_000  # faces of a textured mesh, unless told: an atlas takes seconds up to here, minutes beyond
SIZE = 256  # side of the images that a model's .blend file is set up for, pixels


@dataclass(frozen=True)
class Person:
    """What becomes a file."""

    number: int  # of the sample, or seed
    mesh: "Mesh"
    materials: "Materials"  # what its texture is baked from
    cameras: "Cameras"  # [v]
    lights: "Lights"  # [l]
    size: int  # of its images, pixels


@click.command()
@click.argument("dataset", type=options.PATH, required=False)
@click.option("--sample", metavar="LIST", help='Samples in DATASET: "3", "0-9,12" or "all".  [default: 0]')
@click.option("--model", metavar="NAME|FILE", help="Take people from this model instead of a dataset.")
@click.option("--seed", metavar="LIST", help='Seeds of the model\'s samples: "7", "0-9,12".  [default: 0]')
@click.option(
    "--trunc", type=float, help="Truncation of the model's latents, 0 to 1.  [default: the model's]"
)
@click.option("--resolution", type=int, help="Grid cells per side of the model's mesh.  [default: 128]")
@click.option(
    "--out", type=options.PATH, required=True, help="File (.glb, .obj, .ply, .stl, .blend), or a folder."
)
@click.option(
    "--format", "kind", default="glb", show_default=True, metavar="NAME", help="Of the files in a folder."
)
@click.option(
    "--vertex-colors", is_flag=True, help="Colours at the vertices instead of textures (.glb, .obj, .blend)."
)
@click.option(
    "--texture-size", type=int, default=1024, show_default=True, metavar="TEXELS", help="Side of a texture."
)
@click.option(
    "--decimate", type=int, metavar="FACES", help=f"Faces at most.  [default: {BUDGET} with textures]"
)
@click.option(
    "--material", default="exact", show_default=True, metavar="exact|pbr", help="Material of a .blend file."
)
@click.option("--scale", type=float, default=1.0, show_default=True, help="Metres per unit in a .blend file.")
@click.option("--blender", metavar="PROGRAM", help="Blender, or a Python with bpy, for .blend files.")
@options.overwrite
@options.threads
def export(
    dataset: Path | None,
    sample: str | None,
    model: str | None,
    seed: str | None,
    trunc: float | None,
    resolution: int | None,
    out: Path,
    kind: str,
    vertex_colors: bool,
    texture_size: int,
    decimate: int | None,
    material: str,
    scale: float,
    blender: str | None,
    overwrite: bool,
    threads: int | None,
) -> None:
    """Write the meshes of a DATASET's samples, or of a model's, in the format that --out is named for."""
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
    folder = _is_folder(out)
    suffix = f".{kind.lower()}" if folder else out.suffix.lower()
    if suffix not in SUFFIXES:
        what = f"--format {kind}" if folder else out
        raise ConfigError(f"{what} has no known format, expected one of {', '.join(SUFFIXES)}")
    if not folder:
        options.require_new(out, overwrite)
    options.use_device("cpu", threads)
    numbers, people = (
        _stored(dataset, sample or "0")
        if dataset
        else _lifted(model, _numbers(seed or "0"), trunc, resolution)
    )
    if not folder and len(numbers) != 1:
        raise ConfigError(f"{len(numbers)} people do not fit into {out}; give a folder as --out")
    paths = {n: out / f"{n:06d}{suffix}" if folder else out for n in numbers}
    if folder:
        out.mkdir(exist_ok=True)
        for path in paths.values():
            options.require_new(path, overwrite)
    textured = suffix in TEXTURED and not vertex_colors
    with RichObserver() as observer:
        observer.start("exporting", len(numbers))
        for person in people:
            start = time.perf_counter()
            mesh, maps, shape = _prepared(person, textured, texture_size, decimate)
            if suffix == ".blend":
                from lift3d.export.blender import write_blend

                write_blend(
                    mesh, paths[person.number], person.cameras, person.lights, person.size,
                    material, scale, maps, blender,
                )  # fmt: skip
            else:
                _writer(suffix)(mesh, paths[person.number], *([maps] if maps else []))
            observer.advance()
            about = f"{len(mesh.vertices)} vertices, {len(mesh.faces)} faces, {shape}"
            texture = "" if maps is None else f", textures of {len(maps.albedo)} texels"
            seconds = time.perf_counter() - start
            click.echo(f"{paths[person.number]}: {about}{texture}, in {seconds:.1f} s")
        observer.finish()


def _is_folder(out: Path) -> bool:
    return out.is_dir() or (not out.suffix and not out.exists())


def _writer(suffix: str) -> Callable[..., None]:
    """What writes files of this suffix: (mesh, path), and maps where it can."""
    from lift3d.export.glb import write_glb
    from lift3d.export.obj import write_obj
    from lift3d.export.ply import write_ply
    from lift3d.export.stl import write_stl

    return {".glb": write_glb, ".obj": write_obj, ".ply": write_ply, ".stl": write_stl}[suffix]


def _prepared(
    person: Person, textured: bool, size: int, n_faces: int | None
) -> tuple["Mesh", "Maps | None", str]:
    """The mesh as it is written, its textures, and a word about the surface before it is cut open."""
    from lift3d.export.texture import bake
    from lift3d.mesh import clean, decimate, report

    budget = n_faces if n_faces is not None else BUDGET if textured else None
    mesh = person.mesh if budget is None else clean(decimate(person.mesh, budget))
    state = report(mesh)
    flaws = f"{state.boundary_edges} open and {state.nonmanifold_edges} branching edges"
    shape = "closed manifold" if state.solid else flaws
    return *(bake(mesh, size, person.materials) if textured else (mesh, None)), shape


def _numbers(text: str) -> list[int]:
    """The numbers of a list such as "0-9,12"."""
    numbers: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().lstrip("-").partition("-")
        negative = part.strip().startswith("-")
        if not low.isdigit() or (dash and not high.isdigit()) or negative:
            raise ConfigError(f"{text!r} is no list of numbers, expected one such as 3 or 0-9,12")
        numbers += range(int(low), int(high) + 1) if dash else [int(low)]
    if not numbers:
        raise ConfigError(f"{text!r} names nobody, expected a list such as 3 or 0-9,12")
    return list(dict.fromkeys(numbers))


def _stored(dataset: Path, wanted: str) -> tuple[list[int], Iterator[Person]]:
    """Samples of a dataset, by their numbers in the file."""
    from lift3d import open_dataset
    from lift3d.export.texture import from_vertices

    faces = open_dataset(dataset, maps=())
    present = faces.indices.tolist()
    numbers = present if wanted == "all" else _numbers(wanted)
    for number in numbers:
        if number not in present:
            raise ConfigError(
                f"{dataset} has no finished sample {number}; it has {len(present)}, counted from 0"
            )
    if not numbers:
        raise ConfigError(f"{dataset} has no finished sample; lift3d sample --resume finishes it")

    def people() -> Iterator[Person]:
        for number in numbers:
            index = present.index(number)
            one, mesh = faces[index], faces.mesh(index)
            size = round(2 * float(one.intrinsics.flatten(0, -3)[0, 0, 2]))
            yield Person(number, mesh, from_vertices(mesh), one.cameras, one.lights, size)

    faces.mesh(present.index(numbers[0]))  # a file without meshes fails here, before anything is written
    return numbers, people()


def _lifted(
    name: str, seeds: list[int], truncation: float | None, resolution: int | None
) -> tuple[list[int], Iterator[Person]]:
    """Samples of a model, each seen and lit as its own image is."""
    from lift3d import load
    from lift3d.cameras import Cameras
    from lift3d.export.texture import from_fields
    from lift3d.lights import Lights

    model, cells = load(name), 128 if resolution is None else resolution

    def people() -> Iterator[Person]:
        for seed in seeds:
            one = model.sample([seed], truncation)
            yield Person(
                seed, model.mesh(one.code[0], cells), from_fields(model, one.code[0], cells),
                Cameras.from_view(one.view), Lights.from_vector(one.light), SIZE,
            )  # fmt: skip

    return seeds, people()
