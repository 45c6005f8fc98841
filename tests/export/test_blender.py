""".blend files: what Blender is told and, where there is one (``make test-blender``), what it makes of it.

Renders are compared inside the common silhouette, where Cycles' colors are divided by the coverage: mean
absolute error of display values. The figures asked for are IoU >= 0.99, exact <= 0.005, pbr <= 0.015.
"""

import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from numpy import ndarray
from PIL import Image

import lift3d
from lift3d.errors import BackendUnavailable, ConfigError, Lift3DError
from lift3d.export.blender import blend
from lift3d.export.blender.blend import (
    MATERIALS,
    Textures,
    mesh_arrays,
    render_blend,
    run_script,
    scene_job,
    write_blend,
)
from lift3d.export.meshes.glb import write_glb
from lift3d.export.meshes.obj import write_obj
from lift3d.export.meshes.pbr import mean_lobe, reflectance
from lift3d.export.meshes.ply import write_ply
from lift3d.export.meshes.texture import bake, from_vertices
from lift3d.export.meshes.write import upright
from lift3d.render.mesh import render_mesh
from lift3d.scene.cameras import Cameras
from lift3d.scene.color import srgb_to_linear
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh
from lift3d.synthetic.heads import load_head_model, sample_shape
from lift3d.synthetic.paint import attributes, paint, sample_look

SIZE = 128
VIEWS = torch.tensor([[0.1, -0.4, 0.05, 0.0, 0.0, 0.0], [-0.1, 0.6, 0.0, 0.05, -0.03, 0.1]])
LIGHTS = torch.tensor([[0.4, 0.7, -0.6, 0.5, 0.0], [0.55, 0.5, 0.9, 0.0, 0.0]])
ROTATION = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up -> z up
SETTING = Path(__file__).parents[1] / "blender_setting.py"
needs_blender = pytest.mark.skipif(
    not os.environ.get(blend.VARIABLE), reason="make test-blender installs a Blender and runs this"
)


def sphere(specular: float = 0.3, shininess: float = 30.0, subdivisions: int = 3) -> Mesh:
    """A smooth ball of one material."""
    ball = trimesh.creation.icosphere(subdivisions, radius=0.9)
    vertices = ball.vertices.astype(np.float32)
    n = len(vertices)
    return Mesh(
        vertices,
        ball.faces.astype(np.int32),
        normals=vertices / np.linalg.norm(vertices, axis=-1, keepdims=True),
        albedo=np.tile(np.array([[0.6, 0.45, 0.35]], np.float32), (n, 1)),
        specular=np.full(n, specular, np.float32),
        shininess=np.full(n, shininess, np.float32),
    )


def painted_head(index: int) -> Mesh:
    """A synthetic head: sharp materials, exponents 8 to 80."""
    model = load_head_model()
    shape, look = sample_shape(model, "benchmark", index), sample_look("benchmark", index)
    material = paint(torch.from_numpy(attributes(model)), look, model)
    return replace(
        model.mesh(shape.identity, shape.expression),
        albedo=material.albedo.float().numpy(),
        specular=material.specular[:, 0].float().numpy(),
        shininess=material.shininess[:, 0].float().numpy(),
    )


def textured_patch(size: int) -> tuple[Mesh, Textures]:
    """The front of a ball with a material that varies everywhere, at vertices and in textures of ``size``."""

    def material(u: ndarray, v: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        albedo = np.stack((0.2 + 0.7 * u, 0.9 - 0.6 * v, 0.5 + 0.3 * np.sin(6 * u * v)), -1)
        return albedo.astype(np.float32), np.float32(0.1 + 0.2 * v), np.float32(8.0 + 60.0 * u * v)

    n = 65
    u, v = (x.ravel() for x in np.meshgrid(*(np.linspace(0, 1, n),) * 2))
    longitude, latitude = 2.4 * (u - 0.5), 2.4 * (0.5 - v)
    normals = np.stack(
        (np.sin(longitude) * np.cos(latitude), np.sin(latitude), np.cos(longitude) * np.cos(latitude)), -1
    ).astype(np.float32)
    a = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate((np.stack((a, a + n, a + 1), -1), np.stack((a + 1, a + n, a + n + 1), -1)))
    centers = (np.arange(size, dtype=np.float64) + 0.5) / size
    textures = material(*np.meshgrid(centers, centers))
    mesh = Mesh(0.9 * normals, faces.astype(np.int32), normals, *material(u, v))
    return mesh, Textures(np.stack((u, v), -1).astype(np.float32), *textures)


def bumpy(points: ndarray) -> Mesh:
    """What a ball looks like at points: its normals and material change faster than its vertices lie."""
    x, y, z = np.sin(12 * points.T)
    out = points / np.linalg.norm(points, axis=-1, keepdims=True) + 0.15 * np.stack((y, z, x), -1)
    return Mesh(
        points,
        np.zeros((0, 3), np.int32),
        normals=(out / np.linalg.norm(out, axis=-1, keepdims=True)).astype(np.float32),
        albedo=(0.5 + 0.3 * np.stack((x, y, z), -1)).astype(np.float32),
        specular=(0.2 + 0.1 * y).astype(np.float32),
        shininess=(30 + 20 * z).astype(np.float32),
    )


def bumpy_ball() -> tuple[Mesh, Mesh, Textures]:
    """With it at the vertices of a fine mesh, and in the textures of a coarse one."""
    fine = sphere(subdivisions=6)
    fine = replace(fine, **bumpy(fine.vertices).attributes())
    return fine, *bake(sphere(subdivisions=4), 512, bumpy, normals=True)


@pytest.fixture
def lamps() -> Lights:
    return Lights.from_vector(LIGHTS)


@pytest.fixture
def cameras() -> Cameras:
    return Cameras.from_view(VIEWS)


# --- what Blender is told -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 0.12])
def test_cameras_see_what_ours_see(cameras: Cameras, lamps: Lights, scale: float) -> None:
    job = scene_job(cameras, lamps, SIZE, "exact", scale)
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (50, 3))
    expected = Cameras(cameras.rotation.double(), cameras.translation.double()).project(
        torch.from_numpy(points).expand(2, -1, -1), SIZE
    )
    for i, camera in enumerate(job["cameras"]):
        world = np.c_[points @ ROTATION.T * scale, np.ones(50)]
        local = world @ np.linalg.inv(np.array(camera["matrix"])).T
        x, y = (local[:, k] / -local[:, 2] * job["lens"] / job["sensor"] * SIZE for k in (0, 1))
        np.testing.assert_allclose(np.stack((SIZE / 2 + x, SIZE / 2 - y), -1), expected[i], atol=1e-3)
        near, far = camera["clip"]
        assert (-local[:, 2] > near).all() and (-local[:, 2] < far).all()
        assert camera["name"] == f"view {i}"
    half_angle = np.arctan(job["sensor"] / 2 / job["lens"])
    assert 2 * np.degrees(half_angle) == pytest.approx(12.0)


def test_suns_light_like_ours(cameras: Cameras, lamps: Lights) -> None:
    job = scene_job(cameras, lamps, SIZE, "pbr", 1.0)
    assert job["material"] == "pbr" and job["size"] == SIZE
    for i, sun in enumerate(job["lights"]):
        x, y, z = lamps.direction[i].tolist()
        assert sun["to_light"] == pytest.approx([x, -z, y])
        assert sun["energy"] == pytest.approx(np.pi * float(LIGHTS[i, 1]))
        assert sun["ambient"] == pytest.approx(float(LIGHTS[i, 0]))
        assert sun["name"] == f"light {i}"
    json.dumps(job, allow_nan=False)


def test_the_mesh_stands_upright_and_keeps_its_order() -> None:
    mesh = replace(sphere(), normals=None)
    stray = np.vstack((mesh.vertices, np.float32([[9, 9, 9]])))
    more = {name: np.concatenate((array, array[:1])) for name, array in mesh.attributes().items()}
    arrays = mesh_arrays(Mesh(stray, mesh.faces, **more), 2.0)
    x, y, z = mesh.vertices.T
    np.testing.assert_allclose(arrays["vertices"], 2 * np.stack((x, -z, y), -1), atol=1e-6)
    np.testing.assert_allclose(arrays["normals"], arrays["vertices"] / 1.8, atol=0.02)
    np.testing.assert_array_equal(arrays["faces"], mesh.faces)
    for name in ("albedo", "specular", "shininess"):
        np.testing.assert_array_equal(arrays[name], getattr(mesh, name))


def test_textures_keep_their_material(tmp_path: Path) -> None:
    mesh, textures = textured_patch(32)
    rows = mesh_arrays(replace(mesh, faces=mesh.faces[:5]), textures=textures)["uv"]
    np.testing.assert_array_equal(rows, textures.uv[np.unique(mesh.faces[:5])])
    paths = blend.save_textures(textures, tmp_path)
    assert list(paths) == ["albedo", "specular roughness"]
    albedo, lobe = (np.asarray(Image.open(path)) / 255.0 for path in paths.values())
    np.testing.assert_allclose(albedo, textures.albedo, atol=0.51 / 255)
    np.testing.assert_allclose(lobe[..., 0], textures.specular, atol=0.51 / 255)
    np.testing.assert_allclose((lobe[..., 1] ** -4 - 1) / 2, textures.shininess, rtol=0.04)
    rounded = replace(textures, normal=np.broadcast_to(np.float32([0.6, 0.0, 0.8]), textures.albedo.shape))
    normal = np.asarray(Image.open(blend.save_textures(rounded, tmp_path)["normal"])) / 255.0
    np.testing.assert_allclose(2 * normal - 1, rounded.normal, atol=1.1 / 255)


# --- bad input and bad Blenders -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"material": "phong"}, "material is 'phong', expected one of pbr, exact"),
        ({"scale": 0.0}, "scale is 0.0, expected a number above 0"),
        ({"scale": float("nan")}, "scale is nan, expected a number above 0"),
        ({"size": 0}, "size is 0, expected at least 1 pixel"),
        ({"lights": Lights.from_vector(LIGHTS - torch.tensor([0, 0, 0, 0, 0.25]))}, "negative shading term"),
        ({"lights": Lights.from_vector(LIGHTS[:0])}, "2 cameras and 0 lights, expected one of each"),
        ({"mesh": replace(sphere(), specular=None, albedo=None)}, "mesh has no albedo, specular: a material"),
        (
            {"textures": replace(textured_patch(4)[1], uv=np.zeros((7, 2), np.float32))},
            "textures have places for 7 vertices, the mesh has 642",
        ),
        ({"path": "head.glb"}, "head.glb does not end in .blend; give a name that does"),
        ({"blender": "no/such/blender"}, "no/such/blender is no program; give the path of Blender, or of a"),
    ],
)
def test_what_is_refused(
    cameras: Cameras,
    lamps: Lights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {
        "mesh": sphere(),
        "path": "a.blend",
        "cameras": cameras,
        "lights": lamps,
        "size": SIZE,
    } | change
    with pytest.raises((ConfigError, BackendUnavailable), match=sentence.replace(".", r"\.")):
        write_blend(**arguments)
    assert list(tmp_path.iterdir()) == []


def program(path: Path, text: str) -> Path:
    """An executable Python script."""
    path.write_text(f"#!{sys.executable}\nimport json, sys\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


WRITES = (
    "job = json.load(open(sys.argv[-1])); open(job['out'], 'wb').write(' '.join(sys.argv[1:-3]).encode())"
)


def test_where_blender_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(blend.VARIABLE, raising=False)
    monkeypatch.setattr(blend.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"needs Blender 4\.2 or newer: install it .*bpy==4\.5\.15"):
        blend.find_blender()
    monkeypatch.setattr(blend.importlib.util, "find_spec", lambda name: "bpy" if name == "bpy" else None)
    assert blend.find_blender() == (sys.executable,)
    found = program(tmp_path / "blender", "")
    assert blend.find_blender() == (
        str(found), "--background", "--factory-startup", "--python-exit-code", "1", "--python"
    )  # fmt: skip
    named = program(tmp_path / "blender-5.0", "")
    monkeypatch.setenv(blend.VARIABLE, str(named))
    assert blend.find_blender()[0] == str(named)
    assert blend.find_blender(sys.executable) == (sys.executable,)


def test_blenders_own_program_is_called_as_it_wants(cameras: Cameras, lamps: Lights, tmp_path: Path) -> None:
    fake, out = program(tmp_path / "blender", WRITES), tmp_path / "a.blend"
    write_blend(sphere(), out, cameras, lamps, SIZE, blender=fake)
    words = out.read_text().split()
    assert words == ["--background", "--factory-startup", "--python-exit-code", "1", "--python"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.blend", "blender"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("raise ValueError('no such socket')", "blender.* failed: ValueError: no such socket"),
        ("sys.exit(3)", "blender.* failed: exit status 3"),
        ("", "blender wrote no file and gave no reason; check that it is Blender"),
    ],
)
def test_blender_fails(cameras: Cameras, lamps: Lights, tmp_path: Path, text: str, sentence: str) -> None:
    out = tmp_path / "a.blend"
    out.write_text("before")
    with pytest.raises(Lift3DError, match=sentence):
        write_blend(sphere(), out, cameras, lamps, SIZE, blender=program(tmp_path / "blender", text))
    assert out.read_text() == "before"


def test_blender_does_not_start(tmp_path: Path) -> None:
    broken = tmp_path / "blender"
    broken.write_bytes(b"\x00" * 8)
    broken.chmod(0o755)
    with pytest.raises(
        BackendUnavailable, match=r"blender does not start \(Exec format error\); give another"
    ):
        run_script((str(broken),), tmp_path / "script.py")


def test_an_old_blender(
    cameras: Cameras, lamps: Lights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bpy.py").write_text(
        "class app:\n    version, version_string = (3, 6, 0), '3.6.0'\nclass types:\n    NodeSocket = None\n"
    )
    (tmp_path / "mathutils.py").write_text("Matrix = Vector = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        Lift3DError, match=r"this is Blender 3\.6\.0, expected 4\.2 or newer; install another"
    ):
        write_blend(sphere(), tmp_path / "a.blend", cameras, lamps, SIZE, blender=sys.executable)


def test_no_file_to_render(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"nothing\.blend is not a file; give a \.blend file that lift3d wrote"
    ):
        render_blend(tmp_path / "nothing.blend", [(0, 0)])


# --- what Blender makes of it -------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How a render by Cycles compares with ours."""

    iou: float  # of the silhouettes
    mae: float  # of colors inside both
    signed: float


def agreement(cycles: ndarray, colors: ndarray, mask: ndarray) -> Agreement:
    """Of a render [h, w, 4] with colors [h, w, 3] and their mask."""
    covered = cycles[..., 3] > 0.5
    both = covered & mask
    error = np.clip(cycles[both, :3] / cycles[both, 3:], 0.0, 1.0) - colors[both]
    iou = both.sum() / (covered | mask).sum()
    return Agreement(float(iou), float(np.abs(error).mean()), float(error.mean()))


def assert_alike(name: str, path: Path, mesh: Mesh, cameras: Cameras, lamps: Lights, limit: float) -> None:
    """Blender's renders of a file show the silhouettes of ``mesh``, where they are, and our colors."""
    ours = render_mesh(mesh, cameras, lamps, SIZE, (1.0, 1.0, 1.0))
    for image, (view, light) in zip(render_blend(path, SHOTS, samples=16), SHOTS, strict=True):
        colors, mask = ours.colors[view, light].numpy(), ours.mask[view].numpy()
        found = agreement(image, colors, mask)
        print(f"{name} view {view} light {light}: {found}")
        assert found.iou >= 0.99
        assert found.mae <= limit
        for step, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            assert agreement(np.roll(image, step, axis), colors, mask).iou < found.iou - 0.01


SHOTS = [(view, light) for view in range(2) for light in range(2)]
BODIES = {
    "demo 7": lambda: lifted(7),
    "demo 3": lambda: lifted(3),
    "head 0": lambda: painted_head(0),
    "head 1": lambda: painted_head(1),
    "sphere, p 4": lambda: sphere(0.3, 4.0, 5),
    "sphere, p 8": lambda: sphere(0.3, 8.0, 5),
    "sphere, p 100": lambda: sphere(0.3, 100.0, 5),
}


def lifted(seed: int) -> Mesh:
    """A person of the bundled model."""
    model = lift3d.load("demo")
    return model.mesh(model.sample([seed]).code[0], 64)


@needs_blender
@pytest.mark.parametrize("body", BODIES)
def test_cycles_renders_what_we_render(cameras: Cameras, lamps: Lights, tmp_path: Path, body: str) -> None:
    mesh = BODIES[body]()
    for material, limit in (("exact", 0.005), ("pbr", 0.015)):
        write_blend(mesh, tmp_path / "a.blend", cameras, lamps, SIZE, material)
        assert_alike(f"{body} {material}", tmp_path / "a.blend", mesh, cameras, lamps, limit)


@needs_blender
@pytest.mark.parametrize(("material", "limit"), [("exact", 0.005), ("pbr", 0.015)])
def test_textures(cameras: Cameras, lamps: Lights, tmp_path: Path, material: str, limit: float) -> None:
    mesh, textures = textured_patch(256)
    bare, path = replace(mesh, albedo=None, specular=None, shininess=None), tmp_path / "a.blend"
    write_blend(bare, path, cameras, lamps, SIZE, material, textures=textures)
    facts, arrays = probe(path)
    assert facts["images"] == {
        "albedo.png": ["//albedo.png", True, "Non-Color"],
        "specular roughness.png": ["//specular roughness.png", True, "Non-Color"],
    }
    assert "albedo" not in arrays
    assert_alike(f"textured patch {material}", path, mesh, cameras, lamps, limit)


@needs_blender
@pytest.mark.parametrize(("material", "limit"), [("exact", 0.005), ("pbr", 0.015)])
def test_normal_maps(cameras: Cameras, lamps: Lights, tmp_path: Path, material: str, limit: float) -> None:
    fine, mesh, textures = bumpy_ball()
    bare, path = replace(mesh, albedo=None, specular=None, shininess=None), tmp_path / "a.blend"
    write_blend(bare, path, cameras, lamps, SIZE, material, textures=textures)
    assert_alike(f"bumpy ball {material}", path, fine, cameras, lamps, limit)


@needs_blender
@pytest.mark.parametrize("body", ["bumpy ball", "head 0"])
def test_a_textured_glb_renders_as_we_render(cameras: Cameras, tmp_path: Path, body: str) -> None:
    """The material that Blender's importer makes of it, without ambient light, which a GLB has not."""
    if body == "head 0":
        fine = painted_head(0)
        mesh, textures = bake(fine, 1024, from_vertices(fine))
    else:
        fine, mesh, textures = bumpy_ball()
    write_glb(mesh, tmp_path / "a.glb", textures)
    lamps = Lights.from_vector(LIGHTS * torch.tensor([0, 1, 1, 1, 0]))
    job = scene_job(cameras, lamps, SIZE, "pbr", 1.0)
    job |= {"glb": str(tmp_path / "a.glb"), "out": str(tmp_path / "a.blend")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    run_script(blend.find_blender(), SETTING, blend.SCRIPT, tmp_path / "job.json")
    ours = render_mesh(fine, cameras, lamps, SIZE, (1.0, 1.0, 1.0))
    for image, (view, light) in zip(render_blend(tmp_path / "a.blend", SHOTS, 16), SHOTS, strict=True):
        found = agreement(image, ours.colors[view, light].numpy(), ours.mask[view].numpy())
        print(f"GLB, {body} view {view} light {light}: {found}")
        assert found.iou >= 0.99
        assert found.mae <= 0.015


@needs_blender
def test_the_light_that_is_shown_is_the_whole_light(cameras: Cameras, tmp_path: Path) -> None:
    mesh, shown = sphere(subdivisions=5), 29
    light = torch.linspace(0, 1, 30)[:, None] * torch.tensor([0.5, 0.2, 1.0, 0.3, 0.0]) + 0.1
    lamps = Lights.from_vector(light * torch.tensor([1, 1, 1, 1, 0]))
    write_blend(mesh, tmp_path / "a.blend", cameras, lamps, SIZE)
    (image,) = render_blend(tmp_path / "a.blend", [(1, shown)], samples=16)
    ours = render_mesh(mesh, cameras, lamps, SIZE, (1.0, 1.0, 1.0))
    assert agreement(image, ours.colors[1, shown].numpy(), ours.mask[1].numpy()).mae <= 0.005


@needs_blender
def test_a_scaled_scene_looks_the_same(cameras: Cameras, lamps: Lights, tmp_path: Path) -> None:
    for name, scale in (("a", 1.0), ("b", 0.125)):
        write_blend(painted_head(0), tmp_path / f"{name}.blend", cameras, lamps, SIZE, scale=scale)
    one, other = (render_blend(tmp_path / f"{name}.blend", [(1, 1)], 8)[0] for name in "ab")
    assert np.abs(one - other).mean() < 1e-3


def probe(path: Path) -> tuple[dict, dict[str, ndarray]]:
    """Facts and arrays of a file that Blender has read."""
    out = path.with_suffix("")
    run_script(blend.find_blender(), (Path(__file__).parents[1] / "blender_probe.py"), path, out)
    with np.load(f"{out}.npz") as arrays:
        return json.loads(Path(f"{out}.json").read_text()), dict(arrays)


@needs_blender
@pytest.mark.parametrize("material", MATERIALS)
def test_a_file_opened_again(cameras: Cameras, lamps: Lights, tmp_path: Path, material: str) -> None:
    mesh, path = painted_head(0), tmp_path / "a.blend"
    write_blend(mesh, path, cameras, lamps, SIZE, material)
    assert path.stat().st_size < 2e6
    facts, arrays = probe(path)
    assert (facts["camera"], facts["cameras"]) == ("view 0", ["view 0", "view 1"])
    assert facts["suns"] == {f"light {i}": [i > 0, pytest.approx(float(LIGHTS[i, 0]))] for i in range(2)}
    assert facts["expressions"] == [True] * 2  # work where files may not run Python
    assert (facts["engine"], facts["view_transform"], facts["size"]) == ("CYCLES", "Raw", [SIZE, SIZE])
    assert facts["images"] == {}
    for i, camera in enumerate(scene_job(cameras, lamps, SIZE, material, 1.0)["cameras"]):
        np.testing.assert_allclose(facts["matrices"][f"view {i}"], camera["matrix"], atol=1e-5)
    told = mesh_arrays(mesh)
    np.testing.assert_array_equal(arrays["vertices"], told["vertices"])
    np.testing.assert_array_equal(arrays["corners"], told["faces"].ravel())
    np.testing.assert_allclose(arrays["corner_normals"], told["normals"][told["faces"].ravel()], atol=6e-3)
    np.testing.assert_array_equal(arrays["albedo"][:, :3], told["albedo"])
    for name in ("specular", "shininess"):
        np.testing.assert_array_equal(arrays[name], told[name])
    first, second = (render_blend(path, [(0, 1)], 4) for _ in range(2))
    assert np.abs(first - second).max() < 1e-6


def same_shape(arrays: dict[str, ndarray], mesh: Mesh) -> None:
    """What Blender has read of a GLB is the mesh, with its exact material in attributes."""
    np.testing.assert_allclose(arrays["vertices"], mesh.vertices @ ROTATION.T, atol=1e-5)
    np.testing.assert_array_equal(arrays["corners"], mesh.faces.ravel())
    turned = (mesh.normals @ ROTATION.T)[mesh.faces.ravel()]
    np.testing.assert_allclose(arrays["corner_normals"], turned, atol=6e-3)
    np.testing.assert_allclose(arrays["_KS"], mesh.specular, atol=1e-7)
    np.testing.assert_allclose(arrays["_PHONG"], mesh.shininess, atol=1e-5)


@needs_blender
def test_blender_reads_our_textures(tmp_path: Path) -> None:
    head = painted_head(0)
    mesh, textures = bake(head, 256, from_vertices(head), normals=True)
    write_glb(mesh, tmp_path / "a.glb", textures)
    facts, arrays = probe(tmp_path / "a.glb")
    same_shape(arrays, mesh)
    for i, name in enumerate("RGB"):
        np.testing.assert_allclose(arrays[f"_ALBEDO_{name}"], mesh.albedo[:, i], atol=1e-7)
    places = textures.uv[mesh.faces.ravel()] * (1, -1) + (0, 1)
    np.testing.assert_allclose(arrays["UVMap"], places, atol=1e-6)
    assert all(packed for _, packed, _ in facts["images"].values())
    spaces = {name.split(".")[0]: space for name, (_, _, space) in facts["images"].items()}
    assert spaces.pop("specular")  # its alpha is read, which has no color space
    assert spaces == {"albedo": "sRGB", "roughness": "Non-Color", "normal": "Non-Color"}
    principled = facts["nodes"]["ShaderNodeBsdfPrincipled"]
    assert principled["Base Color"] == ["ShaderNodeTexImage"]
    assert principled["Roughness"] == ["ShaderNodeSeparateColor"]
    assert principled["Specular IOR Level"] == ["ShaderNodeMath"]
    assert principled["Normal"] == ["ShaderNodeNormalMap"]
    assert principled["IOR"] == pytest.approx(1.5) and principled["Metallic"] in (0, ["ShaderNodeMath"])
    peak = max(1.0, float(reflectance(textures.specular, textures.shininess).max()) / 0.04)
    assert principled["Specular Tint"][:3] == pytest.approx([peak] * 3, rel=1e-5)


@needs_blender
def test_blender_reads_our_glb(tmp_path: Path) -> None:
    mesh = painted_head(0)
    write_glb(mesh, tmp_path / "a.glb")
    facts, arrays = probe(tmp_path / "a.glb")
    same_shape(arrays, mesh)
    (color,) = [array for array in arrays.values() if array.ndim == 2 and array.shape[1] == 4]
    linear = srgb_to_linear(mesh.albedo)[mesh.faces.ravel()]
    np.testing.assert_allclose(color[:, :3], linear, atol=0.005)  # 8 bits
    principled = facts["nodes"]["ShaderNodeBsdfPrincipled"]
    assert principled["Base Color"] != [1, 1, 1, 1] and isinstance(principled["Base Color"][0], str)
    assert principled["Metallic"] == 0 and principled["IOR"] == pytest.approx(1.5)


@needs_blender
@pytest.mark.parametrize(("write", "name"), [(write_obj, "a.obj"), (write_ply, "a.ply")])
def test_blender_reads_our_plain_files(
    tmp_path: Path, write: Callable[[Mesh, Path], None], name: str
) -> None:
    mesh = painted_head(0)
    write(upright(mesh, "z") if name == "a.ply" else mesh, tmp_path / name)  # Blender turns .obj files itself
    facts, arrays = probe(tmp_path / name)
    np.testing.assert_allclose(arrays["vertices"], mesh.vertices @ ROTATION.T, atol=1e-5)
    (color,) = [array for array in arrays.values() if array.ndim == 2 and array.shape[1] == 4]
    np.testing.assert_allclose(color[:, :3], srgb_to_linear(mesh.albedo), atol=0.005)
    if name == "a.obj":
        principled, (rough, f0) = facts["nodes"]["ShaderNodeBsdfPrincipled"], mean_lobe(mesh)
        assert principled["Roughness"] == pytest.approx(rough, abs=1e-4)
        assert principled["Specular IOR Level"] == pytest.approx(f0 / 0.08, abs=1e-4)
    else:
        np.testing.assert_allclose(arrays["ks"], mesh.specular, atol=1e-6)
        np.testing.assert_allclose(arrays["phong"], mesh.shininess, atol=1e-4)
