"""Rasterizers agree with the naive loop, spheres and the camera; deferred shading with ``shade``."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh

from lift3d.errors import BackendUnavailable, ConfigError
from lift3d.render.mesh import box_average, gbuffer, render_mesh
from lift3d.render.rasterize import Fragments, get_rasterizer, interpolate
from lift3d.render.rasterize.nvdiffrast import NvdiffrastScene
from lift3d.scene.cameras import DISTANCE, Cameras, ViewPrior, pixel_grid
from lift3d.scene.geometry import ray_sphere
from lift3d.scene.lights import LightPrior, Lights
from lift3d.scene.mesh import Mesh
from lift3d.scene.shading import Material, shade

SIZE = 24


def fake_rasterize(_context, clip, faces, resolution, grad_db):
    """nvdiffrast's contract in a loop: bottom row first, (u, v, z/w, face + 1), no culling."""
    assert (
        clip.dtype == torch.float32
        and faces.dtype == torch.int32
        and clip.is_contiguous()
        and faces.is_contiguous()
    )
    height, width = resolution
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixel = torch.stack((x * 2 / width - 1, y * 2 / height - 1, torch.ones_like(x)), -1).double()
    out = torch.zeros(len(clip), height, width, 4, dtype=torch.float64)
    for view in range(len(clip)):
        nearest = torch.full((height, width), 1.0, dtype=torch.float64)
        for index, corners in enumerate(clip[view].double()[faces.long()]):
            weights = torch.linalg.solve(corners[:, [0, 1, 3]].T, pixel[..., None])[..., 0]
            weights = weights / weights.sum(-1, keepdim=True)
            depth = (weights @ corners[:, 2]) / (weights @ corners[:, 3])
            closer = (weights >= 0).all(-1) & (depth > -1) & (depth < nearest)
            nearest = torch.where(closer, depth, nearest)
            value = torch.stack(
                (weights[..., 0], weights[..., 1], depth, torch.full_like(depth, index + 1)), -1
            )
            out[view] = torch.where(closer[..., None], value, out[view])
    return out.float(), torch.empty(0)


class FakeNvdiffrast:
    """The nvdiffrast backend around ``fake_rasterize``, on the CPU."""

    name = "nvdiffrast"

    def prepare(self, vertices, faces):
        return NvdiffrastScene(None, vertices.float(), faces.int())


def has_nvdiffrast() -> bool:
    try:
        import nvdiffrast.torch  # noqa: F401
    except ImportError:
        return False
    return torch.cuda.is_available()


@pytest.fixture(params=["naive", "embree", "nvdiffrast-contract", "nvdiffrast"])
def rasterizer(request, monkeypatch):
    if request.param == "nvdiffrast-contract":
        package, module = ModuleType("nvdiffrast"), ModuleType("nvdiffrast.torch")
        package.torch, module.rasterize = module, fake_rasterize
        monkeypatch.setitem(sys.modules, "nvdiffrast", package)
        monkeypatch.setitem(sys.modules, "nvdiffrast.torch", module)
        return FakeNvdiffrast()
    if request.param == "nvdiffrast" and not has_nvdiffrast():
        pytest.skip("needs nvdiffrast and a CUDA device")
    return get_rasterizer(request.param)


def views(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return ViewPrior(std=(0.3, 0.6, 0.2, 0.05, 0.05, 0.05)).sample(n, generator)


def tensors(shape: trimesh.Trimesh) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(np.asarray(shape.faces))


def sphere(subdivisions: int = 2, radius: float = 0.8) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)


SHAPES = {
    "sphere": sphere(1),
    "box": trimesh.creation.box(extents=(0.9, 0.7, 1.1)),
    "torus": trimesh.creation.torus(0.6, 0.2, major_sections=9, minor_sections=6),
}


def positions(fragments: Fragments, vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    return interpolate(vertices, faces, fragments).cpu()


@pytest.mark.parametrize("shape", SHAPES)
def test_backend_agrees_with_naive_loop(rasterizer, shape):
    vertices, faces = tensors(SHAPES[shape])
    cameras = Cameras.from_view(views(3))
    expected = get_rasterizer("naive").prepare(vertices, faces).fragments(cameras, SIZE)
    found = rasterizer.prepare(vertices, faces).fragments(cameras, SIZE)
    assert found.face.shape == (3, SIZE, SIZE) and found.barycentric.shape == (3, SIZE, SIZE, 3)
    off_edge = expected.mask & (expected.barycentric.amin(-1) > 1e-4)
    assert torch.equal(found.face.cpu()[off_edge], expected.face[off_edge])
    assert (found.mask.cpu() != expected.mask).sum() <= 2  # a silhouette through a pixel center
    both = found.mask.cpu() & expected.mask
    depth = [
        cameras.z_depth(positions(f, vertices, faces).flatten(1, 2)).view(both.shape)
        for f in (found, expected)
    ]
    assert (depth[0] - depth[1])[both].abs().max() < 1e-4


def test_points_project_to_their_pixel_centers(rasterizer):
    vertices, faces = tensors(SHAPES["torus"])
    cameras = Cameras.from_view(views(4))
    fragments = rasterizer.prepare(vertices, faces).fragments(cameras, SIZE)
    pixels = cameras.project(positions(fragments, vertices, faces).flatten(1, 2), SIZE)
    error = (pixels - pixel_grid(SIZE)).abs().amax(-1)[fragments.mask.cpu().flatten(1)]
    assert len(error) > 300 and error.max() < 2e-4


def test_barycentrics_are_weights_and_background_is_empty(rasterizer):
    vertices, faces = tensors(SHAPES["box"])
    fragments = rasterizer.prepare(vertices, faces).fragments(Cameras.from_view(views(2)), SIZE)
    assert (fragments.barycentric >= 0).all()
    torch.testing.assert_close(fragments.barycentric.sum(-1), fragments.mask.float(), atol=1e-6, rtol=0)
    assert (fragments.face[~fragments.mask] == -1).all()


def test_faces_are_visible_from_both_sides(rasterizer):
    vertices, faces = tensors(SHAPES["box"])
    cameras = Cameras.from_view(views(1))
    one, other = (rasterizer.prepare(vertices, f).fragments(cameras, SIZE) for f in (faces, faces.flip(-1)))
    assert torch.equal(one.mask, other.mask)
    torch.testing.assert_close(one.barycentric, other.barycentric.flip(-1), atol=1e-5, rtol=0)


def test_orientation_of_image_and_corners(rasterizer):
    """A triangle up and right of the center is seen there; corner 0 is its rightmost, corner 1 its top."""
    vertices = torch.tensor([[0.8, 0.2, 0.0], [0.2, 0.8, 0.0], [0.2, 0.2, 0.0]])
    fragments = rasterizer.prepare(vertices, torch.tensor([[0, 1, 2]])).fragments(
        Cameras.from_view(torch.zeros(1, 6)), 16
    )
    rows, columns = fragments.mask[0].nonzero(as_tuple=True)
    assert rows.max() < 8 and columns.min() >= 8
    weight = fragments.barycentric[0, rows, columns]
    assert columns[weight[:, 0].argmax()] == columns.max() and rows[weight[:, 1].argmax()] == rows.min()


@pytest.mark.parametrize("backend", ["embree"])
def test_depth_of_analytic_sphere(backend):
    radius, cameras = 0.9, Cameras.from_view(views(3))
    vertices, faces = tensors(sphere(5, radius))
    fragments = get_rasterizer(backend).prepare(vertices, faces).fragments(cameras, 64)
    origins, directions = cameras.rays(pixel_grid(64).expand(3, -1, -1), 64)
    near, _, hit = ray_sphere(origins, directions, radius)
    expected = (origins + near[..., None] * directions).view(3, 64, 64, 3)
    hit = hit.view(3, 64, 64)
    assert (hit != fragments.mask).float().mean() < 2e-3
    grazing = (torch.nn.functional.normalize(expected, dim=-1) * directions.view(3, 64, 64, 3)).sum(-1) > -0.2
    both = hit & fragments.mask & ~grazing
    assert (positions(fragments, vertices, faces) - expected)[both].norm(dim=-1).max() < 2e-3
    assert (positions(fragments, vertices, faces)[fragments.mask].norm(dim=-1) - radius).abs().max() < 5e-4


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_any_batch_of_cameras(rasterizer, batch):
    vertices, faces = tensors(SHAPES["box"])
    view = views(6)[: int(np.prod(batch))].view(*batch, 6)
    scene = rasterizer.prepare(vertices, faces)
    fragments = scene.fragments(Cameras.from_view(view), 16)
    assert fragments.face.shape == (*batch, 16, 16)
    single = [scene.fragments(Cameras.from_view(v[None]), 16).face[0] for v in view.view(-1, 6)]
    assert torch.equal(fragments.face.view(-1, 16, 16), torch.stack(single))


@pytest.mark.parametrize("name", ["naive", "embree"])
def test_mesh_without_faces_is_background(name):
    scene = get_rasterizer(name).prepare(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32))
    assert not scene.fragments(Cameras.from_view(views(2)), 8).mask.any()


def test_no_ray_slips_between_faces():
    """A finely tessellated sphere behind the frame's center: no hole, whatever edge a ray meets."""
    vertices, faces = tensors(sphere(6, 0.9))
    mask = (
        get_rasterizer("embree")
        .prepare(vertices, faces)
        .fragments(Cameras.from_view(torch.zeros(1, 6)), 256)
        .mask[0]
    )
    x, y = (pixel_grid(256) / 128 - 1).view(256, 256, 2).unbind(-1)
    assert mask[(x * x + y * y).sqrt() < 0.88].all()


def test_interpolate_is_the_loop_and_differentiable():
    generator = torch.Generator().manual_seed(0)
    attributes = torch.randn(5, 2, generator=generator, requires_grad=True)
    faces = torch.tensor([[0, 1, 2], [2, 3, 4]])
    face = torch.tensor([[[0, -1], [1, 1]]])
    weights = torch.rand(1, 2, 2, 3, generator=generator) * (face >= 0)[..., None]
    image = interpolate(attributes, faces, Fragments(face, weights))
    for row in range(2):
        for column in range(2):
            corners = faces[face[0, row, column]] if face[0, row, column] >= 0 else []
            expected = sum(
                (w * attributes[c] for w, c in zip(weights[0, row, column], corners, strict=False)),
                torch.zeros(2),
            )
            torch.testing.assert_close(image[0, row, column], expected)
    image.sum().backward()
    torch.testing.assert_close(attributes.grad[4], weights[0, 1, :, 2].sum().expand(2))


def test_unknown_name():
    with pytest.raises(ConfigError, match="unknown name 'opengl', expected one of auto, embree"):
        get_rasterizer("opengl")


def test_missing_embree(monkeypatch):
    monkeypatch.setitem(sys.modules, "embreex", None)
    with pytest.raises(BackendUnavailable, match="pip install embreex") as error:
        get_rasterizer("auto", device="cpu")
    assert isinstance(error.value.__cause__, ImportError)


def test_missing_nvdiffrast(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvdiffrast", None)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", None)
    with pytest.raises(BackendUnavailable, match=r"pip install git.*nvdiffrast") as error:
        get_rasterizer("nvdiffrast")
    assert isinstance(error.value.__cause__, ImportError)


def with_cuda_context(monkeypatch) -> None:
    module = ModuleType("nvdiffrast.torch")
    module.RasterizeCudaContext = lambda device: None
    package = ModuleType("nvdiffrast")
    package.torch = module
    package.__spec__ = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "nvdiffrast", package)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_nvdiffrast_needs_cuda(monkeypatch):
    with_cuda_context(monkeypatch)
    with pytest.raises(BackendUnavailable, match="needs a CUDA device, got cpu"):
        get_rasterizer("nvdiffrast", device="cpu")


def test_auto_prefers_nvdiffrast_on_cuda_only(monkeypatch):
    with_cuda_context(monkeypatch)
    assert get_rasterizer("auto", device="cuda").name == "nvdiffrast"
    assert get_rasterizer("auto", device="cpu").name == "embree"


def test_nvdiffrast_face_limit(monkeypatch):
    with_cuda_context(monkeypatch)
    monkeypatch.setattr("lift3d.render.rasterize.nvdiffrast.MAX_FACES", 12)
    with pytest.raises(ConfigError, match="12 faces, expected fewer than 12; decimate"):
        get_rasterizer("nvdiffrast", device="cuda").prepare(*tensors(SHAPES["box"]))


def textured(radius: float = 0.8, subdivisions: int = 3) -> Mesh:
    shape = sphere(subdivisions, radius)
    vertices = np.asarray(shape.vertices, np.float32)
    x, y, z = vertices.T
    return Mesh(
        vertices,
        np.asarray(shape.faces, np.int32),
        albedo=0.5 + 0.5 * vertices,
        specular=z * z,
        shininess=20 + 10 * x + 5 * y,
    )


def scene_of(mesh: Mesh):
    return get_rasterizer("embree").prepare(torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces))


@pytest.fixture
def lights() -> Lights:
    return Lights.from_vector(LightPrior(negative=(0.0, 0.2)).sample(6, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("per_view", [False, True])
def test_every_image_is_shaded_alone(lights, per_view):
    mesh, cameras = textured(), Cameras.from_view(views(2))
    g = gbuffer(mesh, scene_of(mesh).fragments(cameras, SIZE), cameras)
    lights = Lights(*(x.view(2, 3, *x.shape[1:]) for x in vars(lights).values())) if per_view else lights[:3]
    maps = render_mesh(mesh, cameras, lights, SIZE, (0.0, 0.0, 0.0))
    assert maps.colors.shape == (2, 3, SIZE, SIZE, 3) and maps.diffuse_shading.shape == (2, 3, SIZE, SIZE)
    for v in range(2):
        material = Material(g.material.albedo[v], g.material.specular[v], g.material.shininess[v])
        for i in range(3):
            light = lights[v, i] if per_view else lights[i]
            expected = shade(g.normal[v], g.to_camera[v], material, light) * g.mask[v, ..., None]
            torch.testing.assert_close(maps.colors[v, i], expected.clamp_max(1.0))
    factors = maps.diffuse_shading[..., None], maps.specular_shading[..., None]
    torch.testing.assert_close(maps.colors, (maps.albedo[:, None] * factors[0] + factors[1]).clamp(0, 1))


def test_gbuffer_of_a_sphere_and_its_background():
    mesh, cameras = textured(), Cameras.from_view(views(2))
    g = gbuffer(mesh, scene_of(mesh).fragments(cameras, SIZE), cameras)
    assert (g.normal[g.mask] * torch.nn.functional.normalize(g.position[g.mask], dim=-1)).sum(
        -1
    ).min() > 0.999
    for unit in (g.normal, g.to_camera):
        torch.testing.assert_close(unit.norm(dim=-1), g.mask.float())
    assert (g.z_depth[g.mask] - DISTANCE).abs().max() < 1.0
    for image in (g.position, g.z_depth[..., None], g.material.albedo, g.material.specular):
        assert (image[~g.mask] == 0).all()
    expected = interpolate(
        torch.from_numpy(mesh.albedo), torch.from_numpy(mesh.faces), scene_of(mesh).fragments(cameras, SIZE)
    )
    torch.testing.assert_close(g.material.albedo, expected)


def test_gbuffer_needs_a_material():
    mesh, cameras = (
        Mesh(*(np.asarray(x) for x in (textured().vertices, textured().faces))),
        Cameras.from_view(views(1)),
    )
    with pytest.raises(ConfigError, match="mesh has no albedo, specular, shininess"):
        gbuffer(mesh, scene_of(mesh).fragments(cameras, 8), cameras)


def test_box_average_is_the_mean_of_blocks():
    image = torch.arange(2 * 6 * 4 * 3, dtype=torch.float32).view(2, 6, 4, 3)
    small = box_average(image, 2)
    assert small.shape == (2, 3, 2, 3)
    torch.testing.assert_close(small[1, 2, 0], image[1, 4:6, 0:2].mean((0, 1)))
