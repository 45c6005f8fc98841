"""Textures: charts that do not overlap, texels that are the fields, files that hold them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from gltf import floats, needs_validator, verdict
from gltf import textures as pictures_of
from lifted_blobs import Blobs
from scipy.ndimage import map_coordinates
from tiny_gan import PRESET, tiny_gan

from lift3d.errors import ConfigError
from lift3d.export.meshes import texture
from lift3d.export.meshes.glb import read_glb, write_glb
from lift3d.export.meshes.obj import write_obj
from lift3d.export.meshes.pbr import reflectance, roughness
from lift3d.export.meshes.tangent_space import tangents, to_tangent_space
from lift3d.export.meshes.texture import (
    Textures,
    bake,
    cover,
    from_fields,
    from_vertices,
    interpolate,
    unwrap,
)
from lift3d.export.meshes.write import write_stl
from lift3d.model import LiftedGAN
from lift3d.scene.mesh import Mesh, report
from lift3d.scene.surface import sdf_and_gradient, smooth_normal

SIZE = 128


def paint(points: np.ndarray) -> dict[str, np.ndarray]:
    """A material that depends on the place alone."""
    wave = np.sin(4 * points)
    return {
        "albedo": (0.5 + 0.3 * wave).astype(np.float32),
        "specular": (0.4 + 0.2 * wave[:, 0]).astype(np.float32),
        "shininess": (40 + 20 * wave[:, 1]).astype(np.float32),
    }


def analytic(points: np.ndarray) -> Mesh:
    return Mesh(points, np.zeros((0, 3), np.int32), **paint(points))


@pytest.fixture(scope="module")
def blob() -> Mesh:
    model = Blobs()
    mesh = model.mesh(model.sample([3]).code[0])
    return replace(mesh, **paint(mesh.vertices))


@pytest.fixture(scope="module")
def baked(blob: Mesh) -> tuple[Mesh, Textures]:
    return bake(blob, SIZE, analytic)


def bumpy(points: np.ndarray) -> np.ndarray:
    """Normals that the vertices do not know."""
    towards = points / np.linalg.norm(points, axis=-1, keepdims=True) + 0.15 * np.sin(25 * points)
    return towards / np.linalg.norm(towards, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def rounded(blob: Mesh) -> tuple[Mesh, Textures]:
    """With a normal map."""
    return bake(
        blob, SIZE, lambda points: replace(analytic(points), normals=bumpy(points).astype(np.float32)), True
    )


def look_up(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear samples of a map, independent of the module under test."""
    rows, columns = uv[:, 1] * len(image) - 0.5, uv[:, 0] * len(image) - 0.5
    planes = image.reshape(len(image), len(image), -1)
    return np.stack(
        [map_coordinates(p, (rows, columns), order=1, mode="nearest") for p in planes.T.swapaxes(1, 2)], -1
    )


def test_the_atlas_keeps_the_mesh(blob: Mesh) -> None:
    cut, uv = unwrap(blob, SIZE)
    assert len(uv) == len(cut.vertices) >= len(blob.vertices)
    assert uv.min() >= 0 and uv.max() <= 1
    np.testing.assert_array_equal(cut.vertices[cut.faces], blob.vertices[blob.faces])
    np.testing.assert_array_equal(cut.albedo[cut.faces], blob.albedo[blob.faces])


def test_charts_do_not_overlap(blob: Mesh) -> None:
    cut, uv = unwrap(blob, SIZE)
    a, b, c = uv[cut.faces].astype(np.float64).swapaxes(0, 1)
    rng = np.random.default_rng(0)
    for point in rng.random((2000, 2)):
        sides = [
            (q[:, 0] - p[:, 0]) * (point[1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (point[0] - p[:, 0])
            for p, q in ((a, b), (b, c), (c, a))
        ]
        inside = np.all(np.array(sides) > 1e-9, 0) | np.all(np.array(sides) < -1e-9, 0)
        assert inside.sum() <= 1


def test_covered_texels_are_those_whose_center_is_in_a_face(blob: Mesh) -> None:
    cut, uv = unwrap(blob, 64)
    texels = cover(cut, uv, 64)
    assert len(set(zip(texels.row, texels.column, strict=True))) == len(texels.row)
    centers = np.stack(((texels.column + 0.5) / 64, (texels.row + 0.5) / 64), -1)
    np.testing.assert_allclose(
        np.einsum("kc,kcd->kd", texels.barycentric, uv[cut.faces[texels.face]]), centers, atol=1e-6
    )
    assert texels.barycentric.min() > -1e-6
    corners = uv[cut.faces]
    x, y = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    area = np.abs(x[0] * y[1] - x[1] * y[0]).sum() / 2
    assert len(texels.row) / 64**2 == pytest.approx(area, rel=0.05)  # and no other


def test_small_batches_cover_the_same(blob: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    cut, uv = unwrap(blob, 64)
    whole = cover(cut, uv, 64)
    monkeypatch.setattr(texture, "CANDIDATES", 300)
    parts = cover(cut, uv, 64)
    np.testing.assert_array_equal(whole.row, parts.row)
    np.testing.assert_array_equal(whole.column, parts.column)


def test_maps_give_the_material_back_everywhere_on_the_surface(baked: tuple[Mesh, Textures]) -> None:
    """Seams included: the gutters continue the charts."""
    mesh, textures = baked
    rng = np.random.default_rng(1)
    face = rng.integers(len(mesh.faces), size=5000)
    weights = rng.dirichlet((1, 1, 1), 5000)
    weights[:1000] = np.eye(3)[rng.integers(3, size=1000)]  # corners, many of them on seams
    place = lambda values: np.einsum("kc,kc...->k...", weights, values[mesh.faces[face]])  # noqa: E731
    truth = paint(place(mesh.vertices))
    for name, bound in (("albedo", 0.04), ("specular", 0.03), ("shininess", 3.0)):
        error = np.abs(look_up(getattr(textures, name), place(textures.uv)).squeeze() - truth[name])
        assert error.max() < bound and error.mean() < bound / 8, name


def test_texels_are_the_fields_at_their_points() -> None:
    torch.manual_seed(1)
    model = LiftedGAN(PRESET, tiny_gan().generator).requires_grad_(False)
    with torch.no_grad():
        model.shape.head.weight.normal_(0, 0.005)
    code = model.sample([2]).code[0]
    mesh, textures = bake(model.mesh(code, 32), 64, from_fields(model, code, 32))
    texels = cover(mesh, textures.uv, 64)
    some = np.random.default_rng(0).choice(len(texels.row), 200, replace=False)
    points = torch.from_numpy(interpolate(mesh.vertices, mesh, texels)[some])
    for _ in range(3):  # Newton onto the surface
        sdf, feature, gradient = sdf_and_gradient(model.surface(code[None]), points[None], create_graph=False)
        points = points - (sdf * gradient / gradient.square().sum(-1, keepdim=True))[0].detach()
    material = model.shown_surface(code).material(points[None], smooth_normal(gradient), feature)
    for name in ("albedo", "specular", "shininess"):
        stored = getattr(textures, name)[texels.row, texels.column][some]
        expected = getattr(material, name)[0].squeeze(-1).detach().numpy()
        np.testing.assert_allclose(stored, expected, atol=2e-3 * max(1.0, expected.max()))


def test_normal_maps_give_the_normals_back(rounded: tuple[Mesh, Textures]) -> None:
    """Decoded as a renderer does, with frames from the map's own gradient: only ``to_tangent_space`` and the
    vertices' T know MikkTSpace.
    """
    mesh, textures = rounded
    np.testing.assert_allclose(np.linalg.norm(textures.normal, axis=-1), 1, atol=1e-5)
    texels = cover(mesh, textures.uv, SIZE)
    tangent, sign = tangents(mesh, textures.uv)
    n, t, w = (interpolate(x, mesh, texels) for x in (mesh.normals, tangent, sign))
    x, y, z = textures.normal[texels.row, texels.column].T[..., None]
    found = x * t + y * w[:, None] * np.cross(n, t) + z * n
    points = interpolate(mesh.vertices, mesh, texels)
    np.testing.assert_allclose(
        found / np.linalg.norm(found, axis=-1, keepdims=True), bumpy(points), atol=1e-5
    )
    plain = n / np.linalg.norm(n, axis=-1, keepdims=True)
    assert (plain * bumpy(points)).sum(-1).mean() < 0.99  # where the vertices alone are off by 8 degrees


def test_tangents_point_where_u_grows(rounded: tuple[Mesh, Textures]) -> None:
    mesh, textures = rounded
    tangent, sign = tangents(mesh, textures.uv)
    np.testing.assert_allclose(np.linalg.norm(tangent, axis=-1), 1, atol=1e-9)
    np.testing.assert_allclose((tangent * mesh.normals).sum(-1), 0, atol=1e-6)
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    for face in np.random.default_rng(0).choice(len(mesh.faces), 50, replace=False):
        edges = np.stack((b - a, c - a))[:, face]
        steps = np.diff(textures.uv[mesh.faces[face]][[0, 1, 0, 2]], axis=0)[::2].astype(np.float64)
        along_u, along_v = np.linalg.solve(steps, edges)  # dP/du, dP/dv
        for vertex in mesh.faces[face]:
            bitangent = sign[vertex] * np.cross(mesh.normals[vertex], tangent[vertex])
            assert tangent[vertex] @ along_u > 0.8 * np.linalg.norm(along_u)
            assert bitangent @ -along_v > 0.8 * np.linalg.norm(along_v)  # v runs downwards


def test_frames_without_a_direction_are_left_alone() -> None:
    triangle = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32), np.eye(3, dtype=np.float32))
    tangent, sign = tangents(triangle, np.zeros((3, 2), np.float32))
    np.testing.assert_allclose(np.linalg.norm(tangent, axis=-1), 1)
    assert (np.diag(tangent @ triangle.normals.T) == 0).all() and (sign == 1).all()
    inside = to_tangent_space(np.eye(3), triangle.normals, triangle.normals.astype(np.float64), sign)
    np.testing.assert_array_equal(inside, [[0, 0, 1]] * 3)


def test_vertices_of_a_dense_mesh_texture_a_coarse_one(blob: Mesh) -> None:
    _, textures = bake(blob, SIZE, from_vertices(blob))
    mesh, exact = bake(blob, SIZE, analytic)
    texels = cover(mesh, exact.uv, SIZE)
    error = np.abs(textures.albedo - exact.albedo)[texels.row, texels.column]
    assert error.mean() < 0.03


def test_bad_textures(blob: Mesh) -> None:
    with pytest.raises(ConfigError, match="texture size is 0, expected 16 to 8192 texels"):
        bake(blob, 0, analytic)
    with pytest.raises(ConfigError, match="the mesh has no faces, so it has no texture"):
        bake(Mesh(np.zeros((3, 3), np.float32), np.zeros((0, 3), np.int32)), 64, analytic)
    with pytest.raises(
        ConfigError, match="mesh has no albedo, specular, shininess: a texture needs all three"
    ):
        from_vertices(Mesh(blob.vertices, blob.faces))
    with pytest.raises(ConfigError, match="mesh has no normals: a normal map needs them"):
        bake(blob, 64, analytic, normals=True)


# --- files


@pytest.mark.parametrize("kind", ["baked", "rounded"])
def test_a_textured_glb_comes_back(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    mesh, textures = request.getfixturevalue(kind)
    write_glb(mesh, tmp_path / "a.glb", textures)
    again, data = read_glb(tmp_path / "a.glb"), (tmp_path / "a.glb").read_bytes()
    for name, array in (mesh.attributes() | {"vertices": mesh.vertices, "faces": mesh.faces}).items():
        np.testing.assert_array_equal(getattr(again, name), array, err_msg=name)
    np.testing.assert_array_equal(floats(data, "TEXCOORD_0"), textures.uv)
    found, factor = pictures_of(data)
    np.testing.assert_allclose(found["albedo"], textures.albedo, atol=0.5 / 255 + 1e-6)
    lobe = roughness(textures.shininess)
    np.testing.assert_allclose(found["roughness"][..., 1], lobe, atol=0.5 / 255 + 1e-6)
    f0 = reflectance(textures.specular, textures.shininess)
    step = max(f0.max(), 0.04) / 255
    np.testing.assert_allclose(found["specular"][..., 3] * factor, f0, atol=0.51 * step)
    assert ("normal" in found) == (textures.normal is not None) == (kind == "rounded")
    if kind == "rounded":
        np.testing.assert_allclose(found["normal"] * 2 - 1, textures.normal, atol=1 / 255 + 1e-6)
    write_glb(mesh, tmp_path / "b.glb")
    assert pictures_of((tmp_path / "b.glb").read_bytes())[0] == {}


def test_other_programs_see_the_texture(baked: tuple[Mesh, Textures], tmp_path: Path) -> None:
    mesh, textures = baked
    for name, write in (("a.glb", write_glb), ("a.obj", write_obj)):
        write(mesh, tmp_path / name, textures)
        read = trimesh.load(tmp_path / name, force="mesh", process=False)
        material = read.visual.material
        image = np.asarray(material.baseColorTexture if name == "a.glb" else material.image)[..., :3] / 255.0
        assert image.shape == (SIZE, SIZE, 3)
        uv = np.asarray(read.visual.uv) * (1, -1) + (0, 1)  # trimesh counts v upwards
        colors = look_up(image, uv)
        truth = paint(np.asarray(read.vertices))["albedo"]
        assert np.abs(colors - truth).mean() < 0.01, name


def test_files_with_normal_maps_bring_their_frames(rounded: tuple[Mesh, Textures], tmp_path: Path) -> None:
    mesh, textures = rounded
    write_glb(mesh, tmp_path / "a.glb", textures)
    read = trimesh.load(tmp_path / "a.glb", force="mesh", process=False)
    tangent, sign = tangents(mesh, textures.uv)
    stored = floats((tmp_path / "a.glb").read_bytes(), "TANGENT")  # trimesh leaves them out
    np.testing.assert_allclose(stored, np.column_stack((tangent, sign)), atol=1e-6)
    assert read.visual.material.normalTexture.size == (SIZE, SIZE)


def test_stl(blob: Mesh, tmp_path: Path) -> None:
    write_stl(blob, tmp_path / "a.stl")
    mesh = trimesh.load(tmp_path / "a.stl")
    np.testing.assert_allclose(mesh.bounds, [blob.vertices.min(0), blob.vertices.max(0)], atol=1e-6)
    assert len(mesh.faces) == len(blob.faces) and mesh.volume == pytest.approx(report(blob).volume, rel=1e-5)


@needs_validator
@pytest.mark.parametrize("kind", ["baked", "rounded"])
def test_the_khronos_validator_is_content_with_textures(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    mesh, textures = request.getfixturevalue(kind)
    write_glb(mesh, tmp_path / "a.glb", textures)
    assert verdict(tmp_path / "a.glb") == (0, 0, 0)
