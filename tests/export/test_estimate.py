"""Bytes and time of a dataset before it is written, against the file that is written then."""

import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from click.testing import CliRunner
from lifted_blobs import Blobs

from lift3d.cli.main import main
from lift3d.errors import ConfigError
from lift3d.export import estimate as module
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.estimate import estimate, require_room
from lift3d.export.hdf5.reader import open_dataset
from lift3d.export.plan.latents import LatentPlan

Usage = namedtuple("Usage", "total used free")


def on_a_disk_of(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free, 0, free))


@pytest.mark.parametrize(
    "plan",
    [
        DatasetPlan(n=40, views=4, lights=3, size=32),
        DatasetPlan(n=30, views=2, lights="olat:4x4", size=16, meshes="none", maps=("mask",)),
        DatasetPlan(
            views=1, lights=1, size=64, latents=LatentPlan.of_seeds(range(25)), split=(0.8, 0.1, 0.1)
        ),
    ],
)
def test_bytes_are_those_of_the_file(plan: DatasetPlan, tmp_path: Path) -> None:
    need = estimate(Blobs(), plan, tmp_path / "a.h5")
    assert (need.samples, need.images) == (plan.n, plan.n * plan.views.n * plan.lights.n)
    assert need.seconds == plan.n * need.sample_seconds > 0 and need.free > 0
    assert not list(tmp_path.iterdir())
    write_dataset(Blobs(), plan, tmp_path / "a.h5")
    assert need.nbytes == pytest.approx((tmp_path / "a.h5").stat().st_size, rel=0.1)


def test_bytes_of_the_samples_of_the_trial_are_exact(tmp_path: Path) -> None:
    plan = DatasetPlan(n=3, views=4, lights=3, size=32)
    write_dataset(Blobs(), plan, tmp_path / "a.h5")
    size = (tmp_path / "a.h5").stat().st_size
    assert estimate(Blobs(), plan, tmp_path / "b.h5").nbytes == pytest.approx(size, abs=100)


def test_of_a_file_that_is_resumed_the_rest_counts(tmp_path: Path) -> None:
    class Stopping(Blobs):
        left = 6

        def render(self, *arguments, **named):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().render(*arguments, **named)

    path, plan = tmp_path / "a.h5", DatasetPlan(n=10, views=4, lights=3, size=32)
    write_dataset(Stopping(), plan, path)
    need, before = estimate(Blobs(), plan, path, resume=True), path.stat().st_size
    assert need.samples == 4
    write_dataset(Blobs(), plan, path, resume=True)
    assert need.nbytes == pytest.approx(path.stat().st_size - before, rel=0.15)


def test_what_cannot_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_SECONDS", 1e9)  # on a busy machine, too, the file has no parts
    plan = DatasetPlan(n=50, views=4, lights=3, size=32)
    need = estimate(Blobs(), plan, tmp_path / "a.h5").nbytes
    on_a_disk_of(int(0.9 * need), monkeypatch)
    with pytest.raises(
        ConfigError, match=r"a.h5 would take about 0.\d\d GB, 0.\d\d GB are free .* --force starts"
    ):
        require_room(Blobs(), plan, tmp_path / "a.h5")
    on_a_disk_of(int(1.1 * need), monkeypatch)
    require_room(Blobs(), plan, tmp_path / "a.h5")
    on_a_disk_of(10**12, monkeypatch)
    monkeypatch.setattr(module, "estimate", None)  # nothing is measured on a large disk
    require_room(Blobs(), plan, tmp_path / "a.h5")
    with pytest.raises(ConfigError, match="no is no folder; make it, or choose another path"):
        require_room(Blobs(), plan, tmp_path / "no" / "a.h5")


def test_a_dry_run_writes_nothing_and_force_starts(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [
        "--views",
        "2",
        "--lights",
        "2",
        "--size",
        "16",
        "--mesh-resolution",
        "24",
        "--model",
        str(tiny_model),
    ]

    def sample(*arguments: str):
        return CliRunner().invoke(main, ["sample", "--out", "a.h5", "--n", "2", *small, *arguments])

    result = sample("--dry-run")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith('plan: {"n": 2, ')
    assert lines[1] == "a.h5: 2 samples, 8 images"
    assert " MB of " in lines[2] and lines[2].endswith(" GB while it is written")
    assert re.fullmatch(r"\d\.\d\d GB of memory at most", lines[3])
    assert lines[4].startswith("0 h 0 min ") and " s a sample as measured here" in lines[4]
    assert not list(tmp_path.iterdir())
    on_a_disk_of(1000, monkeypatch)
    refused = sample()
    assert (refused.exit_code, refused.stderr.count("\n")) == (
        1,
        1,
    ) and "--force starts all the same" in refused.stderr
    assert not list(tmp_path.iterdir())
    assert sample("--force").exit_code == 0 and len(open_dataset("a.h5")) == 2
