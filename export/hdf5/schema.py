"""What stands in ``faces.h5``: the one place with names, dtypes, shapes, units and attributes of its
datasets.

N samples, V views, L lights. A dataset drops the axes it does not depend on: ``colors`` is [N, V, L, y, x,
3], ``albedo`` [N, V, y, x, 3]. One chunk is one image, deflated ("gzip"), numbers of several bytes after
HDF5's shuffle filter; datasets without pixels are contiguous. Background is 0 in every map; the mask says
where.

Mesh arrays are concatenated: rows ``start`` to ``start + count`` of sample i stand in ``meshes/vertex_span``
and ``meshes/face_span``. Starts are multiples of ``MESH_ROWS``; the rows between two samples are 0.

**While it is written** the file holds the samples of earlier runs. New ones wait beside it, in parts: files
of the same format in the folder ``.faces.h5.parts``, each of the samples of half a minute or of 64 MB. At the
end of a run, after Ctrl-C and SIGTERM too, all are copied into one file, which takes the place of the old one
in one rename. SIGKILL, a power cut or a full disk cost the samples of the part that was open and no others;
``lift3d sample --resume`` makes these again, the same, and puts all parts in. That needs room for the samples
twice. Remove or replace the file beside a run, and the run ends with an error.

**Checksum** of a sample: CRC-32 (upper half) and Adler-32 (lower half), as zlib computes them, over the
sample's values in C order, little-endian, dataset after dataset in alphabetical order of the path.
``checksum``, ``done`` and the mesh spans are left out; of a mesh array the sample's own rows count.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

FORMAT = "lift3d-dataset"
FORMAT_VERSION = 1
MESH_ROWS = 4096  # rows of a mesh chunk; every mesh starts on a multiple
UNCHECKED = ("checksum", "done", "meshes/vertex_span", "meshes/face_span")  # not part of the checksum
ATTRIBUTES = ("axes", "units", "range", "space", "color_space", "description")  # of every dataset
ROOT_ATTRIBUTES = ("format", "format_version", "generator", "config", "created", "license")


@dataclass(frozen=True)
class Dimensions:
    """Every length that a shape can name."""

    samples: int
    views: int
    lights: int
    size: int  # pixels of the renders
    gan_size: int  # pixels of the 2D GAN's images
    z: int
    w: int
    code: int
    vertices: int = 0  # rows of all meshes together, of which there are any number
    faces: int = 0


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset of the file."""

    name: str
    dtype: str
    axes: str  # "sample,view,light,y,x,channel"
    shape: tuple[str | int, ...]  # per axis a field of ``Dimensions`` or a number
    units: str
    range: str
    space: str
    color_space: str
    description: str

    @property
    def image(self) -> bool:
        """Stored as one deflated chunk per image."""
        return ",y,x" in self.axes

    @property
    def ragged(self) -> bool:
        """Stored as rows of all samples, one after the other."""
        return self.shape[0] in ("vertices", "faces")

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes of the dataset in the file."""
        return {name: getattr(self, name) for name in ATTRIBUTES}

    def extent(self, dimensions: Dimensions) -> tuple[int, ...]:
        """Shape in numbers."""
        return tuple(n if isinstance(n, int) else getattr(dimensions, n) for n in self.shape)

    def chunk(self, dimensions: Dimensions) -> tuple[int, ...] | None:
        """Shape of one chunk: one image, or ``MESH_ROWS`` rows; None for contiguous datasets."""
        extent = self.extent(dimensions)
        if self.ragged:
            return (MESH_ROWS, *extent[1:])
        if self.image:
            pixels = self.axes.split(",").index("y")
            return (1,) * pixels + extent[pixels:]
        return None


_LENGTH = {"sample": "samples", "view": "views", "light": "lights", "y": "size", "x": "size"}
_LENGTH |= {"gan_y": "gan_size", "gan_x": "gan_size", "vertex": "vertices", "face": "faces"}
_CODE_VALUE = {
    "units": "code value",
    "range": "0..255",
    "space": "image",
    "color_space": "sRGB, display-referred",
}
_FACTOR = {"space": "image", "color_space": "factor on display-referred sRGB values, no transfer curve"}
_UNIT_VECTOR = {"range": "-1..1, unit length", "space": "world"}


def _spec(name: str, dtype: str, axes: str, description: str, **attributes: str) -> DatasetSpec:
    """``axes``: space-separated names, known to ``_LENGTH`` or with a length: "channel=3"."""
    names, lengths = [], []
    for axis in axes.split():
        label, _, length = axis.partition("=")
        names.append(label.removeprefix("gan_"))
        lengths.append(_LENGTH[label] if not length else int(length) if length.isdigit() else length)
    words = {"units": "1", "range": "real", "space": "none", "color_space": "none"} | attributes
    return DatasetSpec(name, dtype, ",".join(names), tuple(lengths), description=description, **words)


_IMAGES = (
    _spec(
        "colors", "u1", "sample view light y x channel=3",
        "3D-consistent render. Inside the mask colors/255 = clip(albedo/255 * diffuse_shading"
        " + specular_shading, 0, 1) up to half a code value; outside it the attribute 'background'",
        **_CODE_VALUE,
    ),
    _spec(
        "colors_gan", "u1", "sample view light gan_y gan_x channel=3",
        "colors projected through the 2D GAN, at the GAN's own resolution; not exactly 3D-consistent",
        **_CODE_VALUE,
    ),
    _spec(
        "albedo", "u1", "sample view y x channel=3",
        "diffuse reflectance, the same under every light", **_CODE_VALUE,
    ),
    _spec(
        "specular", "f2", "sample view y x",
        "specular reflectance, the same under every light", range="0..1", **_FACTOR,
    ),
    _spec(
        "shininess", "f2", "sample view y x",
        "Phong exponent p of max(r.v, 1e-4)^p, r the mirrored light direction, v the direction to the camera",
        range="4..100, 0 outside the mask", space="image",
    ),
    _spec(
        "diffuse_shading", "f2", "sample view light y x",
        "light_ambient + light_diffuse * max(n.l, 0) + light_negative * min(n.l, 0)", **_FACTOR,
    ),
    _spec(
        "specular_shading", "f2", "sample view light y x",
        "specular * light_diffuse * max(r.v, 1e-4)^shininess where n.l > 0, else 0", range=">= 0", **_FACTOR,
    ),
    _spec(
        "depth", "f4", "sample view y x",
        "z-depth: distance along the optical axis, not along the ray; the object lies inside the unit sphere",
        units="world unit", range="> 0 inside the mask, 0 outside", space="camera",
    ),
    _spec(
        "normals", "f2", "sample view y x channel=3",
        "outward surface normal; world frame: x right, y up, z towards the viewer of the canonical pose",
        **_UNIT_VECTOR,
    ),
    _spec("mask", "u1", "sample view y x", "1: the object covers the pixel", range="0 or 1", space="image"),
)  # fmt: skip
_CAMERAS_AND_LIGHTS = (
    _spec(
        "cam2world", "f4", "sample view row=4 column=4",
        "camera pose in OpenCV axes: x right, y down, z forward",
        units="world unit", range="rigid motion", space="camera to world",
    ),
    _spec(
        "cam_K", "f4", "sample view row=3 column=3",
        "pinhole intrinsics at the stored resolution; pixel centers lie at +0.5",
        units="pixel", range=">= 0", space="camera to image",
    ),
    _spec(
        "light_dir", "f4", "sample light component=3",
        "direction from the surface to the light: l in the shading equations", **_UNIT_VECTOR,
    ),
    _spec("light_ambient", "f4", "sample light", "ambient coefficient", **_FACTOR),
    _spec("light_diffuse", "f4", "sample light", "coefficient of the light, diffuse and specular", **_FACTOR),
    _spec("light_negative", "f4", "sample light", "coefficient of min(n.l, 0); 0 where unused", **_FACTOR),
)  # fmt: skip
_LATENTS = (
    _spec(
        "seed", "i8", "sample", "the sample is LiftedGAN.sample([seed], truncation); -1: lift(latent_w)",
        range="-1..2^32-1",
    ),
    _spec(
        "latent_z", "f4", "sample component=z",
        "input of the 2D GAN's mapping network; 0 where the sample was made from latent_w", space="latent Z",
    ),
    _spec("latent_w", "f4", "sample component=w", "latent of the 2D GAN after truncation", space="latent W"),
    _spec("code", "f4", "sample component=code", "latent code of the 3D object", space="3D GAN's code"),
    _spec("gan_image", "u1", "sample gan_y gan_x channel=3", "the 2D GAN's image of latent_w", **_CODE_VALUE),
    _spec(
        "gan_view", "f4", "sample component=6",
        "view of gan_image, as the encoder E_v sees it: pitch, yaw, roll, t_x, t_y, t_z of the object",
        units="radian (3), world unit (3)",
    ),
    _spec(
        "gan_light", "f4", "sample component=5",
        "light of gan_image, as the encoder E_l sees it: ambient, diffuse, l_x, l_y, negative; direction:"
        " normalize(l_x, l_y, 1)",
        **_FACTOR | {"space": "world"},
    ),
)  # fmt: skip
_MESHES = (
    _spec(
        "meshes/vertices", "f4", "vertex component=3",
        "vertex positions of all samples; see meshes/vertex_span",
        units="world unit", range="-1..1", space="world",
    ),
    _spec(
        "meshes/faces", "i4", "face corner=3",
        "triangles of all samples, counter-clockwise from outside; see meshes/face_span. Indices count from"
        " the sample's own first vertex", range=">= 0",
    ),
    _spec("meshes/normals", "f4", "vertex component=3", "outward normal per vertex", **_UNIT_VECTOR),
    _spec(
        "meshes/albedo", "f4", "vertex channel=3", "diffuse reflectance per vertex",
        range="0..1", color_space="sRGB, display-referred",
    ),
    _spec("meshes/specular", "f4", "vertex", "specular reflectance, per vertex", **_FACTOR),
    _spec("meshes/shininess", "f4", "vertex", "Phong exponent per vertex", range="4..100"),
    _spec(
        "meshes/vertex_span", "i8", "sample component=2",
        "start, count of the sample's rows in meshes/vertices and the other arrays per vertex", units="row",
    ),
    _spec("meshes/face_span", "i8", "sample component=2", "start, count of the sample's rows in meshes/faces",
          units="row"),
)  # fmt: skip
_SPLIT = _spec("split", "u1", "sample", "0: training, 1: validation, 2: test; by sample", range="0..2")
_BOOKKEEPING = (
    _spec(
        "checksum", "u8", "sample",
        "CRC-32 << 32 | Adler-32 over the sample's values: C order, little-endian, datasets in alphabetical"
        " order of the path, of mesh arrays the sample's rows; without " + ", ".join(UNCHECKED),
    ),
    _spec(
        "done", "?", "sample",
        "1: the sample is whole; written last. Nothing is promised about other samples", range="0 or 1",
    ),
)  # fmt: skip

SCHEMA = (*_IMAGES, *_CAMERAS_AND_LIGHTS, *_LATENTS, _SPLIT, *_MESHES, *_BOOKKEEPING)
SPLIT = ("train", "val", "test")  # the numbers in ``split``
SPECS = {spec.name: spec for spec in SCHEMA}
MAPS = tuple(spec.name for spec in _IMAGES if not spec.name.startswith("colors"))  # chosen one by one
MESH_ARRAYS = tuple(spec.name for spec in _MESHES if spec.ragged)
REQUIRED = ("colors", *(spec.name for spec in (*_CAMERAS_AND_LIGHTS, *_LATENTS, *_BOOKKEEPING)))


def stored(maps: Iterable[str], gan: bool, meshes: bool, split: bool = False) -> tuple[DatasetSpec, ...]:
    """The datasets of a file with these intrinsic maps, with or without GAN projections, meshes and split."""
    names = {*REQUIRED, *maps} | ({"colors_gan"} if gan else set()) | ({"split"} if split else set())
    return tuple(spec for spec in SCHEMA if spec.name in names or (meshes and spec in _MESHES))


def checksum(arrays: Mapping[str, NDArray]) -> int:
    """Checksum of one sample from its arrays by dataset name (module docstring)."""
    crc, adler = 0, 1
    for name in sorted(set(arrays) - set(UNCHECKED)):
        array = np.ascontiguousarray(arrays[name], np.dtype(SPECS[name].dtype).newbyteorder("<"))
        data = array.reshape(-1).view(np.uint8)
        crc, adler = isal_zlib.crc32(data, crc), isal_zlib.adler32(data, adler)
    return crc << 32 | adler
