"""Plans of views, lights and instances: their geometry in closed form, their text, and what is refused."""

import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from lifted_blobs import Blobs

import lift3d
from lift3d.errors import ConfigError
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5.reader import open_dataset
from lift3d.export.hdf5.verify import verify
from lift3d.export.plan.latents import LatentPlan
from lift3d.export.plan.lights import LightPlan
from lift3d.export.plan.views import ViewPlan
from lift3d.model import LiftedGAN
from lift3d.renderers import MeshRenderer, VolumeRenderer
from lift3d.scene.cameras import FOV_DEG, Cameras, ViewPrior, distance
from lift3d.scene.lights import LightPrior, Lights

NONE = torch.Generator()  # of plans that draw nothing


def cameras(text: str, seed: int = 0) -> Cameras:
    return ViewPlan.parse(text).cameras(ViewPrior(), torch.Generator().manual_seed(seed))


def lights(text: str, seed: int = 0) -> Lights:
    return LightPlan.parse(text).lights(LightPrior(), torch.Generator().manual_seed(seed))


# --- views ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("elevation", [0.0, 25.0])
def test_an_orbit_is_a_circle(elevation: float) -> None:
    found = cameras(f"orbit:8,elevation={elevation}")
    angle, up = torch.arange(8) * (2 * math.pi / 8), math.radians(elevation)
    flat = math.cos(up)
    wanted = torch.stack(
        (-angle.sin() * flat, torch.full((8,), math.sin(up)), angle.cos() * flat), -1
    ) * distance(FOV_DEG)
    torch.testing.assert_close(found.origins, wanted, atol=1e-5, rtol=0)
    center = found.project(torch.zeros(8, 1, 3), 100)
    torch.testing.assert_close(center, torch.full((8, 1, 2), 50.0), atol=1e-3, rtol=0)
    upright = found.cam2world()[:, :3, 1]  # the camera's y, downwards
    assert (upright[:, 1] < -0.9).all()


def test_a_grid_goes_row_by_row_from_above_left_to_right() -> None:
    views = cameras("grid:3x2,yaw=30,pitch=10").to_view().rad2deg()[:, :2]
    wanted = [(10, -30), (10, 0), (10, 30), (-10, -30), (-10, 0), (-10, 30)]
    torch.testing.assert_close(views, torch.tensor(wanted, dtype=torch.float32), atol=1e-4, rtol=0)
    torch.testing.assert_close(cameras("grid:1x1").to_view(), torch.zeros(1, 6), atol=1e-6, rtol=0)
    once = cameras("grid:4x1,yaw=180").origins
    torch.testing.assert_close(once.sum(0), torch.zeros(3), atol=1e-5, rtol=0)  # evenly all around


def test_lens_and_distance() -> None:
    for text in ("4,fov=40", "orbit:4,fov=40", "grid:2x2,fov=40"):
        found = cameras(text)
        assert found.fov_deg == 40 and found.intrinsics(100)[0, 0] == pytest.approx(
            50 / math.tan(math.pi / 9)
        )
        assert (found.origins.norm(dim=-1) - distance(40.0)).abs().max() < 0.2  # and the prior's t
    torch.testing.assert_close(cameras("orbit:4,distance=20").origins.norm(dim=-1), torch.full((4,), 20.0))


def test_random_views_keep_their_draws_and_shared_ones_are_shared() -> None:
    plan = DatasetPlan(n=9, views="3", lights="same:4")
    drawn = [plan.draw(i, ViewPrior(), LightPrior()) for i in range(4)]
    assert not torch.equal(drawn[0][0].rotation, drawn[1][0].rotation)
    assert all(torch.equal(drawn[0][1].direction, one[1].direction) for one in drawn)
    same = DatasetPlan(n=9, views="same:3", lights=2)
    drawn = [same.draw(i, ViewPrior(), LightPrior()) for i in range(4)]
    assert all(torch.equal(drawn[0][0].rotation, one[0].rotation) for one in drawn)
    assert not torch.equal(drawn[0][1].direction, drawn[1][1].direction)
    other = DatasetPlan(n=9, seed=1, views="same:3", lights=2).draw(0, ViewPrior(), LightPrior())
    assert not torch.equal(drawn[0][0].rotation, other[0].rotation)


@pytest.mark.parametrize(
    "text", ["8", "same:4,fov=30", "orbit:36,elevation=20", "grid:5x3,yaw=60,distance=20"]
)
def test_a_view_plan_is_its_text(text: str) -> None:
    assert str(ViewPlan.parse(text)) == text and ViewPlan.parse(text) == ViewPlan.parse(
        str(ViewPlan.parse(text))
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "views are '', expected a number, or one of random:…, same:…, orbit:…, grid:…, file:…"),
        ("orbit", "views are 'orbit', expected a number, or one of"),
        ("spiral:3", "views are 'spiral:3', expected a number, or one of"),
        ("0", "views is '0', expected a number, 1 to 10,000"),
        ("orbit:x", "views: orbit is 'x', expected a number, 1 to 10,000"),
        ("grid:5", "views: grid is '5', expected COLUMNSxROWS such as 5x3, not more than 10,000"),
        ("grid:500x500", "views: grid is '500x500', expected COLUMNSxROWS"),
        ("orbit:3,yaw=2", "views: orbit has no option yaw=, its options are elevation=, fov=, distance="),
        ("orbit:3,fov=150", "views: fov is 150.0, expected a number from 0.5 to 120"),
        ("orbit:3,fov=x", "views: fov is 'x', expected a number"),
        ("orbit:3,elevation=100", "views: elevation is 100.0, expected a number from -90 to 90"),
        ("grid:3x3,pitch=100", "views: pitch is 100.0, expected a number from 0 to 90"),
        (
            "3,distance=3",
            "views: a camera with a field of view of 12 degrees stands 3 from the center, expected at least "
            "9.567, where the unit sphere fills the frame: move it away, or widen fov",
        ),
        ("orbit:3,fov=40,distance=2", "of 40 degrees stands 2 from the center, expected at least 2.924"),
    ],
)  # fmt: skip
def test_impossible_views(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        ViewPlan.parse(text)
    assert sentence in str(error.value)


# --- lights ---------------------------------------------------------------------------------------


def test_a_sweep_is_an_arc() -> None:
    found = lights("sweep:5,elevation=30")
    angle = torch.tensor([-90.0, -45.0, 0.0, 45.0, 90.0]).deg2rad()
    flat = math.cos(math.pi / 6)
    wanted = torch.stack((angle.sin() * flat, torch.full((5,), 0.5), angle.cos() * flat), -1)
    torch.testing.assert_close(found.direction, wanted, atol=1e-6, rtol=0)
    assert (found.ambient == 0.3).all() and (found.diffuse == 0.7).all() and (found.negative == 0).all()
    around = lights("sweep:6,azimuth=180").direction
    torch.testing.assert_close(around.sum(0), torch.zeros(3), atol=1e-5, rtol=0)


def test_patches_of_a_hemisphere_have_equal_solid_angles() -> None:
    """Lights weighted by one solid angle sum up to the integrals of cosines over the hemisphere."""
    direction = lights("olat:64x48").direction
    weight = 2 * math.pi / len(direction)
    torch.testing.assert_close(
        weight * direction.sum(0), torch.tensor([0.0, 0.0, math.pi]), atol=4e-3, rtol=0
    )
    assert (direction[:, 2] > 0).all()
    second = weight * direction.T @ direction  # of n n^T: 2 pi / 3 on the diagonal
    torch.testing.assert_close(second, torch.eye(3) * 2 * math.pi / 3, atol=2e-3, rtol=0)
    whole = lights("olat:64x48,azimuth=180")
    torch.testing.assert_close(whole.direction.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert (whole.ambient == 0).all() and (whole.diffuse == 1).all()


def test_lights_from_all_around() -> None:
    found = lights("sphere:2000,ambient=0,diffuse=0.5")
    torch.testing.assert_close(found.direction.norm(dim=-1), torch.ones(2000))
    assert found.direction.mean(0).abs().max() < 0.05
    second = found.direction.T @ found.direction / 2000
    torch.testing.assert_close(second, torch.eye(3) / 3, atol=0.03, rtol=0)
    assert (found.ambient == 0).all() and (found.diffuse == 0.5).all()
    assert found.ambient.dtype == found.diffuse.dtype == torch.float32


@pytest.mark.parametrize(
    "text", ["3", "same:2,ambient=0", "sphere:4,diffuse=0.5", "sweep:9,elevation=30", "olat:8x4"]
)
def test_a_light_plan_is_its_text(text: str) -> None:
    assert str(LightPlan.parse(text)) == text and LightPlan.parse(text) == LightPlan.parse(
        str(LightPlan.parse(text))
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lamp:3", "lights are 'lamp:3', expected a number, or one of random:…, same:…, sphere:…, sweep"),
        ("olat:8", "lights: olat is '8', expected COLUMNSxROWS such as 5x3"),
        ("2,ambient=-1", "lights: ambient is -1.0, expected a number from 0 to 10"),
        ("sweep:2,diffuse=11", "lights: diffuse is 11.0, expected a number from 0 to 10"),
        ("sweep:2,elevation=91", "lights: elevation is 91.0, expected a number from -90 to 90"),
        ("olat:2x2,azimuth=181", "lights: azimuth is 181.0, expected a number from 0 to 180"),
        ("2,fov=3", "lights: random has no option fov=, its options are ambient=, diffuse="),
    ],
)  # fmt: skip
def test_impossible_lights(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        LightPlan.parse(text)
    assert sentence in str(error.value)


# --- files of views and lights ----------------------------------------------------------------------


def test_views_of_a_file(tmp_path: Path) -> None:
    wanted = cameras("grid:3x2,fov=30")
    opengl = wanted.cam2world() * torch.tensor([1.0, -1.0, -1.0, 1.0])
    views = wanted.to_view().rad2deg().tolist()
    contents = {
        "opencv": {"axes": "opencv", "views": [{"cam2world": m} for m in wanted.cam2world().tolist()]},
        "opengl": {"axes": "opengl", "views": [{"cam2world": m} for m in opengl.tolist()]},
        "angles": {"views": [{"pitch": v[0], "yaw": v[1]} for v in views]},
        "mixed": {"axes": "opencv", "distance": distance(30.0), "views": [
            {"yaw": v[1], "pitch": v[0], "roll": 0} if i % 2 else {"cam2world": m}
            for i, (v, m) in enumerate(zip(views, wanted.cam2world().tolist(), strict=True))]},
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"fov": 30} | content))
        found = ViewPlan.parse(f"file:{tmp_path / name}.json")
        assert str(found).startswith(f"file:{name}.json ") and found.n == 6 and found.fov == 30
        torch.testing.assert_close(
            found.cameras(ViewPrior(), NONE).cam2world(), wanted.cam2world(), atol=1e-5, rtol=0
        )


def test_a_file_of_toml_with_few_digits(tmp_path: Path) -> None:
    """Rotations in four digits become exact ones; the text of the plan follows the content."""
    (tmp_path / "a.toml").write_text(
        'axes = "opengl"\n[[views]]\nyaw = 30\ndistance = 12.0\n[[views]]\n'
        "cam2world = [[0.8660, 0, 0.5, 5.0], [0, 1, 0, 0], [-0.5, 0, 0.8660, 8.660], [0, 0, 0, 1]]\n"
        "[[lights]]\ndirection = [0, 0, -2]\n[[lights]]\ndirection = [1, 0, 0]\ndiffuse = 1.0\nambient = 0\n"
    )
    plan = ViewPlan.read(tmp_path / "a.toml")
    found = plan.cameras(ViewPrior(), NONE)
    torch.testing.assert_close(
        found.rotation @ found.rotation.mT, torch.eye(3).expand(2, 3, 3), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(found.origins, torch.tensor([[-6.0, 0, 12 * 0.75**0.5], [5, 0, 8.66]]))
    lamps = LightPlan.parse(f"file:{tmp_path / 'a.toml'}").lights(LightPrior(), NONE)
    assert lamps.direction.tolist() == [[0, 0, -1], [1, 0, 0]]
    torch.testing.assert_close(lamps.ambient, torch.tensor([0.3, 0.0]))
    torch.testing.assert_close(lamps.diffuse, torch.tensor([0.7, 1.0]))
    (tmp_path / "a.toml").write_text((tmp_path / "a.toml").read_text().replace("yaw = 30", "yaw = 31"))
    assert str(ViewPlan.read(tmp_path / "a.toml")) != str(plan)


EYE = [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 20], [0, 0, 0, 1]]  # looks at the origin, OpenCV axes


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.yaml", "", "has the ending '.yaml', expected .json or .toml"),
        ("a.json", "{", "is no JSON file"),
        ("a.json", "[" * 100_000, "is no JSON file: maximum recursion depth exceeded"),
        ("a.toml", "x =", "is no TOML file"),
        ("a.json", "[]", "holds [], expected a table with views or lights"),
        ("a.json", '{"cameras": []}', "'cameras' is unknown, expected fov, distance, axes, views, lights"),
        ("a.json", "{}", "views is None, expected a list of 1 to 10,000 tables"),
        ("a.json", '{"views": [3]}', "views[0] is 3, expected a table"),
        ("a.json", '{"views": [{"tilt": 3}]}', "view 0: 'tilt' is unknown, expected yaw, pitch"),
        ("a.json", '{"views": [{"yaw": "left"}]}', "view 0: yaw is 'left', expected a number"),
        ("a.json", '{"views": [{"yaw": 1e999}]}', "view 0: yaw is inf, expected a number"),
        ("a.json", '{"fov": 190, "views": [{}]}', "fov is 190, expected a number from 0.5 to 120"),
        ("a.json", '{"views": [{"distance": 4}]}', "view 0: a camera with a field of view of 12 degrees"),
        ("a.json", '{"views": [{"distance": 0.4}]}', "a camera stands 0.4 from the origin, expected"),
        ("a.json", {"views": [{"cam2world": EYE}]}, "view 0: axes are None, expected 'opencv' or 'opengl'"),
        ("a.json", {"axes": "opencv", "views": [{"cam2world": EYE[:3]}]}, "expected 4 x 4 numbers"),
        ("a.json", {"axes": "opencv", "views": [{"cam2world": "eye"}]}, "cam2world is 'eye', expected 4 x 4"),
        ("a.json", {"axes": "opengl", "views": [{"cam2world": EYE}]}, "view 0 looks past the origin"),
        (
            "a.json",
            {"axes": "opencv", "views": [{"cam2world": (np.array(EYE) * 1.1).tolist()}]},
            "a cam2world matrix is no rotation and translation",
        ),
        (
            "a.json",
            {"axes": "opencv", "views": [{"cam2world": [[-1, 0, 0, 0], *EYE[1:]]}]},
            "a cam2world matrix is mirrored",
        ),
    ],
)  # fmt: skip
def test_files_that_are_no_views(tmp_path: Path, name: str, content: str | dict, sentence: str) -> None:
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ConfigError) as error:
        ViewPlan.parse(f"file:{tmp_path / name}")
    assert sentence in str(error.value) and "\n" not in str(error.value) and name in str(error.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"lights": [{"diffuse": 1}]}, "light 0: direction is None, expected 3 numbers"),
        ({"lights": [{"direction": [0, 0, 0]}]}, "light 0: direction is 0, expected a vector"),
        ({"lights": [{"direction": [0, 0, 1], "ambient": -1}]}, "light 0: ambient is -1, expected a number"),
        ({"lights": [{"direction": [0, 0, 1], "color": 1}]}, "light 0: 'color' is unknown, expected"),
    ],
)  # fmt: skip
def test_files_that_are_no_lights(tmp_path: Path, content: dict, sentence: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError) as error:
        LightPlan.read(tmp_path / "a.json")
    assert sentence in str(error.value)
    with pytest.raises(ConfigError, match="nowhere.json cannot be read: No such file"):
        LightPlan.parse(f"file:{tmp_path / 'nowhere.json'}")


def test_files_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lift3d.export.plan.setting_file.MAX_BYTES", 10)
    (tmp_path / "a.json").write_text('{"views": [{"yaw": 1}]}')
    with pytest.raises(ConfigError, match="a.json has 23 bytes, expected at most 10"):
        ViewPlan.read(tmp_path / "a.json")


# --- instances --------------------------------------------------------------------------------------


def test_seeds_are_the_models_samples() -> None:
    model, plan = Blobs(), DatasetPlan(latents=LatentPlan.of_seeds([9, 4, 9]), truncation=0.5)
    assert plan.n == 3 and str(plan.latents) == "seeds:9,4,9"
    for i, seed in enumerate((9, 4, 9)):
        assert torch.equal(plan.sample(model, i).code, model.sample([seed], 0.5).code)
        assert plan.sample(model, i).seed.tolist() == [seed]
    assert str(LatentPlan.of_seeds([0, 1, 2, 3, 9, 7, 8, 4])) == "seeds:0-3,9,7,8,4"
    many = LatentPlan.of_seeds(range(0, 20_000, 2))
    assert len(str(many)) < 50 and many != LatentPlan.of_seeds(range(2, 20_002, 2))


def test_interpolation_is_straight_and_ends_at_the_seeds() -> None:
    model, plan = Blobs(), DatasetPlan(latents=LatentPlan.interpolate("3:7:5"), truncation=0.5)
    w = torch.cat([plan.sample(model, i).w for i in range(5)])
    torch.testing.assert_close(w[0], model.sample([3], 0.5).w[0])
    torch.testing.assert_close(w[-1], model.sample([7], 0.5).w[0])
    torch.testing.assert_close(w.diff(dim=0), (w[-1] - w[0]).expand(4, -1) / 4)
    assert plan.sample(model, 2).seed.tolist() == [-1]


def test_latents_of_a_file_make_the_same_samples(tiny_model: Path, tmp_path: Path) -> None:
    model = LiftedGAN.load(tiny_model)
    wanted = model.sample([5, 6], 0.6)
    np.save(tmp_path / "w.npy", wanted.w.numpy())
    np.savez(tmp_path / "w.npz", w=wanted.w.numpy())
    np.savez(tmp_path / "z.npz", z=wanted.z.numpy())
    for name in ("w.npy", "w.npz", "z.npz"):
        plan = DatasetPlan(latents=LatentPlan.read(tmp_path / name), truncation=0.6)
        found = [plan.sample(model, i) for i in range(plan.n)]
        torch.testing.assert_close(torch.cat([s.code for s in found]), wanted.code)
        assert torch.cat([s.z for s in found]).eq(wanted.z if name == "z.npz" else 0).all()
    with pytest.raises(ConfigError, match="latents w have 3 numbers, expected 8, the GAN's"):
        model.lift(torch.zeros(1, 3))
    with pytest.raises(ConfigError, match="latents z have 3 numbers, expected 8, the GAN's"):
        model.to_w(torch.zeros(1, 3))


def test_latents_that_are_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "both.npz", w=np.zeros((1, 2)), z=np.zeros((1, 2)))
    (tmp_path / "text.npy").write_text("no latents")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    for name in ("both.npz", "text.npy", "objects.npy"):
        with pytest.raises(ConfigError, match=f"{name} holds no latents, expected an .npy file with w"):
            LatentPlan.read(tmp_path / name)
    with pytest.raises(ConfigError, match="nowhere.npy cannot be read: No such file"):
        LatentPlan.read(tmp_path / "nowhere.npy")
    np.save(tmp_path / "flat.npy", np.zeros(4))
    with pytest.raises(ConfigError, match=r"flat.npy: shape \(4,\) in space 'w', expected \[n, length\]"):
        LatentPlan.read(tmp_path / "flat.npy")
    np.save(tmp_path / "nan.npy", np.full((1, 4), np.nan))
    with pytest.raises(ConfigError, match="nan.npy: some of the latents are NaN or infinite"):
        LatentPlan.read(tmp_path / "nan.npy")
    with pytest.raises(ConfigError, match="interpolate is '3:4', expected SEED:SEED:STEPS such as 3:7:12"):
        LatentPlan.interpolate("3:4")
    with pytest.raises(ConfigError, match="interpolate is 3:4:1, expected two seeds .* at least 2 steps"):
        LatentPlan.interpolate("3:4:1")
    with pytest.raises(ConfigError, match=r"seeds are \[-1\], expected one or more from 0 to 2"):
        LatentPlan.of_seeds([-1])
    with pytest.raises(ConfigError, match="n is not given, expected the number of samples, or latents"):
        DatasetPlan()
    with pytest.raises(ConfigError, match="n is 3, but seeds:4,5 has 2 instances; leave n out"):
        DatasetPlan(n=3, latents=LatentPlan.of_seeds([4, 5]))


# --- datasets of plans ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("views", "lights"),
    [
        ("orbit:5,fov=40", "olat:2x2,azimuth=180"),
        ("grid:2x2,distance=15", "sphere:2"),
        ("same:3", "sweep:3,ambient=0"),
    ],
)
def test_every_plan_gives_a_file_that_verifies(tmp_path: Path, views: str, lights: str) -> None:
    path = tmp_path / "a.h5"
    plan = DatasetPlan(n=2, views=views, lights=lights, size=32)
    write_dataset(Blobs(), plan, path)
    assert verify(path).findings == ()
    for i, sample in enumerate(open_dataset(path)):
        wanted, lamps = plan.draw(i, ViewPrior(), LightPrior())
        torch.testing.assert_close(sample.cameras.cam2world(), wanted.cam2world(), atol=1e-5, rtol=0)
        assert sample.cameras.fov_deg == pytest.approx(wanted.fov_deg, abs=1e-3)
        torch.testing.assert_close(sample.lights.direction, lamps.direction)
        torch.testing.assert_close(sample.light_ambient, lamps.ambient)
    assert write_dataset(Blobs(), plan, path, resume=True).samples == 0


def test_cameras_that_crop_the_object_verify(tmp_path: Path) -> None:
    """The origin is in the frames, half of the object is not."""
    matrices = cameras("orbit:4").cam2world()
    matrices[:, :3, 3] += 0.8 * matrices[:, :3, 0] * torch.tensor([[1.0], [-1.0], [0.5], [-0.2]])
    own = ViewPlan.of(Cameras.from_cam2world(matrices))
    path = tmp_path / "a.h5"
    write_dataset(Blobs(), DatasetPlan(n=1, views=own, lights=1, size=64), path)
    mask = open_dataset(path)[0].mask
    assert mask[:, :, 0].any() or mask[:, :, -1].any()  # cropped
    assert verify(path).findings == ()
    with h5py.File(path, "r+") as h5:
        h5["depth"][0, 0] *= np.float32(0.8)
    assert any(f.dataset in ("depth", "normals") and f.sample is not None for f in verify(path).findings)


def test_both_renderers_see_the_same_through_a_wide_lens() -> None:
    model, lamps, wide = lift3d.load("demo"), lights("sphere:2"), cameras("orbit:2,fov=110")
    code = model.sample(0).code[0]
    mesh, volume = (
        model.render(code, wide, lamps, 16, r) for r in (MeshRenderer(None, 64), VolumeRenderer())
    )
    both, either = mesh.mask & volume.mask, mesh.mask | volume.mask
    assert both.sum() > 0.95 * either.sum() > 20
    assert (mesh.depth - volume.depth)[both].abs().median() < 5e-3
    assert (mesh.colors - volume.colors).abs().mean() < 1e-2


def test_the_split_is_even_and_stays(tmp_path: Path) -> None:
    plan = DatasetPlan(n=20, views=1, lights=1, size=16, split=(0.8, 0.1, 0.1), maps=(), meshes="none")
    parts = np.array([plan.part(i) for i in range(1000)])
    for n in (50, 100, 333, 1000):
        assert np.abs(np.bincount(parts[:n], minlength=3) / n - plan.split).max() <= 3 / n
    assert [DatasetPlan(n=1000, split=plan.split).part(i) for i in range(20)] == parts[:20].tolist()
    write_dataset(Blobs(), plan, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as h5:
        assert h5["split"][:].tolist() == parts[:20].tolist()
    assert verify(tmp_path / "a.h5").findings == ()
    for shares in ((0.5, 0.5), (0.8, 0.3, 0.1), (1.1, -0.1, 0.0), (float("nan"), 0.5, 0.5)):
        with pytest.raises(
            ConfigError, match="split is .*, expected the shares of training, validation and test"
        ):
            DatasetPlan(n=1, split=shares)


@pytest.mark.parametrize("meshes", ["none", "full", 100, "100"])
def test_meshes_to_store(tmp_path: Path, meshes: str | int) -> None:
    path, model = tmp_path / "a.h5", Blobs()
    write_dataset(model, DatasetPlan(n=1, views=1, lights=1, size=16, meshes=meshes), path)
    assert verify(path).findings == ()
    if meshes == "none":
        with pytest.raises(ConfigError, match="has no meshes"):
            open_dataset(path).mesh(0)
    else:
        assert len(open_dataset(path).mesh(0).faces) == (320 if meshes == "full" else 20)
    for wrong in ("some", 3, "-5"):
        with pytest.raises(
            ConfigError, match="meshes is .*, expected none, full or a number of faces, 4 or more"
        ):
            DatasetPlan(n=1, meshes=wrong)


def test_a_simplified_mesh_is_on_the_surface(tiny_model: Path) -> None:
    model = LiftedGAN.load(tiny_model)
    code = model.sample(3).code[0]
    mesh = model.mesh(code, 32)
    small = model.simplify(mesh, code, 500)
    assert 400 < len(small.faces) <= 500 and model.simplify(mesh, code, 10**6) is mesh
    value = model.surface(code[None]).sdf(torch.from_numpy(small.vertices)[None])[0]
    assert value.abs().max() < 1e-3
    again = model.evaluate_material(small, code)
    for name in ("albedo", "specular", "shininess"):
        np.testing.assert_allclose(getattr(small, name), getattr(again, name), atol=1e-3, rtol=1e-3)
