"""Converted datasets, read as the programs they are for read them, by these where they install.

Each reader below gives, per view, depth and what takes pixels to world points and back by the *converted*
cameras. Depth of one view must land on the surface that another view sees.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from lifted_blobs import Blobs
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter

from lift3d import defaults
from lift3d.cli.main import main
from lift3d.errors import ConfigError
from lift3d.export.convert import nerf, usd, webdataset
from lift3d.export.convert.convert import ABOUT, FORMATS, convert
from lift3d.export.convert.images import png, quantized
from lift3d.export.convert.sample import Sample
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5.reader import DatasetSample, open_dataset
from lift3d.scene.cameras import pixel_grid
from lift3d.scene.color import srgb_to_linear

PLAN = DatasetPlan(n=3, views=3, lights=2, size=64, gan=True, truncation=0.7)
TURN = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up -> z up
HALF = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


@dataclass
class View:
    """One view as another program sees it."""

    depth: NDArray  # [h, w] z-depth, 0 where there is nothing
    pose: NDArray  # camera to world, OpenCV axes, [4, 4]
    k: NDArray  # pixels, centers at +0.5

    def points(self) -> NDArray:
        """World points of its pixels."""
        y, x = np.nonzero(self.depth)
        rays = np.stack((x + 0.5, y + 0.5, np.ones(len(x))), -1) @ np.linalg.inv(self.k).T
        return rays * self.depth[y, x, None] @ self.pose[:3, :3].T + self.pose[:3, 3]

    def sees(self, points: NDArray) -> tuple[NDArray, NDArray]:
        """Depths of world points, and the view's own depth at their pixels."""
        local = (points - self.pose[:3, 3]) @ self.pose[:3, :3]
        image = local @ self.k.T
        x, y = np.floor(image[:, :2] / image[:, 2:]).astype(int).T
        return local[:, 2], self.depth[y, x]


def assert_one_surface(views: list[View], tolerance: float = 0.02) -> None:
    """Points of every view lie where the others see the surface, nearly all of them; a pixel is 0.03 wide."""
    for a in views:
        for b in views:
            there, here = b.sees(a.points())
            seen = here > 0
            grown = replace(b, depth=maximum_filter(b.depth, 3))  # a pixel more than the silhouette
            assert len(seen) > 500 and (grown.sees(a.points())[1] > 0).mean() > 0.98
            assert np.median(np.abs(there - here)[seen]) < tolerance


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dataset") / "faces.h5"
    write_dataset(Blobs(), PLAN, path)
    return path


@pytest.fixture(scope="module")
def written(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The dataset in a format."""
    folder = tmp_path_factory.mktemp("converted")

    def of(kind: str) -> Path:
        if not (folder / kind).exists():
            convert(faces, kind, folder / kind)
        return folder / kind

    return of


def stored(faces: Path) -> DatasetSample:
    return open_dataset(faces)[1]


def flipped(pose: list) -> NDArray:
    """OpenGL camera axes to OpenCV's."""
    return np.array(pose) * [1, -1, -1, 1]


def on_blob(points: NDArray, faces: Path) -> NDArray:
    """Distance of world points (y up) from sample 1's ellipsoid, roughly."""
    radii = Blobs().radii(stored(faces).code).numpy()
    return np.abs(np.linalg.norm(points / radii, axis=-1) - 1) * radii.min()


# --- png ----------------------------------------------------------------------------------------


def test_png_files_of_any_kind_are_read_by_opencv() -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.uint8, np.uint16):
        for channels in ((), (3,), (4,)):
            pixels = rng.integers(0, np.iinfo(dtype).max, (5, 7, *channels), dtype, endpoint=True)
            read = cv2.imdecode(np.frombuffer(png(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
            order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(*channels or (1,))
            np.testing.assert_array_equal(read if order is None else read[..., order], pixels)
            assert read.dtype == dtype


def test_quantized_values_come_back() -> None:
    rng = np.random.default_rng(0)
    for values in (
        rng.uniform(0, 11, 99),
        rng.uniform(-0.3, 1.2, 99),
        np.zeros(4),
        np.array([-1.0, 1.0, 0.5]),
    ):
        pixels, scale, offset = quantized(values)
        np.testing.assert_allclose(pixels * scale + offset, values, atol=scale * 0.501)
    assert (quantized(np.zeros(3))[0] == 0).all() and quantized(np.zeros(3), signed=True)[2] < 0


def read_png(path: Path, scale: dict | None = None) -> NDArray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    pixels = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    return pixels if scale is None else pixels * scale["scale"] + scale["offset"]


def test_png_folders_hold_every_map(written: Callable, faces: Path) -> None:
    folder, sample = written("png") / "000001", stored(faces)
    about = json.loads((folder / "cameras.json").read_text())
    assert about["seed"] == int(sample.seed) and len(about["lights"]) == 2
    assert about["maps"]["depth"]["units"] == "world unit" and about["maps"]["normals"]["space"] == "world"
    for name in FORMATS["png"].maps:
        wanted = getattr(sample, name).numpy()
        for v, view in enumerate(about["views"]):
            files = view["files"][name]
            for file, one in zip(files, wanted[v]) if isinstance(files, list) else [(files, wanted[v])]:
                read = read_png(folder / file, about["maps"].get(name))
                exact = {"mask": one * np.uint8(255)}.get(name, one)
                np.testing.assert_allclose(
                    read, exact, atol=0 if one.dtype != np.float32 else one.max() / 32768
                )
    np.testing.assert_array_equal([view["cam2world"] for view in about["views"]], sample.cam2world)
    np.testing.assert_array_equal([light["direction"] for light in about["lights"]], sample.light_dir)
    views = [
        View(
            read_png(folder / view["files"]["depth"], about["maps"]["depth"]),
            np.array(view["cam2world"]),
            np.array(view["K"]),
        )
        for view in about["views"]
    ]
    assert_one_surface(views)
    assert on_blob(views[0].points(), faces).max() < 1e-3


# --- nerf ---------------------------------------------------------------------------------------


def nerfstudio_cameras(folder: Path) -> Iterator[tuple[Path, View]]:
    """As nerfstudio's parser without re-orientation: sorted frames, fl_x..., depth in thousandths."""
    meta = json.loads((folder / "transforms.json").read_text())
    assert meta["orientation_override"] == "none" and meta["camera_model"] == "OPENCV"
    for frame in sorted(meta["frames"], key=lambda frame: frame["file_path"]):
        lens = meta if "fl_x" in meta else frame
        k = np.array([[lens["fl_x"], 0, lens["cx"]], [0, lens["fl_y"], lens["cy"]], [0, 0, 1]])
        depth = read_png(folder / frame["depth_file_path"]) * 1e-3
        assert depth.shape == (lens["h"], lens["w"])
        yield folder / frame["file_path"], View(depth, flipped(frame["transform_matrix"]), k)


def test_nerf_scenes_are_one_surface(written: Callable, faces: Path) -> None:
    sample = stored(faces)
    for light in range(2):
        files, views = zip(*nerfstudio_cameras(written("nerf") / "000001" / f"light{light:03d}"))
        assert_one_surface(list(views))
        assert on_blob(views[0].points() @ TURN, faces).max() < 2e-3  # z up, and thousandths
        for v, file in enumerate(files):
            picture = np.array(Image.open(file))  # RGBA, straight alpha
            np.testing.assert_array_equal(picture[..., :3], sample.colors[v, light])
            np.testing.assert_array_equal(picture[..., 3] == 255, sample.mask[v])
            assert set(np.unique(picture[..., 3])) == {0, 255}


def test_nerf_scenes_by_the_rules_of_instant_ngp(written: Callable, faces: Path) -> None:
    """The scaled object fits the unit cube; the camera's angle, looked at from outside, is that of fl_x."""
    folder = written("nerf") / "000001" / "light000"
    meta = json.loads((folder / "transforms.json").read_text())
    scale, offset = meta["scale"], np.array(meta["offset"])
    assert meta["aabb_scale"] == 1
    views = []
    for frame in meta["frames"]:
        pose = flipped(frame["transform_matrix"])
        pose[:3, 3] = pose[:3, 3] * scale + offset
        depth = read_png(folder / frame["depth_path"]) * (meta["integer_depth_scale"] * scale)
        focal = meta["w"] / 2 / np.tan(meta["camera_angle_x"] / 2)
        center = meta["cx"] / meta["w"] * depth.shape[1], meta["cy"] / meta["h"] * depth.shape[0]
        assert focal == pytest.approx(meta["fl_x"]) and meta["camera_angle_y"] == meta["camera_angle_x"]
        views.append(View(depth, pose, np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])))
        assert (views[-1].points() > 0).all() and (views[-1].points() < 1).all()
    assert_one_surface(views, 0.02 * scale)
    wanted = stored(faces).light_dir[0].numpy() @ TURN.T
    np.testing.assert_allclose(meta["light"]["direction"], wanted, atol=1e-6)


def test_lenses_that_differ_stand_in_the_frames(faces: Path, tmp_path: Path) -> None:
    sample = converted(faces)
    k = sample.k.copy()
    k[1, :2] *= 2
    nerf.write(tmp_path, [replace(sample, k=k)])
    meta = json.loads((tmp_path / "000001/light000/transforms.json").read_text())
    assert "fl_x" not in meta and "w" not in meta
    assert [frame["fl_x"] for frame in meta["frames"]] == [float(x) for x in k[:, 0, 0]]
    with pytest.raises(ConfigError, match="sample 1: depth reaches 9.*, a transforms.json has at most 65.5"):
        nerf.write(
            tmp_path / "far", [replace(sample, maps=sample.maps | {"depth": sample.maps["depth"] * 10})]
        )


# --- eg3d ---------------------------------------------------------------------------------------


def test_eg3d_labels(written: Callable, faces: Path) -> None:
    """As EG3D's ray sampler takes them: pixel centers (i + 0.5) / size, normalized K, OpenCV axes."""
    folder, sample, size = written("eg3d"), stored(faces), PLAN.size
    about = json.loads((folder / "dataset.json").read_text())
    labels = dict(about["labels"])
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix == ".png"}
    assert names == set(labels) and all(len(label) == 25 for label in labels.values())
    views = []
    for v in range(PLAN.views.n):
        for light in range(PLAN.lights.n):
            file = f"000001/view{v:03d}-light{light:03d}.png"
            np.testing.assert_array_equal(np.array(Image.open(folder / file)), sample.colors[v, light])
            label = np.array(labels[file], np.float32)
        pose, k = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
        uv = (pixel_grid(size) / size).numpy()
        lifted = np.stack(
            ((uv[:, 0] - k[0, 2]) / k[0, 0], (uv[:, 1] - k[1, 2]) / k[1, 1], np.ones(size**2)), -1
        )
        directions = lifted @ pose[:3, :3].T
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        origins, wanted = sample.cameras[v : v + 1].rays(pixel_grid(size)[None], size)
        np.testing.assert_allclose(directions, wanted[0], atol=1e-5)
        np.testing.assert_allclose(pose[:3, 3], origins[0, 0], atol=1e-5)
        views.append(View(sample.depth[v].numpy(), pose, k * [[size], [size], [1]]))
        points = views[-1].points()
        rendering = about["rendering"]
        distance = np.linalg.norm(points - pose[:3, 3], axis=-1)
        assert rendering["ray_start"] < distance.min() and distance.max() < rendering["ray_end"]
        assert np.abs(points).max() <= rendering["box_warp"] / 2
    assert_one_surface(views)


# --- blenderproc --------------------------------------------------------------------------------


def test_blenderproc_files(written: Callable, faces: Path) -> None:
    sample, views = stored(faces), []
    assert len(list((written("blenderproc") / "000001").iterdir())) == PLAN.views.n * PLAN.lights.n
    for v in range(PLAN.views.n):
        for light in range(PLAN.lights.n):
            with h5py.File(written("blenderproc") / "000001" / f"{v * PLAN.lights.n + light}.hdf5") as h5:
                data = {key: np.array(h5[key]) for key in h5}
            np.testing.assert_array_equal(data["colors"], sample.colors[v, light])
            lamp = json.loads(data["light_states"].tobytes())[0]
            np.testing.assert_allclose(lamp["direction"], sample.light_dir[light].numpy() @ TURN.T, atol=1e-6)
        np.testing.assert_array_equal(data["diffuse"], sample.albedo[v])
        np.testing.assert_array_equal(data["segmap"] == 1, sample.mask[v])
        (camera,) = json.loads(data["campose"].tobytes())
        seen = json.loads(data["camera_pose"].tobytes())
        pose, k = flipped(camera["cam2world_matrix"]), np.array(camera["cam_K"])
        np.testing.assert_array_equal(np.reshape(seen["cam_K"], (3, 3)), k)
        world2cam = np.column_stack((np.reshape(seen["cam_R_w2c"], (3, 3)), seen["cam_t_w2c"]))
        np.testing.assert_allclose(world2cam @ pose, np.eye(4)[:3], atol=1e-6)
        assert k[0, 2] == k[1, 2] == (PLAN.size - 1) / 2  # BlenderProc's pixel centers are integers
        depth, inside = data["depth"], data["segmap"] == 1
        assert depth.dtype == np.float32 and (depth[~inside] == 1e10).all()
        views.append(View(np.where(inside, depth, 0), pose, k + HALF))
        normals = data["normals"]
        assert normals.min() >= 0 and normals.max() <= 1 and (normals[~inside] == 0.5).all()
        assert (normals[inside][:, 2] > 0.5).all()  # towards the camera, whose axes are OpenGL's
        world = (2 * normals[inside] - 1) @ np.array(camera["cam2world_matrix"])[:3, :3].T
        np.testing.assert_allclose(world @ TURN, sample.normals[v][sample.mask[v]], atol=1e-5)
    assert_one_surface(views)
    assert on_blob(views[0].points() @ TURN, faces).max() < 1e-4


# --- webdataset ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of the package's own code
def test_webdataset_reads_the_shards(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wds = pytest.importorskip("webdataset", reason="webdataset is not installed: pip install webdataset")
    monkeypatch.setattr(webdataset, "SHARD_BYTES", 1)  # a shard a sample
    convert(faces, "webdataset", tmp_path / "out")
    urls = sorted(map(str, (tmp_path / "out").glob("shard-*.tar")))
    assert [Path(url).name for url in urls] == [f"shard-{i:06d}.tar" for i in range(3)]
    items = {item["__key__"]: item for item in wds.WebDataset(urls, shardshuffle=False).decode("rgb8")}
    assert list(items) == [f"{i:06d}-view{v:03d}" for i in range(3) for v in range(3)]
    sample, views = stored(faces), []
    for v in range(PLAN.views.n):
        item = items[f"000001-view{v:03d}"]
        for name in ("depth", "normals", "specular", "shininess", "diffuse_shading", "specular_shading"):
            np.testing.assert_array_equal(item[f"{name}.npy"], getattr(sample, name)[v], err_msg=name)
        for light in range(PLAN.lights.n):
            np.testing.assert_array_equal(item[f"light{light:03d}.png"], sample.colors[v, light])
            np.testing.assert_array_equal(item[f"light{light:03d}.gan.png"], sample.colors_gan[v, light])
        np.testing.assert_array_equal(item["albedo.png"], sample.albedo[v])
        np.testing.assert_array_equal(item["mask.png"][..., 0] == 255, sample.mask[v])
        about = item["json"]
        assert (about["sample"], about["view"], about["seed"]) == (1, v, int(sample.seed))
        views.append(View(item["depth.npy"], np.array(about["cam2world"]), np.array(about["K"])))
    assert_one_surface(views)


def test_shards_are_full_before_the_next_begins(faces: Path, tmp_path: Path) -> None:
    convert(faces, "webdataset", tmp_path / "out", numbers=[2, 0])
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == ["shard-000000.tar"]
    assert json.loads((tmp_path / "out" / ABOUT).read_text())["samples"] == [2, 0]


# --- usd ----------------------------------------------------------------------------------------


def converted(faces: Path) -> Sample:
    dataset = open_dataset(faces)
    return Sample.of(dataset[1], lambda: dataset.mesh(1))


def test_usd_scenes_by_pixars_library(faces: Path, tmp_path: Path) -> None:
    """Its cameras project the mesh to the pixels of ours, also with the principal point off the center."""
    pytest.importorskip("pxr", reason="USD is not installed: pip install usd-core")
    from pxr import Gf, Usd, UsdGeom, UsdLux, UsdShade

    sample, size = converted(faces), PLAN.size
    k = sample.k.copy()
    k[:, 0, 2], k[:, 1, 2], k[:, 1, 1] = 20, 41, 2 * k[:, 0, 0]
    usd.write(tmp_path, [replace(sample, k=k)])
    stage = Usd.Stage.Open(str(tmp_path / "000001.usda"))
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    mesh, stored_mesh = UsdGeom.Mesh.Get(stage, "/sample/mesh"), sample.mesh()
    points = np.array(mesh.GetPointsAttr().Get())
    np.testing.assert_allclose(points, stored_mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(
        np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3), stored_mesh.faces
    )
    assert UsdGeom.Mesh.ValidateTopology(
        mesh.GetFaceVertexIndicesAttr().Get(), mesh.GetFaceVertexCountsAttr().Get(), len(points)
    )[0]
    colors = np.array(mesh.GetDisplayColorAttr().Get())
    np.testing.assert_allclose(colors, srgb_to_linear(stored_mesh.albedo), atol=1e-6)
    material, _ = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()
    shader = material.ComputeSurfaceSource()[0]
    assert shader.GetIdAttr().Get() == "UsdPreviewSurface"
    assert shader.GetInput("diffuseColor").GetConnectedSource()[0].GetPath() == "/sample/material/albedo"
    for v in range(PLAN.views.n):
        frustum = UsdGeom.Camera.Get(stage, f"/sample/cameras/view{v:03d}").GetCamera().frustum
        matrix = frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()
        ndc = np.array([matrix.Transform(Gf.Vec3d(*p)) for p in points.tolist()])
        pixels = (ndc[:, :2] * [1, -1] + 1) / 2 * size
        pose = sample.cam2world[v].astype(np.float64)
        image = (points - pose[:3, 3]) @ pose[:3, :3] @ k[v].T.astype(np.float64)
        np.testing.assert_allclose(pixels, image[:, :2] / image[:, 2:], atol=2e-3)
        assert np.abs(ndc[:, 2]).max() < 1  # between the clipping planes
    variants = stage.GetPrimAtPath("/sample/lights").GetVariantSet("light")
    assert variants.GetVariantNames() == ["light000", "light001"]
    for light, name in enumerate(variants.GetVariantNames()):
        variants.SetVariantSelection(name)
        sun = UsdLux.DistantLight.Get(stage, "/sample/lights/sun")
        shines = UsdGeom.Xformable(sun).ComputeLocalToWorldTransform(0).TransformDir(Gf.Vec3d(0, 0, -1))
        np.testing.assert_allclose(shines, -sample.light_dir[light], atol=1e-6)
        assert sun.GetIntensityAttr().Get() == pytest.approx(np.pi * sample.light_diffuse[light], rel=1e-5)
        dome = UsdLux.DomeLight.Get(stage, "/sample/lights/ambient")
        assert dome.GetIntensityAttr().Get() == pytest.approx(sample.light_ambient[light], rel=1e-5)


def test_usd_meshes_are_small(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usd, "FACES", 100)
    text = usd.scene(converted(faces))
    counts = text.split("faceVertexCounts = [")[1].split("]")[0].split(", ")
    assert 40 < len(counts) <= 100 and set(counts) == {"3"}


# --- any format ---------------------------------------------------------------------------------


@pytest.fixture
def cli(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, ["convert", *map(str, words)])


def test_every_layout_is_known_to_the_command(cli: Callable, faces: Path) -> None:
    assert tuple(FORMATS) == defaults.LAYOUTS
    help_text = cli("--help").output
    for kind in FORMATS:
        assert kind in help_text
        result = cli(faces, "--to", kind, "--out", kind, "--samples", "1")
        assert result.exit_code == 0 and result.stdout.startswith(f"{kind}: 1 samples as {kind}, "), (
            result.output
        )
        about = json.loads((Path(kind) / ABOUT).read_text())
        assert about["samples"] == [1] and about["license"] == "CC0-1.0" and about["format"] == kind
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_unfinished_samples_are_left_out_and_said(cli: Callable, faces: Path) -> None:
    data = bytearray(faces.read_bytes())
    Path("some.h5").write_bytes(data)
    with h5py.File("some.h5", "r+") as h5:
        h5["done"][1] = False
    result = cli("some.h5", "--to", "eg3d", "--out", "out")
    assert result.exit_code == 0
    assert "2 samples as eg3d" in result.stdout
    assert "1 samples of some.h5 are not finished and were left out; lift3d sample --resume" in result.stdout
    assert sorted(path.name for path in Path("out").glob("0*")) == ["000000", "000002"]
    for number, words in (
        (1, "sample 1 of some.h5 is not finished; lift3d sample --resume finishes it"),
        (3, "has no sample 3, expected 0 to 2"),
    ):
        result = cli("some.h5", "--to", "eg3d", "--out", "other", "--samples", number)
        assert result.exit_code == 1 and words in result.stderr
    with h5py.File("some.h5", "r+") as h5:
        h5["done"][:] = False
    assert "some.h5 has no finished sample here" in cli("some.h5", "--to", "png", "--out", "o").stderr


def test_one_part_of_the_split(tmp_path: Path) -> None:
    path = tmp_path / "parts.h5"
    plan = DatasetPlan(n=9, views=1, lights=1, size=16, maps=(), meshes=False, split=(0.5, 0.25, 0.25))
    write_dataset(Blobs(), plan, path)
    found = []
    for part in ("train", "val", "test"):
        convert(path, "eg3d", tmp_path / part, split=part)
        found.append({int(folder.name) for folder in (tmp_path / part).glob("0*")})
    assert found == [{i for i in range(9) if plan.part(i) == part} for part in range(3)]
    with pytest.raises(ConfigError, match="sample 0 of .* is not in the part that was asked for"):
        convert(path, "eg3d", tmp_path / "x", numbers=[0], split=("train", "val")[plan.part(0) == 0])


def test_what_is_there_is_kept(cli: Callable, faces: Path) -> None:
    assert cli(faces, "--to", "png", "--out", "out").exit_code == 0
    assert "Error: out exists; --overwrite replaces it" in cli(faces, "--to", "png", "--out", "out").stderr
    result = cli(faces, "--to", "eg3d", "--out", "out", "--overwrite")
    assert result.exit_code == 0 and not Path("out/000001/cameras.json").exists()
    Path("mine").mkdir()
    assert cli(faces, "--to", "eg3d", "--out", "mine").exit_code == 0  # an empty folder
    for path in ("out", "mine"):
        (Path(path) / ABOUT).write_text("[]")
        result = cli(faces, "--to", "eg3d", "--out", path, "--overwrite")
        assert f"{path} is there and is not replaced; choose another path" in result.stderr
    Path("file").write_text("x")
    assert "file is there and is not replaced" in cli(faces, "--to", "eg3d", "--out", "file").stderr
    assert "--to is 'tiff', expected one of png, nerf" in cli(faces, "--to", "tiff", "--out", "x").stderr
    assert "nowhere is no folder" in cli(faces, "--to", "png", "--out", "nowhere/x").stderr
    with pytest.raises(ConfigError, match="format is 'tiff', expected one of png, nerf"):
        convert(faces, "tiff", "x")


def test_a_conversion_that_fails_leaves_nothing(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(faces, "eg3d", tmp_path / "out")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}

    def fail(*_: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr("lift3d.export.convert.eg3d.json.dumps", fail)
    with pytest.raises(OSError, match="disk"):
        convert(faces, "eg3d", tmp_path / "out", overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_formats_make_do_with_the_maps_there_are(tmp_path: Path) -> None:
    path = tmp_path / "few.h5"
    plan = DatasetPlan(n=1, views=1, lights=1, size=16, maps=(), meshes=False)
    write_dataset(Blobs(), plan, path)
    for kind in set(FORMATS) - {"usd"}:
        assert convert(path, kind, tmp_path / kind).files > 1
    alpha = np.array(Image.open(tmp_path / "nerf/000000/light000/images/view000.png"))[..., 3]
    assert (alpha == 255).all()
    with h5py.File(tmp_path / "blenderproc/000000/0.hdf5") as h5:
        assert set(h5) == {"colors", "campose", "camera_pose", "light_states"}
    with pytest.raises(ConfigError, match="few.h5 has no meshes"):
        convert(path, "usd", tmp_path / "usd")
    assert not (tmp_path / "usd").exists()
