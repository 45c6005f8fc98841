"""glTF 2.0 binary files of meshes, written and read without loss.

glTF's axes are ours: y up, the front towards +z; lengths stay world units. NORMAL is per vertex. Colors per
vertex are linear in glTF, so COLOR_0 = sRGB^-1 of the albedo (reading it back is exact to the last bit or the
one before). Specular intensity and Phong exponent travel in the attributes ``_KS`` and ``_PHONG``, and as one
physically based lobe of the whole mesh (``pbr``) in the material, which is what viewers show.

With textures (``texture``) the material is in three PNG textures instead: base color (sRGB, the albedo as it
is), roughness (green), and F0 (alpha of the specular texture, times ``specularColorFactor``); a normal map
may be the fourth, with TANGENT per vertex. The exact albedo of the vertices then travels in ``_ALBEDO_R``,
``_ALBEDO_G`` and ``_ALBEDO_B``, since viewers would multiply COLOR_0 into the texture. They are three numbers
because Blender's importer mixes up custom attributes of different widths, and fails.
"""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lift3d import __version__
from lift3d.errors import ConfigError, CorruptFile
from lift3d.export.meshes.pbr import DIELECTRIC, mean_lobe, reflectance, roughness
from lift3d.export.meshes.tangent_space import tangents
from lift3d.export.meshes.texture import Textures, png
from lift3d.scene.color import linear_to_srgb, srgb_to_linear
from lift3d.scene.mesh import Mesh, drop_unreferenced
from lift3d.whole_file import require_suffix, write_whole

MAGIC, VERSION, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
FLOAT, UINT32 = 5126, 5125  # component types
VERTEX_DATA, INDEX_DATA = 34962, 34963  # buffer view targets
_DTYPE = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", UINT32: "<u4", FLOAT: "<f4"}
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
EXTRAS = {"lift3d": {"_KS": "specular intensity", "_PHONG": "Phong exponent of (r.v)"}}
_ATTRIBUTES = {"normals": "NORMAL", "specular": "_KS", "shininess": "_PHONG"}  # besides POSITION and COLOR_0
_ALBEDO = ("_ALBEDO_R", "_ALBEDO_G", "_ALBEDO_B")


def write_glb(mesh: Mesh, path: Path | str, textures: Textures | None = None) -> None:
    """Write a mesh, with textures if there are ``maps``; vertices that no face names are left out."""
    write_whole(require_suffix(path, ".glb"), to_glb(mesh, textures))


def to_glb(mesh: Mesh, textures: Textures | None = None) -> bytes:
    """The bytes of a file with one scene, one node, one mesh, which glTF does not allow to be empty."""
    if not len(mesh.faces):
        raise ConfigError("the mesh has no faces, expected a surface; export another sample")
    used = np.unique(mesh.faces)
    mesh, buffer = drop_unreferenced(mesh), _Buffer()
    attributes = {"POSITION": buffer.add(mesh.vertices, VERTEX_DATA, bounds=True)}
    if textures is not None:
        attributes["TEXCOORD_0"] = buffer.add(textures.uv[used], VERTEX_DATA)
        if textures.normal is not None:
            frames = np.column_stack(tangents(mesh, textures.uv[used])).astype(np.float32)
            attributes["TANGENT"] = buffer.add(frames, VERTEX_DATA)
        if mesh.albedo is not None:
            channels = zip(_ALBEDO, mesh.albedo.T, strict=True)
            attributes |= {name: buffer.add(channel, VERTEX_DATA) for name, channel in channels}
    elif mesh.albedo is not None:
        linear = srgb_to_linear(np.clip(mesh.albedo.astype(np.float64), 0.0, 1.0)).astype(np.float32)
        attributes["COLOR_0"] = buffer.add(linear, VERTEX_DATA)
    for name, attribute in _ATTRIBUTES.items():
        if (array := getattr(mesh, name)) is not None:
            attributes[attribute] = buffer.add(array, VERTEX_DATA)
    indices = buffer.add(mesh.faces.astype(np.uint32).reshape(-1), INDEX_DATA)
    primitive = {"attributes": attributes, "indices": indices, "material": 0, "mode": 4}
    tree = {
        "asset": {"version": "2.0", "generator": f"lift3d {__version__}"},
        "extensionsUsed": ["KHR_materials_specular"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "lift3d", "mesh": 0}],
        "meshes": [{"name": "lift3d", "primitives": [primitive]}],
        "materials": [_material(mesh) if textures is None else _textured(textures)],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
    }
    if textures is not None:
        tree |= _textures(textures, buffer)
    tree["buffers"] = [{"byteLength": len(buffer.data)}]
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = [(JSON_CHUNK, text), (BINARY_CHUNK, bytes(buffer.data))]
    body = b"".join(struct.pack("<II", len(data), kind) + data for kind, data in chunks)
    return struct.pack("<III", MAGIC, VERSION, 12 + len(body)) + body


def _material(mesh: Mesh) -> dict:
    """One non-metallic lobe; the color comes from COLOR_0 (a texture would multiply it)."""
    rough, f0 = mean_lobe(mesh)
    strength = f0 / DIELECTRIC
    specular = {"specularFactor": min(strength, 1.0), "specularColorFactor": [max(strength, 1.0)] * 3}
    return _described({"metallicFactor": 0.0, "roughnessFactor": rough}, specular)


def _textured(textures: Textures) -> dict:
    """The same from the textures of ``_textures``."""
    pictures = {"baseColorTexture": {"index": 0}, "metallicRoughnessTexture": {"index": 1}}
    specular = {"specularTexture": {"index": 2}, "specularColorFactor": [_peak(textures)] * 3}
    normal = {} if textures.normal is None else {"normalTexture": {"index": 3}}
    return normal | _described(pictures | {"metallicFactor": 0.0, "roughnessFactor": 1.0}, specular)


def _described(lobe: dict, specular: dict) -> dict:
    return {
        "name": "lift3d",
        "pbrMetallicRoughness": lobe,
        "extensions": {"KHR_materials_specular": specular},
        "doubleSided": False,
        "extras": EXTRAS,
    }


def _peak(textures: Textures) -> float:
    """What the specular texture's alpha is multiplied by, in units of glTF's dielectric."""
    return max(1.0, float(reflectance(textures.specular, textures.shininess).max()) / DIELECTRIC)


def _textures(textures: Textures, buffer: "_Buffer") -> dict:
    """Images, their sampler and the textures; PNG data goes into the binary chunk."""
    zero = np.zeros_like(textures.specular)
    lobe = np.stack((zero, roughness(textures.shininess), zero), -1)
    strength = reflectance(textures.specular, textures.shininess) / (DIELECTRIC * _peak(textures))
    white = np.ones_like(textures.albedo)
    pictures = {
        "albedo": textures.albedo,
        "roughness": lobe,
        "specular": np.concatenate((white, strength[..., None]), -1),
    }
    if textures.normal is not None:
        pictures["normal"] = textures.normal / 2 + 0.5
    images = [
        {"name": name, "mimeType": "image/png", "bufferView": buffer.add_file(png(values))}
        for name, values in pictures.items()
    ]
    return {
        "images": images,
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
        "textures": [{"sampler": 0, "source": i} for i in range(len(images))],
    }


@dataclass
class _Buffer:
    """The binary chunk, with a view and an accessor per array."""

    data: bytearray = field(default_factory=bytearray)
    views: list[dict] = field(default_factory=list)
    accessors: list[dict] = field(default_factory=list)

    def add(self, array: NDArray, target: int, bounds: bool = False) -> int:
        """Append an array [n] or [n, k]; its accessor's number. Elements of 4 bytes keep all aligned."""
        array = np.ascontiguousarray(array)
        kind = FLOAT if array.dtype == np.float32 else UINT32
        width = 1 if array.ndim == 1 else array.shape[1]
        accessor = {
            "bufferView": self.add_file(array.astype(array.dtype.newbyteorder("<")).tobytes()),
            "componentType": kind,
            "count": len(array),
            "type": next(name for name, n in _WIDTH.items() if n == width),
        }
        if bounds:
            accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        self.accessors.append(accessor)
        self.views[-1]["target"] = target
        return len(self.accessors) - 1

    def add_file(self, data: bytes) -> int:
        """Append a file; its view's number."""
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)})
        self.data += data + bytes(-len(data) % 4)
        return len(self.views) - 1


def read_glb(path: Path | str) -> Mesh:
    """The first mesh of a file: all that ``write_glb`` wrote, of other programs' files shape and colors."""
    try:
        tree, data = _chunks(Path(path).read_bytes())
        primitive = tree["meshes"][0]["primitives"][0]
        arrays = {name: _array(tree, data, i) for name, i in primitive["attributes"].items()}
        vertices = arrays["POSITION"].astype(np.float32)
        faces = np.arange(len(vertices))
        if "indices" in primitive:
            faces = _array(tree, data, primitive["indices"])
        if faces.ndim != 1 or faces.dtype.kind not in "iu":
            raise ValueError("its indices are no integers")
        faces = faces.reshape(-1, 3).astype(np.int64)
        if faces.size and not 0 <= faces.min() <= faces.max() < len(vertices):
            raise ValueError(f"its faces name vertex {faces.max()} of {len(vertices)}")
        found = {name: arrays[attribute] for name, attribute in _ATTRIBUTES.items() if attribute in arrays}
        if _ALBEDO[0] in arrays:
            found["albedo"] = np.stack([arrays[name] for name in _ALBEDO], -1)
        elif "COLOR_0" in arrays:
            found["albedo"] = linear_to_srgb(arrays["COLOR_0"][:, :3].astype(np.float64)).astype(np.float32)
        return Mesh(vertices, faces.astype(np.int32), **found)
    except (OSError, AttributeError, KeyError, IndexError, TypeError, ValueError, struct.error) as error:
        raise CorruptFile(
            f"{path} is not a whole glTF binary file with a mesh ({error}); export it again"
        ) from error


def _chunks(file: bytes) -> tuple[dict, bytes]:
    """The JSON tree and the binary chunk."""
    magic, version, length = struct.unpack_from("<III", file)
    if (magic, version) != (MAGIC, VERSION) or length != len(file):
        raise ValueError(f"header {magic:#x} {version} {length}, file of {len(file)} bytes")
    n_json, kind = struct.unpack_from("<II", file, 12)
    n_binary, second = struct.unpack_from("<II", file, 20 + n_json)
    if (kind, second) != (JSON_CHUNK, BINARY_CHUNK):
        raise ValueError("chunks are not JSON, then binary")
    return json.loads(file[20 : 20 + n_json]), file[28 + n_json : 28 + n_json + n_binary]


def _array(tree: dict, data: bytes, number: int) -> NDArray:
    """An accessor as [n] or [n, k]; integers that stand for fractions are divided."""
    accessor = tree["accessors"][number]
    view = tree["bufferViews"][accessor["bufferView"]]
    dtype, width = np.dtype(_DTYPE[accessor["componentType"]]), _WIDTH[accessor["type"]]
    count = accessor["count"]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", width * dtype.itemsize)
    row = np.dtype({"names": ["x"], "formats": [(dtype, (width,))], "itemsize": stride})
    end = start + (count - 1) * stride + width * dtype.itemsize
    if count < 1 or start < 0 or end > len(data):
        raise ValueError(f"accessor {number} leaves the binary chunk")
    padded = data[start:end] + bytes(stride - width * dtype.itemsize)
    values = np.frombuffer(padded, row, count)["x"]
    if accessor.get("normalized"):
        values = values.astype(np.float32) / np.iinfo(dtype).max
    return np.ascontiguousarray(values[:, 0] if width == 1 else values)
