"""Instances on their way to files of other programs: from a dataset or a model, and made ready for a format.

Materials come from the fields of the model. A dataset has none, but it names its model and keeps every code;
if that model is at hand and still paints the stored vertices as they are stored, its fields are used.
Otherwise the vertices are all there is, and the instance's ``note`` says so. A dataset without meshes needs
the model, which makes them again from the codes, and must then draw the stored image as it is stored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lift3d import defaults
from lift3d.errors import ConfigError, Lift3DError
from lift3d.export.hdf5.reader import DatasetSample, FileInfo, LiftedDataset, describe, open_dataset
from lift3d.export.meshes.texture import Materials, Textures, bake, from_fields, from_vertices
from lift3d.instance import load
from lift3d.model import LiftedGAN
from lift3d.renderers import RENDERERS
from lift3d.scene.cameras import Cameras
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh, MeshReport, clean, decimate, report

BUDGET = 20_000  # faces of a textured mesh, unless told: an atlas takes seconds up to here, minutes beyond
SIZE = 256  # side of the images that a model's .blend file is set up for, pixels
PROBES = 256  # vertices at which a model is compared with a dataset
TOLERANCE = 2e-3  # of albedo and specular intensity, and of the exponent as a fraction
CODE_VALUES = 1.0  # mean difference of two images of one instance: rounded twice, and machines differ


@dataclass(frozen=True)
class Instance:
    """What becomes a file."""

    mesh: Mesh  # with all attributes
    materials: Materials
    cameras: Cameras  # [v]
    lights: Lights  # [l]
    size: int  # of the images, pixels
    note: str = ""  # what a user should know about the materials


@dataclass(frozen=True)
class Instances:
    """A choice of instances; one is made when asked for by its number."""

    numbers: tuple[int, ...]  # of the samples in the file, or seeds
    instance: Callable[[int], Instance]


@dataclass(frozen=True)
class Finished:
    """An instance's mesh as a format wants it."""

    mesh: Mesh  # cut open along seams if there are textures
    textures: Textures | None
    report: MeshReport  # of the surface before it was cut


def from_model(
    model: LiftedGAN,
    seeds: Sequence[int],
    truncation: float | None = None,
    resolution: int = defaults.MESH_RESOLUTION,
) -> Instances:
    """Samples of a model, each seen and lit as its own image is; ``resolution`` is that of the mesh."""

    def instance(seed: int) -> Instance:
        one = model.sample([seed], truncation)
        mesh, materials = model.mesh(one.code[0], resolution), from_fields(model, one.code[0], resolution)
        return Instance(mesh, materials, one.cameras, one.lights, SIZE)

    return Instances(tuple(seeds), instance)


def from_dataset(
    path: Path, numbers: Sequence[int] | None = None, model: str | Path | None = None, fields: bool = True
) -> Instances:
    """Finished samples of a dataset, all of them if ``numbers`` is None.

    ``model`` is the one that made it, else the one that it names is looked for; without ``fields`` there is
    no search unless the file has no meshes. Raises ``ConfigError`` for samples that are not there or not
    done, another model, and a file without meshes whose model is not here.
    """
    faces, about = open_dataset(path, maps=("colors",)), describe(path)
    stored = any(dataset.name.startswith("meshes/") for dataset in about.datasets)
    places = {int(faces.indices[i]): i for i in faces.places(numbers)}
    maker = (load(model) if model else _maker(about)) if fields or not stored else None
    if maker is None and not stored:
        raise ConfigError(
            f"{path} has no meshes, and its model is not here to make them: give it by --model FILE"
        )
    plan, resolution = about.config["plan"], about.config["plan"]["mesh_resolution"]

    def instance(number: int) -> Instance:
        one = faces[places[number]]
        mesh = _mesh(faces, places[number]) if stored else maker.mesh(one.code, resolution)
        scene = one.cameras, one.lights, round(2 * float(one.intrinsics[0, 0, 2]))
        if stored:
            is_maker = maker is not None and agrees(maker, one.code, mesh)
        else:
            is_maker = draws(maker, one, mesh, plan["renderer"])
        if is_maker:
            return Instance(mesh, from_fields(maker, one.code, resolution), *scene)
        if not stored or (model is not None and fields):
            named = model or plan["model"]
            what, rest = ("material", ", or leave --model out") if stored else ("image", "")
            raise ConfigError(
                f"{named} did not make sample {number} of {path}: its {what} differs; give the model that "
                f"did{rest}"
            )
        why = "is not here" if maker is None else "has changed"
        note = f"{path}: its model {why}, so textures are made of vertex colors; --model FILE gives it"
        return Instance(mesh, from_vertices(mesh), *scene, note if fields else "")

    return Instances(tuple(places), instance)


def finish(
    instance: Instance, texels: int | None = None, n_faces: int | None = None, normals: bool = False
) -> Finished:
    """An instance's mesh with at most ``n_faces`` faces, and its textures of ``texels`` a side, of normals
    too if asked for; None leaves the step out. The vertices that are left have the surface's normals and
    material.
    """
    mesh = instance.mesh
    if n_faces is not None and n_faces < len(mesh.faces):
        mesh = clean(decimate(mesh, n_faces))
        mesh = replace(mesh, **instance.materials(mesh.vertices).attributes())
    state = report(mesh)
    if texels is None:
        return Finished(mesh, None, state)
    return Finished(*bake(mesh, texels, instance.materials, normals), state)


def agrees(model: LiftedGAN, code: Float[Tensor, " c"], mesh: Mesh) -> bool:
    """Whether a model paints a mesh of this code as it is painted."""
    if len(code) != model.config.n_code or not len(mesh.vertices):
        return False
    some = np.unique(np.linspace(0, len(mesh.vertices) - 1, PROBES).astype(int))
    painted = model.evaluate_material(Mesh(mesh.vertices[some], np.zeros((0, 3), np.int32)), code)
    return all(
        np.allclose(getattr(painted, name), getattr(mesh, name)[some], rtol=TOLERANCE, atol=TOLERANCE)
        for name in ("albedo", "specular", "shininess")
    )


def draws(model: LiftedGAN, one: DatasetSample, mesh: Mesh, renderer: str) -> bool:
    """Whether a model and its mesh look as the first image of a sample does, where either shows something."""
    size, stored = one.colors.shape[-2], one.colors[0, 0].float()
    maps = model.render(one.code, one.cameras[:1], one.lights[:1], size, RENDERERS[renderer](mesh=mesh))
    drawn = 255 * maps.colors[0, 0].cpu()
    shown = maps.mask[0].cpu() | (stored != 255 * stored.new_tensor(model.background).round()).any(-1)
    return bool((drawn - stored)[shown].abs().mean() <= CODE_VALUES)


def _mesh(faces: LiftedDataset, index: int) -> Mesh:
    mesh = faces.mesh(index)
    if not len(mesh.faces):
        raise ConfigError(f"sample {faces.indices[index]} of {faces.path} has an empty mesh; leave it out")
    return mesh


def _maker(about: FileInfo) -> LiftedGAN | None:
    """The model that a dataset names: the bundled one, or a file beside the dataset or in this folder."""
    name = Path(about.config["plan"]["model"]).name
    for place in ("demo",) if name == "demo" else (about.path.parent / name, Path(name)) if name else ():
        try:
            return load(place)
        except Lift3DError:
            continue
    return None
