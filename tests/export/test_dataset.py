"""From a model to a verified file: what a plan decides, what survives an interruption, what verify finds."""

import json
import os
import resource
import shutil
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from lifted_blobs import Blobs

from lift3d.errors import ConfigError, Lift3DError
from lift3d.export import dataset as dataset_module
from lift3d.export.contact_sheet import contact_sheet, write_contact_sheet
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5 import writer
from lift3d.export.hdf5.reader import describe, open_dataset
from lift3d.export.hdf5.sample_file import unfinished_parts
from lift3d.export.hdf5.verify import verify
from lift3d.export.plan.latents import LatentPlan
from lift3d.model import LiftedGAN
from lift3d.observer import SilentObserver
from lift3d.pictures import label
from lift3d.scene.cameras import ViewPrior
from lift3d.scene.lights import LightPrior
from lift3d.scene.mesh import Mesh
from lift3d.seeds import dataset_seed

PLAN = DatasetPlan(n=3, views=3, lights=2, size=32, gan=True, truncation=0.7)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dataset") / "faces.h5"
    write_dataset(Blobs(), PLAN, path)
    return path


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path / "copy.h5"))


def contents(path: Path, samples: range | None = None) -> dict[str, np.ndarray]:
    """All datasets (of some samples), by name."""
    found = {}
    with h5py.File(path) as h5:
        h5.visititems(
            lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return {
        n: a if samples is None else a[samples] for n, a in found.items() if not (samples and "meshes" in n)
    }


# --- what is written ----------------------------------------------------------------------------


def test_a_file_of_analytic_shapes_verifies(written: Path) -> None:
    report = verify(written)
    assert report.ok and report.samples == PLAN.n, report.findings


def test_a_file_of_a_lifted_gan_verifies(tiny_model: Path, tmp_path: Path) -> None:
    path, model = tmp_path / "tiny.h5", LiftedGAN.load(tiny_model)
    plan = DatasetPlan(n=2, views=2, lights=2, size=32, gan=True, mesh_resolution=24)
    assert write_dataset(model, plan, path).done == 2
    assert verify(path).findings == ()
    assert describe(path).license == model.config.license


def test_maps_are_the_renderers(written: Path) -> None:
    model, dataset = Blobs(), open_dataset(written)
    for i, sample in enumerate(dataset):
        cameras, lamps = PLAN.draw(i, model.config.view_prior, model.config.light_prior)
        lifted = model.sample([dataset_seed(PLAN.seed, i)], PLAN.truncation)
        wanted = model.render(lifted.code[0], cameras, lamps, PLAN.size)
        assert torch.equal(sample.mask, wanted.mask)
        inside = wanted.mask
        assert torch.equal(sample.depth, torch.where(inside, wanted.depth, 0.0))
        for name in ("specular", "shininess"):
            error = getattr(sample, name) - getattr(wanted, name)
            assert (error[inside] / getattr(wanted, name)[inside]).abs().max() < 2**-10
        torch.testing.assert_close(sample.normals[inside], wanted.normals[inside], atol=2**-11, rtol=0)
        assert ((sample.albedo / 255 - wanted.albedo)[inside].abs() < 0.51 / 255).all()
        assert ((sample.colors / 255 - wanted.colors).abs() < 1.5 / 255).all()
        projected = model.project(lifted.w[0], wanted.colors.flatten(0, 1).permute(0, 3, 1, 2) * 2 - 1)
        projected = (projected.permute(0, 2, 3, 1) / 2 + 0.5).unflatten(0, (3, 2))
        assert ((sample.colors_gan / 255 - projected).abs() < 0.51 / 255).all()
        assert torch.equal(sample.code, lifted.code[0]) and torch.equal(sample.latent_w, lifted.w[0])
        mesh, stored = model.mesh(lifted.code[0]), dataset.mesh(i)
        assert all(np.array_equal(getattr(mesh, name), array) for name, array in stored.attributes().items())


def test_the_identity_is_exact_in_stored_numbers(written: Path) -> None:
    for sample in open_dataset(written):
        maps = sample.maps
        shaded = maps.albedo[:, None] * maps.diffuse_shading[..., None] + maps.specular_shading[..., None]
        wanted = torch.round(255 * shaded.clamp(0, 1))
        inside = sample.mask[:, None].expand(sample.colors.shape[:4])
        assert torch.equal(sample.colors[inside].float(), wanted[inside])
        assert (sample.colors[~inside] == 255).all() and (maps.colors[~inside] == 1).all()
        torch.testing.assert_close(maps.colors[inside], shaded.clamp(0, 1)[inside], atol=0.51 / 255, rtol=0)
    with pytest.raises(ConfigError, match="mask, depth, normals, .* were not read: open a dataset that has"):
        _ = open_dataset(written, maps=("colors",))[0].maps


def test_cameras_and_lights_come_back(written: Path) -> None:
    model = Blobs()
    for i, sample in enumerate(open_dataset(written)):
        wanted, lights = PLAN.draw(i, model.config.view_prior, model.config.light_prior)
        torch.testing.assert_close(sample.cameras.rotation, wanted.rotation)
        torch.testing.assert_close(sample.cameras.translation, wanted.translation)
        torch.testing.assert_close(sample.lights.to_vector(), lights.to_vector())
        point = torch.tensor([0.3, -0.2, 0.4]).expand(3, 1, 3)
        camera = torch.linalg.solve(sample.cam2world, torch.tensor([0.3, -0.2, 0.4, 1.0]).expand(3, 4))[:, :3]
        image = (sample.intrinsics @ camera[..., None])[..., 0]
        torch.testing.assert_close(image[:, :2] / image[:, 2:], wanted.project(point, PLAN.size)[:, 0])


def test_heads_turn_and_lights_move_steadily() -> None:
    for i in range(20):
        cameras, lights = DatasetPlan(n=1, views=7, lights=5).draw(i, ViewPrior(), LightPrior())
        yaw, l_x = cameras.to_view()[:, 1], lights.to_vector()[:, 2]
        assert (yaw.diff() > 0).all() and (l_x.diff() > 0).all()


def test_draws_follow_the_priors() -> None:
    drawn = [DatasetPlan(n=1, views=4).draw(i, ViewPrior(), LightPrior()) for i in range(200)]
    views = torch.cat([cameras.to_view() for cameras, _ in drawn])
    lights = torch.cat([lights.to_vector() for _, lights in drawn])
    prior = ViewPrior()
    assert (views.mean(0).abs() < 0.03).all()
    torch.testing.assert_close(views.std(0), torch.tensor(prior.std), atol=0.02, rtol=0.05)
    assert abs(lights[:, 2].mean()) < 0.05 and lights[:, 2].min() < -0.9 and lights[:, 2].max() > 0.9


def test_a_sample_depends_on_seed_and_number_alone(written: Path, tmp_path: Path) -> None:
    write_dataset(Blobs(), replace(PLAN, n=5), tmp_path / "more.h5")
    more = contents(tmp_path / "more.h5", range(PLAN.n))
    for name, array in contents(written, range(PLAN.n)).items():
        np.testing.assert_array_equal(array, more[name], err_msg=name)
    write_dataset(Blobs(), replace(PLAN, seed=1), tmp_path / "other.h5")
    other = contents(tmp_path / "other.h5")
    assert not np.isin(other["seed"], more["seed"]).any()
    assert not np.isin(other["cam2world"][:, :, 0, 0], more["cam2world"][:, :, 0, 0]).any()


def test_gan_seeds_do_not_meet() -> None:
    assert [dataset_seed(0, i) for i in range(3)] == [0, 1, 2]
    starts = sorted(dataset_seed(s, 0) for s in range(1000))
    assert min(b - a for a, b in zip(starts, starts[1:], strict=False)) > 1_000_000  # instances per dataset


def test_views_in_several_calls_are_the_same(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "PIXELS_AT_ONCE", PLAN.size**2 * PLAN.lights.n)
    write_dataset(Blobs(), PLAN, tmp_path / "slow.h5")
    for name, array in contents(tmp_path / "slow.h5").items():
        np.testing.assert_array_equal(array, contents(written)[name], err_msg=name)


def test_chosen_maps(tmp_path: Path) -> None:
    path = tmp_path / "few.h5"
    plan = DatasetPlan(n=1, views=1, lights=1, size=16, maps=("mask", "depth"), meshes=False)
    write_dataset(Blobs(), plan, path)
    names = {info.name for info in describe(path).datasets}
    assert {"mask", "depth", "colors"} <= names
    assert not {"albedo", "normals", "colors_gan", "meshes/vertices"} & names
    assert verify(path).ok and plan.maps == ("depth", "mask")
    sample = open_dataset(path)[0]
    assert sample.albedo is None and sample.colors.shape == (1, 1, 16, 16, 3)


def test_report_and_observer(tmp_path: Path) -> None:
    class Counter(SilentObserver):
        total, n, finished = None, 0, False

        def start(self, task: str, total: int | None) -> None:
            self.total = total

        def advance(self, n: int = 1, **values: float) -> None:
            self.n += n

        def finish(self) -> None:
            self.finished = True

    observer = Counter()
    report = write_dataset(Blobs(), PLAN, tmp_path / "x.h5", observer)
    assert (observer.total, observer.n, observer.finished) == (3, 3, True)
    assert (report.samples, report.done, report.planned, report.images) == (3, 3, 3, 18)
    assert not report.interrupted and report.images_per_second == report.images / report.seconds
    assert 0 < report.phases.render + report.phases.project <= report.seconds  # one sample at a time
    assert 0 < report.phases.wait <= report.seconds
    assert report.phases.deflate > 0 and report.phases.commit > 0


def test_the_file_says_how_it_was_made(written: Path) -> None:
    info = describe(written)
    assert info.config["plan"] == json.loads(json.dumps(PLAN.to_json()))
    assert info.config["model"] == {"size": 16}
    assert info.generator.startswith("lift3d ") and info.created.endswith("+00:00")


# --- interruptions ------------------------------------------------------------------------------


class Stopping(Blobs):
    """Raises in the render of the sample after ``left`` more."""

    def __init__(self, left: int, error: Callable[[], BaseException]) -> None:
        super().__init__()
        self.left, self.error = left, error

    def render(self, *arguments, **named):
        if self.left == 0:
            raise self.error()
        self.left -= 1
        return super().render(*arguments, **named)


def test_ctrl_c_then_resume_gives_the_same_file(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "stopped.h5"
    report = write_dataset(Stopping(2, KeyboardInterrupt), PLAN, path)
    assert report.interrupted and report.done == 2 and verify(path).ok and len(open_dataset(path)) == 2
    report = write_dataset(Blobs(), PLAN, path, resume=True)
    assert (report.samples, report.done, report.interrupted) == (1, 3, False)
    for name, array in contents(path).items():
        np.testing.assert_array_equal(array, contents(written)[name], err_msg=name)
    assert write_dataset(Blobs(), PLAN, path, resume=True).samples == 0


def test_a_second_ctrl_c_loses_nothing_either(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, join = tmp_path / "twice.h5", writer.DatasetWriter._join
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in background

    def interrupted(self: writer.DatasetWriter) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        join(self)

    monkeypatch.setattr(writer.DatasetWriter, "_join", interrupted)
    try:
        report = write_dataset(Stopping(2, KeyboardInterrupt), PLAN, path)
        assert report.interrupted and report.done == 2 and verify(path).ok
        assert write_dataset(Blobs(), PLAN, path, resume=True).interrupted  # it came, if late
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(open_dataset(path)) == 3


def test_samples_made_at_a_time_are_those_made_one_by_one(written: Path, tmp_path: Path) -> None:
    threads = []

    class Watched(Blobs):
        def mesh(self, *arguments):
            threads.append((threading.current_thread().name, torch.get_num_threads()))
            return super().mesh(*arguments)

    torch.set_num_threads(2)
    path = tmp_path / "two.h5"
    report = write_dataset(Watched(), PLAN, path)
    assert report.done == 3 and torch.get_num_threads() == 2
    assert len({name for name, _ in threads}) == 2 and {n for _, n in threads} == {1}
    for name, array in contents(path).items():
        np.testing.assert_array_equal(array, contents(written)[name], err_msg=name)


def test_an_error_keeps_the_samples_before_it(tmp_path: Path) -> None:
    path = tmp_path / "failed.h5"
    with pytest.raises(ZeroDivisionError):
        write_dataset(Stopping(1, ZeroDivisionError), PLAN, path)
    assert len(open_dataset(path)) == 1 and verify(path).ok


def test_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "full.h5"
    write_dataset(Stopping(0, KeyboardInterrupt), PLAN, path)
    room = path.stat().st_size + 100_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(
            Lift3DError, match=r"^cannot write .*full.h5: File too large; 0 of 3 samples are kept"
        ):
            write_dataset(Blobs(), PLAN, path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert verify(path).ok
    assert write_dataset(Blobs(), PLAN, path, resume=True).done == 3 and verify(path).ok


def test_resume_starts_where_there_is_nothing(tmp_path: Path) -> None:
    assert write_dataset(Blobs(), PLAN, tmp_path / "new.h5", resume=True).samples == 3


def test_overwrite_replaces(copy: Path) -> None:
    report = write_dataset(Blobs(), replace(PLAN, n=1, gan=False), copy, overwrite=True)
    assert report.done == report.planned == 1 == len(open_dataset(copy))


def test_starts_at_the_same_time(written: Path, tmp_path: Path) -> None:
    """One run writes the file; each of the others that meets it ends with one sentence."""
    path, n = tmp_path / "race.h5", 4

    def start(overwrite: bool) -> str:
        try:
            return str(write_dataset(Blobs(), PLAN, path, overwrite=overwrite).done)
        except Lift3DError as error:
            return str(error)

    for overwrite in (False, True):
        with ThreadPoolExecutor(n) as pool:
            ends = list(pool.map(start, [overwrite] * n))
        assert "3" in ends
        for sentence in set(ends) - {"3"}:
            known = (" exists; ", " is being written by ", " was removed or replaced")
            assert any(words in sentence for words in known), sentence
        assert overwrite or ends.count("3") == 1
        assert verify(path).ok and len(open_dataset(path)) == 3
        for name, array in contents(path).items():
            np.testing.assert_array_equal(array, contents(written)[name], err_msg=name)
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_device_is_not_replaced(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "link.h5").symlink_to("/dev/null")
    with pytest.raises(
        ConfigError, match="link.h5 (is no regular file and is not replaced|exists; --resume)"
    ):
        write_dataset(Blobs(), PLAN, tmp_path / "link.h5", overwrite=overwrite)
    assert (tmp_path / "link.h5").is_char_device()


# --- refusals -----------------------------------------------------------------------------------


def test_existing_files_need_a_decision(copy: Path) -> None:
    before = copy.read_bytes()
    with pytest.raises(ConfigError, match=r"copy.h5 exists; --resume continues it, --overwrite replaces it"):
        write_dataset(Blobs(), PLAN, copy)
    with pytest.raises(ConfigError, match="--overwrite and --resume contradict each other"):
        write_dataset(Blobs(), PLAN, copy, overwrite=True, resume=True)
    assert copy.read_bytes() == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"n": 4}, "n is 3 in .*, 4 now"),
        ({"views": 2}, "views is '3' in .*, '2' now"),
        ({"views": "3,fov=20"}, "views is '3' in .*, '3,fov=20' now"),
        ({"lights": "sweep:2"}, "lights is '2' in .*, 'sweep:2' now"),
        ({"latents": LatentPlan.of_seeds([4, 5, 6])}, "latents is 'random' in .*, 'seeds:4-6' now"),
        ({"seed": 7}, "seed is 0 in .*, 7 now"),
        ({"gan": False}, "gan is True in .*, False now"),
        ({"truncation": 0.5}, "truncation is 0.7 in .*, 0.5 now"),
        ({"maps": ("mask",)}, "maps is .* in .*, .'mask'. now"),
        ({"model": "cats"}, "model is '' in .*, 'cats' now"),
    ],
)
def test_resume_names_what_differs(copy: Path, setting: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=f"--resume: {words}; give the same, or --overwrite"):
        write_dataset(Blobs(), replace(PLAN, **setting), copy, resume=True)


def test_resume_knows_another_model(copy: Path) -> None:
    with pytest.raises(ConfigError, match="was written with another model"):
        write_dataset(Blobs(weights=0.3), PLAN, copy, resume=True)


def test_resume_knows_the_model_of_parts(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run left parts beside a file without samples: they are not mixed with another model's."""
    path = tmp_path / "killed.h5"
    monkeypatch.setattr(writer, "PART_BYTES", 1)
    monkeypatch.setattr(writer.DatasetWriter, "_join", lambda self: None)
    monkeypatch.setattr(writer.shutil, "rmtree", lambda *_, **__: None)
    write_dataset(Stopping(2, KeyboardInterrupt), PLAN, path)
    monkeypatch.undo()
    assert len(open_dataset(path)) == 0 and unfinished_parts(path) == 2
    with pytest.raises(ConfigError, match="was written with another model"):
        write_dataset(Blobs(weights=0.3), PLAN, path, resume=True)
    assert unfinished_parts(path) == 2
    report = write_dataset(Blobs(), PLAN, path, resume=True)
    assert (report.samples, report.done, unfinished_parts(path)) == (1, 3, 0)
    for name, array in contents(path).items():
        np.testing.assert_array_equal(array, contents(written)[name], err_msg=name)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"n": 0}, "n is 0, expected at least 1"),
        ({"views": -2}, "views is '-2', expected a number, 1 to 10,000"),
        ({"lights": 0}, "lights is '0', expected a number, 1 to 10,000"),
        ({"size": 100}, "size is 100, expected one of 16, 32, 64, 128, 256, 512, 1024"),
        ({"seed": -1}, "seed is -1, expected a number from 0 to 4,294,967,295"),
        ({"truncation": 1.5}, "truncation is 1.5, expected a number from 0 to 1"),
        ({"renderer": "crayon"}, "renderer is 'crayon', expected mesh or neus"),
        ({"mesh_resolution": 5}, "mesh_resolution is 5, expected a number from 16 to 1,024"),
        ({"maps": "normals"}, "maps is 'normals', expected a sequence of names: maps=.'normals',."),
        ({"maps": ("depth", "fog")}, "maps: fog unknown, expected some of albedo, specular"),
    ],
)
def test_impossible_plans(setting: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(PLAN, **setting)


def test_a_mesh_without_material_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32))
    monkeypatch.setattr(Blobs, "mesh", lambda *_: bare)
    with pytest.raises(Lift3DError, match="the model's mesh lacks meshes/normals, meshes/albedo"):
        write_dataset(Blobs(), PLAN, tmp_path / "bare.h5")


# --- verify -------------------------------------------------------------------------------------


def damage(path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> set[str]:
    """Problems of sample 1 besides the checksum, after a change to its values in one dataset."""
    with h5py.File(path, "r+") as h5:
        h5[name][1] = change(h5[name][1])
    findings = verify(path).findings
    assert all(f.sample == 1 for f in findings)
    assert any(f.dataset == "checksum" and "differs from the values stored" in f.problem for f in findings)
    return {f"{f.dataset} {f.problem}" for f in findings if f.dataset != "checksum"}


def flip(bit: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.reshape(-1).view(np.uint8)[0] ^= 1 << bit
        return array

    return change


@pytest.mark.parametrize("name", ["gan_image", "latent_z", "code", "colors_gan"])
def test_verify_finds_single_bits(copy: Path, name: str) -> None:
    assert damage(copy, name, flip(2)) == set()


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("depth", lambda a: np.where(a > 0, np.nan, a), "depth has values that are NaN or infinite"),
        ("albedo", lambda a: a + (a == 0), "albedo is not 0 outside the mask"),
        ("depth", lambda a: a * 0, "depth is not positive inside the mask"),
        ("mask", lambda a: a * 3, "mask has the value 3, expected 0 or 1"),
        ("normals", lambda a: a * 0.98, "normals have lengths up to 0.02"),
        (
            "colors",
            lambda a: np.where(a > 100, a - 1, a),
            "colors are 1.5 code values off albedo and shading",
        ),
        ("cam2world", lambda a: a * np.float32(1.01), "cam2world is not a rotation"),
        ("light_dir", lambda a: a * np.float32(1.01), "light_dir is not of unit length"),
        ("depth", lambda a: a * np.float32(1.02), "away from view"),
        ("cam2world", lambda a: a[::-1].copy(), "away from view"),
        ("depth", lambda a: a * np.float32(0.8), "depth reaches 2.5 from the origin by its camera"),
    ],
)
def test_verify_finds(copy: Path, name: str, change: Callable, problem: str) -> None:
    problems = damage(copy, name, change)
    assert any(problem in found for found in problems), problems


def test_verify_finds_bad_meshes(copy: Path) -> None:
    with h5py.File(copy, "r+") as h5:
        start, _ = h5["meshes/face_span"][1]
        h5["meshes/faces"][start] = 0, 1, 10**6
        start, _ = h5["meshes/vertex_span"][1]
        h5["meshes/normals"][start] = 0, 0, 2
    problems = {f"{f.dataset} {f.problem}" for f in verify(copy).findings}
    assert any("meshes/faces name vertices 0..1000000, the mesh has 162" in p for p in problems)
    assert any("meshes/normals are not of unit length" in p for p in problems)


# --- contact sheet ------------------------------------------------------------------------------


def test_contact_sheet(written: Path, tmp_path: Path) -> None:
    sheet = contact_sheet(written, n=2)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert sheet.shape[0] > 2 * 32 and sheet.shape[1] > 8 * 32
    sample = open_dataset(written)[0]
    front = int(sample.cameras.rotation[:, 2, 2].argmax())

    def shows(picture: np.ndarray) -> bool:
        windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], picture.shape[:2])
        hits = np.argwhere((windows[..., ::5, ::5] == picture[::5, ::5, 0]).all((-1, -2)))
        h, w = picture.shape[:2]
        return any(np.array_equal(sheet[y : y + h, x : x + w], picture) for y, x in hits)

    for view in range(3):
        assert shows(sample.colors[view, 1].numpy())
    assert shows(sample.colors[front, 0].numpy()) and shows(sample.gan_image.numpy())
    assert shows(np.where(sample.mask[front, ..., None], sample.albedo[front], np.uint8(255)))
    angles = sample.cameras.to_view()[:, :2].rad2deg().round().int().tolist()
    assert shows(
        label("\n".join(f"{i}: yaw {yaw}°, pitch {pitch}°" for i, (pitch, yaw) in enumerate(angles)))
    )
    whole = len(open_dataset(written))
    assert shows(label(f"shown: 2 of {whole} done samples, 3 of 3 views, 2 of 2 lights"))
    write_contact_sheet(written, tmp_path / "sheet.png", n=2)
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"


def test_contact_sheet_of_nothing(tmp_path: Path) -> None:
    write_dataset(Stopping(0, KeyboardInterrupt), PLAN, tmp_path / "empty.h5")
    with pytest.raises(ConfigError, match="has no finished samples; resume"):
        contact_sheet(tmp_path / "empty.h5")
    with pytest.raises(ConfigError, match="contact sheet of 0 instances, expected at least 1"):
        contact_sheet(tmp_path / "empty.h5", n=0)
