"""``verify`` finds what is planted: damage by checksums; deceit, with right checksums, by geometry."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from lifted_blobs import Blobs
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lift3d.cli.main import main
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5.file import dataset_names, read_array
from lift3d.export.hdf5.schema import ATTRIBUTES, SPECS, UNCHECKED, checksum
from lift3d.export.hdf5.surface_checks import rotation_between
from lift3d.export.hdf5.verify import verify
from lift3d.scene.cameras import Cameras

PLANS = {
    "full": DatasetPlan(n=3, views=3, lights=2, size=64, gan=True, truncation=0.7, split=(0.4, 0.3, 0.3)),
    "no meshes": DatasetPlan(n=3, views=3, lights=2, size=64, truncation=0.7, meshes=False),
    "one view": DatasetPlan(n=3, views=1, lights=2, size=64, truncation=0.7),
    "depth alone": DatasetPlan(
        n=3, views=3, lights=1, size=64, truncation=0.7, maps=("depth",), meshes=False
    ),
}
Change = Callable[[NDArray], NDArray]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("datasets")
    for name, plan in PLANS.items():
        write_dataset(Blobs(), plan, folder / f"{name}.h5")
    return {name: folder / f"{name}.h5" for name in PLANS}


@pytest.fixture
def copy(written: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda plan: Path(shutil.copy(written[plan], tmp_path / "copy.h5"))


def rows(h5: h5py.File, name: str) -> object:
    """Where sample 1 stands in a dataset."""
    if not SPECS[name].ragged:
        return 1
    start, count = h5[f"meshes/{'face' if SPECS[name].shape[0] == 'faces' else 'vertex'}_span"][1]
    return slice(start, start + count)


def tamper(path: Path, changes: dict[str, Change]) -> set[str]:
    """Problems of sample 1 after changes to its values, with a right checksum."""
    with h5py.File(path, "r+") as h5:
        for name, change in changes.items():
            where = rows(h5, name)
            h5[name][where] = np.asarray(change(h5[name][where]), h5[name].dtype)
        names = set(dataset_names(h5)) - set(UNCHECKED)
        h5["checksum"][1] = checksum({name: read_array(h5, name, 1) for name in names})
    report = verify(path)
    assert all(f.sample == 1 and f.dataset != "checksum" for f in report.findings), report.findings
    assert verify(path, quick=True).ok  # the checksums are right
    return {f"{f.dataset} {f.problem}" for f in report.findings}


@pytest.mark.parametrize("plan", PLANS)
def test_sound_files_are_sound(written: dict[str, Path], plan: str) -> None:
    report = verify(written[plan])
    assert report.ok and report.samples == 3, report.findings


@pytest.mark.parametrize("renderer", ["mesh", "neus"])
@pytest.mark.parametrize("size", [16, 64])
def test_sound_files_of_every_renderer(renderer: str, size: int, tmp_path: Path) -> None:
    """Of the bundled model, whose heads have noses and ears."""
    from lift3d.model import load

    plan = DatasetPlan(n=1, views=3, lights=2, size=size, renderer=renderer, mesh_resolution=64)
    write_dataset(load("demo"), plan, tmp_path / "demo.h5")
    report = verify(tmp_path / "demo.h5")
    assert report.ok and report.samples == 1, report.findings


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SPECS if name != "done"])
def test_a_flipped_byte_in_any_dataset(copy: Callable[[str], Path], name: str) -> None:
    """Even where no promise is broken: ``quick`` reads checksums, and finds it."""
    path = copy("full")
    rng = np.random.default_rng(list(SPECS).index(name))
    with h5py.File(path, "r+") as h5:
        if name not in h5:
            pytest.skip(f"the plan stores no {name}")
        where = rows(h5, name)
        values = np.array(h5[name][where])
        data = values.reshape(-1).view(np.uint8)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        h5[name][where] = values
    report = verify(path, quick=True)
    assert [f.sample for f in report.findings] == [1], report.findings
    assert not verify(path).ok


def test_an_unwritten_sample_that_says_it_is_done(tmp_path: Path) -> None:
    class Stopping(Blobs):
        def render(self, *arguments, **named):
            raise KeyboardInterrupt

    write_dataset(Stopping(), PLANS["full"], tmp_path / "empty.h5")
    assert verify(tmp_path / "empty.h5").ok
    with h5py.File(tmp_path / "empty.h5", "r+") as h5:
        h5["done"][1] = True
    report = verify(tmp_path / "empty.h5")
    assert report.samples == 1 and {f.sample for f in report.findings} == {1}
    problems = {f.dataset: f.problem for f in report.findings}
    assert "differs from the values stored" in problems["checksum"]
    assert "is not a rotation" in problems["cam2world"] and "is not a pinhole" in problems["cam_K"]


@pytest.mark.parametrize("name", ["colors", "depth", "meshes/faces", "checksum"])
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_missing_attributes_and_wrong_units(copy: Callable[[str], Path], name: str, attribute: str) -> None:
    path = copy("full")
    with h5py.File(path, "r+") as h5:
        del h5[name].attrs[attribute]
        h5["cam2world"].attrs["units"] = "millimeter"
    assert {(f.sample, f.dataset, f.problem.partition(",")[0]) for f in verify(path).findings} == {
        (None, name, f"attribute {attribute} is None"),
        (None, "cam2world", "attribute units is 'millimeter'"),
    }


@pytest.mark.parametrize("value", [None, (1.0, 2.0, 0.0), "white", 1.0])
def test_backgrounds_that_are_none(copy: Callable[[str], Path], value: object) -> None:
    path = copy("depth alone")
    with h5py.File(path, "r+") as h5:
        del h5["colors"].attrs["background"]
        if value is not None:
            h5["colors"].attrs["background"] = value
    (finding,) = verify(path).findings
    assert finding.problem.endswith("expected three numbers of 0..1") and finding.dataset == "colors"


# --- deceit -------------------------------------------------------------------------------------


def turned(degrees: float) -> Change:
    """Vectors turned about some axis, not along with the mask's zeros."""
    axis = np.array([0.6, -0.48, 0.64])
    matrix = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
    return lambda vectors: vectors.astype(np.float64) @ matrix.T


def times(factor: float) -> Change:
    return lambda array: array * np.asarray(factor, np.float64)


def farther(pose: NDArray) -> NDArray:
    pose[:, :3, 3] *= 1000
    return pose


def rolled(pose: NDArray) -> NDArray:
    """The first camera turned about its axis."""
    pose[0, :3, :2] = pose[0, :3, :2] @ [[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]]
    return pose


def swapped(array: NDArray) -> NDArray:
    return np.concatenate((array[1::-1], array[2:]))


DECEIT = {
    "a swapped pair of cameras": ({"cam2world": swapped}, r"depth of view \d|normals of view \d"),
    "a swapped pair of lights": ({"light_dir": swapped}, "diffuse_shading is up to .* off what light_dir"),
    "swapped light coefficients": ({"light_ambient": swapped}, "diffuse_shading is up to"),
    "depth off by 1 %": ({"depth": times(1.01)}, "depth of "),
    "depth off by -1 %": ({"depth": times(0.99)}, "depth of "),
    "normals turned by 3 degrees": (
        {"normals": turned(3)},
        r"normals of view \d are turned by [23]\.\d degrees",
    ),
    "depth in millimeters": ({"depth": times(1000)}, "depth reaches .* expected at most 1 unit"),
    "camera centers in millimeters": ({"cam2world": farther}, "depth reaches .* expected at most 1 unit"),
    "intrinsics for a side of 1": (
        {"cam_K": lambda k: k / [[64], [64], [1]]},
        "cam_K is not a pinhole camera of 64 x 64 pixels",
    ),
    "a view in degrees": ({"gan_view": lambda a: a + 45}, "gan_view has the angle 45, expected radians"),
    "a camera that rolled": ({"cam2world": rolled}, "normals of view 0 are turned by|miss the"),
    "a seed of more bits": ({"seed": lambda a: a + 2**32}, "seed is .* expected 0 to 2"),
}
MESH_DECEIT = {
    "a mesh beside the mask": (
        {"meshes/vertices": lambda a: a - np.array([0.1, 0, 0])},
        "meshes/vertices miss the mask of view",
    ),
    "a mesh behind the mask": (
        {"meshes/vertices": lambda a: a - [0, 0, 0.15]},
        "is .* away from the mesh|miss the mask",
    ),
    "a larger mesh": (
        {"meshes/vertices": times(1.1)},
        "meshes/vertices miss the mask of view|away from the mesh",
    ),
    "a mesh in millimeters": (
        {"meshes/vertices": times(1000)},
        "meshes/vertices reach .* expected coordinates",
    ),
    "no mesh": ({"meshes/faces": times(0)}, "meshes/vertices miss the mask of view 0 by 100 %"),
    "turned mesh normals": ({"meshes/normals": turned(3)}, r"meshes/normals are turned by [23]\.\d degrees"),
    "faces that name no vertex": (
        {"meshes/faces": lambda a: a + 10**6},
        "meshes/faces name vertices 1000000",
    ),
}
CASES = [(plan, case) for plan in ("full", "no meshes") for case in DECEIT]
CASES += [
    ("one view", case) for case in ("depth off by 1 %", "depth off by -1 %", "normals turned by 3 degrees")
]
CASES += [
    ("depth alone", case) for case in ("a swapped pair of cameras", "depth off by 1 %", "depth off by -1 %")
]


@pytest.mark.parametrize(("plan", "case"), CASES, ids=lambda word: word)
def test_deceit_is_found_by_geometry(copy: Callable[[str], Path], plan: str, case: str) -> None:
    changes, words = DECEIT[case]
    problems = tamper(copy(plan), changes)
    assert any(re.search(words, problem) for problem in problems), problems


@pytest.mark.parametrize("case", MESH_DECEIT)
@pytest.mark.parametrize("plan", ["full", "one view"])
def test_meshes_that_do_not_fit(copy: Callable[[str], Path], plan: str, case: str) -> None:
    changes, words = MESH_DECEIT[case]
    problems = tamper(copy(plan), changes)
    assert any(re.search(words, problem) for problem in problems), problems


def test_the_mesh_of_another_sample(copy: Callable[[str], Path]) -> None:
    path = copy("full")
    with h5py.File(path) as h5:
        other = read_array(h5, "meshes/vertices", 2)
    assert tamper(path, {"meshes/vertices": lambda _: other})


def test_normals_of_shading_alone_reveal_lights(copy: Callable[[str], Path]) -> None:
    """Specular shading knows the lights by itself."""
    problems = tamper(copy("no meshes"), {"specular_shading": lambda a: a[:, ::-1]})
    assert any("specular_shading is up to" in problem for problem in problems), problems


def test_cameras_all_around_and_near(tmp_path: Path) -> None:
    """Views from behind and frames that cut the object off are no faults; depth off by 1 % still is one."""

    class Around(Blobs):
        def render(self, code, cameras, lights, size, renderer=None):
            views = torch.zeros(len(cameras), 6)
            views[:, 1] = torch.linspace(0, 5.5, len(cameras))
            views[:, 5] = 3.0  # nearer
            self.seen = Cameras.from_view(views, cameras.fov_deg)
            return super().render(code, self.seen, lights, size, renderer)

    path, model = tmp_path / "around.h5", Around()
    plan = replace(PLANS["full"], n=2, views=8, size=32)
    write_dataset(model, plan, path)
    poses = model.seen.cam2world().numpy()
    with h5py.File(path, "r+") as h5:
        h5["cam2world"][0] = poses
        h5["checksum"][0] = checksum(
            {n: read_array(h5, n, 0) for n in set(dataset_names(h5)) - set(UNCHECKED)}
        )
        h5["done"][1] = True
        mask = h5["mask"][0]
        assert mask[:, 0].any() or mask[:, :, 0].any()  # cut off
    assert tamper(path, {"cam2world": lambda _: poses}) == set()
    problems = tamper(path, {"depth": times(1.01)})
    assert any("depth of" in problem for problem in problems), problems


def test_rotation_between_is_the_rotation() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4000, 3))
    a /= np.linalg.norm(a, axis=-1, keepdims=True)
    noisy = a + rng.normal(size=a.shape) * 0.05
    noisy /= np.linalg.norm(noisy, axis=-1, keepdims=True)
    assert rotation_between(a, a) < 1e-5 and rotation_between(a, noisy) == 0
    assert rotation_between(a, turned(3)(a)) == pytest.approx(3, abs=1e-3)
    assert 2.4 < rotation_between(a, turned(3)(noisy)) < 3.1
    assert rotation_between(a, -a) == 90 and rotation_between(a[:5], a[:5]) == 0


def test_quick_reads_checksums_only(copy: Callable[[str], Path]) -> None:
    path = copy("full")
    assert tamper(path, {"depth": times(1.01)})
    quick = CliRunner().invoke(main, ["verify", "--quick", str(path)])
    assert (quick.exit_code, quick.stdout) == (0, f"{path}: 3 samples checked, 0 problems\n")
    full = CliRunner().invoke(main, ["verify", str(path)])
    assert full.exit_code == 1 and "depth, sample 1: of view 0 is " in full.stdout
