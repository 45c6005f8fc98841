"""What the page shows, as packs (pack.py): meshes, maps of a view, pictures; of a model and of a dataset.

Everything that the viewer asks of a model or a file stands here. A view is (pitch, yaw, roll, t_x, t_y, t_z);
a light is (k_a, k_d, k_n, x, y, z) with a unit direction, in the world frame.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.export.hdf5.file import open_file
from lift3d.export.hdf5.reader import DatasetSample, describe, open_dataset
from lift3d.export.hdf5.schema import SPLIT
from lift3d.export.meshes.glb import to_glb
from lift3d.export.viewer.pack import pack, quantize
from lift3d.instance import Instances
from lift3d.model import LiftedGAN, Samples
from lift3d.render.maps import Maps
from lift3d.renderers import MeshRenderer, VolumeRenderer
from lift3d.scene.cameras import Cameras, pixel_grid
from lift3d.scene.images import colors_to_images, images_to_colors, to_picture, to_uint8
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh
from lift3d.scene.shading import Material, shade

Number = int | float
KEPT = 6  # instances whose meshes are kept
SIZES = (16, 512)  # pixels of a picture
RESOLUTIONS = (16, 192)  # grid cells of a mesh
THUMBNAILS = 24  # at once
CELL = 96  # pixels of a stored image in the grid of a dataset


@dataclass(frozen=True)
class Choice:
    """An instance of a model: a seed, or the mixture of two (of their w)."""

    seed: int
    truncation: float
    other: int = 0
    mix: float = 0.0  # 0: seed, 1: other


def number(question: dict, name: str, low: Number, high: Number, default: Number | None = None) -> float:
    """A number of a question. Raises ``ConfigError`` if it is none, or out of range."""
    value = question.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{name} is {str(value)[:40]!r}, expected a number from {low:g} to {high:g}")
    return float(value)


def numbers(question: dict, name: str, count: int) -> list[float]:
    """``count`` finite numbers of a question."""
    values = question.get(name)
    if not isinstance(values, list) or len(values) != count:
        raise ConfigError(f"{name} is {str(values)[:40]!r}, expected {count} numbers")
    return [number({name: value}, name, -100.0, 100.0) for value in values]


def mesh_arrays(mesh: Mesh) -> dict[str, object]:
    """A mesh as the page wants it: 16 bits per coordinate, 8 per normal component and color."""
    index = np.uint16 if len(mesh.vertices) < 1 << 16 else np.uint32
    peak = max(float(mesh.specular.max()), 1e-6)
    return {
        "vertices": quantize(mesh.vertices, "i2", -1.1, 1.1),
        "normals": quantize(mesh.normals, "u1", -1.0, 1.0),
        "vertex_albedo": to_uint8(mesh.albedo),
        "reflection": quantize(mesh.specular, "u1", 0.0, peak),
        "exponent": quantize(mesh.shininess, "u1", 0.0, 128.0),
        "faces": mesh.faces.astype(index),
    }


def map_arrays(maps: Maps | DatasetSample, view: int) -> dict[str, object]:
    """The maps of one view, shaded by the page; all of them are there, or ``ConfigError``."""
    names = ("mask", "albedo", "normals", "specular", "shininess", "depth")
    if missing := [name for name in names if getattr(maps, name) is None]:
        raise ConfigError(f"the page shades maps: {', '.join(missing)} are not in the file; sample with all")
    found = (getattr(maps, name)[view].cpu().numpy() for name in names)
    mask, albedo, normals, specular, shininess, depth = found
    inside = depth[mask]
    near, far = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 1.0)
    peak = max(float(specular.max()), 1e-6)
    return {
        "mask": mask.astype(np.uint8),
        "albedo": albedo if albedo.dtype == np.uint8 else to_uint8(albedo),
        "normals": quantize(normals, "i2", -1.0, 1.0),
        "specular": quantize(specular, "u2", 0.0, peak),
        "shininess": quantize(shininess, "u2", 0.0, 128.0),
        "depth": (quantize(depth, "u2", near, far)[0] * mask, (far - near) / 65535 or 1.0, near),
    }


def camera_facts(cameras: Cameras) -> list[dict]:
    """Views, and the tangent of half the field of view, of cameras [v]."""
    tangent = math.tan(math.radians(cameras.fov_deg) / 2)
    return [{"view": view, "tangent": tangent} for view in cameras.to_view().tolist()]


def light_facts(lights: Lights) -> list[list[float]]:
    """Lights [l] as rows (k_a, k_d, k_n, x, y, z)."""
    strengths = torch.stack((lights.ambient, lights.diffuse, lights.negative), -1)
    return torch.cat((strengths, lights.direction), -1).tolist()


def shaded(
    maps: Maps, cameras: Cameras, light: Sequence[Number], gains: Sequence[Number], background: Number
) -> Float[Tensor, "h w 3"]:
    """Colors [h, w, 3] of the first view under a light, specular and exponent times ``gains``: the formula
    that the page computes.
    """
    size = maps.mask.shape[-1]
    _, rays = cameras[0].rays(pixel_grid(size, maps.mask.device), size)
    to_camera = -rays.view(size, size, 3)
    lobe = maps.specular[0, ..., None] * gains[0], maps.shininess[0, ..., None] * gains[1]
    material = Material(maps.albedo[0], *lobe)
    lamp = torch.tensor(light, device=maps.mask.device, dtype=torch.float32)
    lights = Lights(torch.nn.functional.normalize(lamp[3:], dim=0), lamp[0], lamp[1], lamp[2])
    colors = shade(maps.normals[0], to_camera, material, lights.per_point(2)).clamp(0.0, 1.0)
    return torch.where(maps.mask[0, ..., None], colors, colors.new_tensor(background))


class ModelScene:
    """Answers about a model. It is no thread-safe object: the server asks one question at a time."""

    kind = "model"

    def __init__(self, model: LiftedGAN, name: str, size: int = 256, resolution: int = 128) -> None:
        self.model, self.name, self.size, self.resolution = model, name, size, resolution
        self._meshes: OrderedDict[tuple[Choice, int], MeshRenderer] = OrderedDict()
        self._last: tuple[Choice, Samples] | None = None

    def about(self) -> dict:
        """What the page knows from the start."""
        config = self.model.config
        about = {"kind": self.kind, "name": self.name, "size": self.size, "resolution": self.resolution}
        about |= {"truncation": config.truncation, "background": self.model.background[0]}
        return about | {"instances": len(self.model.members) if isinstance(self.model, Instances) else 0}

    def answers(self) -> dict:
        """Questions by name."""
        names = ("instance", "picture", "projection", "thumbnails", "glb")
        return {name: getattr(self, name) for name in names}

    def instance(self, question: dict) -> bytes:
        """The mesh, the GAN's own image, and where it seems to be seen from and lit."""
        one, mesh = self._lift(self._choice(question)), self._drawn(question).mesh
        about = {"camera": camera_facts(one.cameras)[0], "light": light_facts(one.lights)[0]}
        return pack(about, mesh_arrays(mesh) | {"image": to_picture(images_to_colors(one.image[0]))})

    def picture(self, question: dict) -> bytes:
        """The maps of a view."""
        maps, cameras = self._maps(question)
        return pack({"camera": camera_facts(cameras)[0]}, map_arrays(maps, 0))

    def projection(self, question: dict) -> bytes:
        """The picture's projection through the GAN (E_w)."""
        light, gains = numbers(question, "light", 6), numbers(question, "gains", 2)
        maps, cameras = self._maps(question | {"size": self.model.config.size, "renderer": "mesh"})
        colors = shaded(maps, cameras, light, gains, self.model.background[0])
        w = self._lift(self._choice(question)).w[0]
        image = self.model.project(w, colors_to_images(colors[None]))[0]
        return pack({}, {"image": to_picture(images_to_colors(image))})

    def thumbnails(self, question: dict) -> bytes:
        """The GAN's images of consecutive seeds."""
        first, count = self._seed(question, "first"), int(number(question, "count", 1, THUMBNAILS))
        seeds = [seed % 2**32 for seed in range(first, first + count)]
        images = self.model.sample(seeds, number(question, "truncation", 0.0, 1.0)).image
        return pack({"seeds": seeds}, {"images": to_picture(images_to_colors(images))})

    def glb(self, question: dict) -> bytes:
        """The mesh as a glTF binary with vertex colors."""
        return to_glb(self._drawn(question | {"resolution": self.resolution}).mesh)

    @staticmethod
    def _seed(question: dict, name: str) -> int:
        return int(number(question, name, 0, 2**32 - 1, 0))

    def _choice(self, question: dict) -> Choice:
        truncation, mix = number(question, "truncation", 0.0, 1.0), number(question, "mix", 0.0, 1.0, 0.0)
        other = self._seed(question, "other") if mix else 0
        return Choice(self._seed(question, "seed"), truncation, other, mix)

    def _lift(self, choice: Choice) -> Samples:
        if self._last is None or self._last[0] != choice:
            one = self.model.sample([choice.seed], choice.truncation)
            if choice.mix:
                other = self.model.sample([choice.other], choice.truncation)
                one = self.model.lift(one.w.lerp(other.w, choice.mix))
            self._last = choice, one
        return self._last[1]

    def _drawn(self, question: dict) -> MeshRenderer:
        """The mesh of an instance, ready to be rendered."""
        choice = self._choice(question)
        key = choice, int(number(question, "resolution", *RESOLUTIONS, self.resolution))
        if key not in self._meshes:
            self._meshes[key] = MeshRenderer(self.model.mesh(self._lift(choice).code[0], key[1]))
            while len(self._meshes) > KEPT:
                self._meshes.popitem(last=False)
        self._meshes.move_to_end(key)
        return self._meshes[key]

    def _maps(self, question: dict) -> tuple[Maps, Cameras]:
        """Maps of the asked view, which no light has touched."""
        size = int(number(question, "size", *SIZES, self.size))
        device = self.model.device
        cameras = Cameras.from_view(torch.tensor([numbers(question, "view", 6)], device=device))
        one = self._lift(self._choice(question))
        volume = question.get("renderer") == "neus"
        renderer = VolumeRenderer() if volume else self._drawn(question)
        return self.model.render(one.code[0], cameras, one.lights, size, renderer), cameras


class DatasetScene:
    """Answers about a file, which is opened anew for every question: it may grow, or vanish."""

    kind = "dataset"

    def __init__(self, path: Path) -> None:
        self.path, self.name = Path(path), Path(path).name
        self.about()  # a file that cannot be read fails here

    def about(self) -> dict:
        """What the page knows from the start."""
        about = describe(self.path)
        with open_file(self.path) as h5:
            done = h5["done"][:].astype(bool).tolist()
            background = float(h5["colors"].attrs["background"][0])
        facts = {"kind": self.kind, "name": self.name, "file": str(self.path), "planned": about.planned}
        return facts | {"done": done, "background": background, "license": about.license}

    def answers(self) -> dict:
        """Questions by name."""
        return {"sample": self.sample, "verify": self.verify, "glb": self.glb, "about": self.facts}

    def facts(self, question: dict) -> bytes:
        """``about``, as it is now."""
        return pack(self.about(), {})

    def sample(self, question: dict) -> bytes:
        """Everything of a sample: mesh, maps of all views, stored images, cameras, lights, split."""
        index, dataset, item = self._find(question)
        one = dataset[item]
        cameras = camera_facts(one.cameras)
        about = {"index": index, "seed": int(one.seed), "cameras": cameras, "lights": light_facts(one.lights)}
        about["split"] = self._split(index)
        arrays: dict[str, object] = {"image": one.gan_image.numpy()}
        try:
            arrays |= mesh_arrays(dataset.mesh(item))
        except ConfigError:
            about["mesh"] = False  # the file has none
        for view in range(len(cameras)):
            arrays |= {f"{name}/{view}": value for name, value in map_arrays(one, view).items()}
        for name in ("colors", "colors_gan"):
            if (stored := getattr(one, name)) is not None:
                step = -(-stored.shape[2] // CELL)
                arrays[name] = stored[:, :, ::step, ::step].numpy()
        return pack(about, arrays)

    def verify(self, question: dict) -> bytes:
        """What ``lift3d verify`` finds."""
        from lift3d.export.hdf5.verify import verify

        report = verify(self.path)
        found = [f"{f.dataset}: {f.problem}" for f in report.findings[:5]]
        return pack({"samples": report.samples, "problems": len(report.findings), "first": found}, {})

    def glb(self, question: dict) -> bytes:
        """The stored mesh as a glTF binary with vertex colors."""
        _, dataset, item = self._find(question)
        return to_glb(dataset.mesh(item))

    def _find(self, question: dict) -> tuple:
        dataset, planned = open_dataset(self.path), len(self.about()["done"])
        index = int(number(question, "index", 0, planned - 1))
        return index, dataset, dataset.places([index])[0]

    def _split(self, index: int) -> str:
        with open_file(self.path) as h5:
            if not isinstance(h5.get("split"), h5py.Dataset):
                return ""
            return SPLIT[int(h5["split"][index])]
