"""Shards as tasks of a local Ray cluster of two workers, one of which is killed in the middle."""

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from lifted_blobs import Blobs

import lift3d
from lift3d.cli.main import main
from lift3d.errors import BackendUnavailable, ConfigError, Lift3DError
from lift3d.export import cluster
from lift3d.export.cluster import shard_folder, write_on_ray
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5.reader import open_dataset, open_file, read_array
from lift3d.export.hdf5.schema import SPECS
from lift3d.export.hdf5.verify import verify
from lift3d.observer import SilentObserver

PLAN = DatasetPlan(n=8, views=1, lights=2, size=16, mesh_resolution=24)


@pytest.fixture(scope="module")
def ray() -> Iterator[object]:
    """A local cluster of two workers."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'lift3d[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


def slow(tiny_model: Path) -> Callable[[], object]:
    """Loads a model whose samples take long enough to be stopped in the middle."""

    def load() -> object:
        model = lift3d.load(tiny_model)
        mesh = model.mesh
        model.mesh = lambda *given: time.sleep(0.3) or mesh(*given)
        return model

    return load


def workers() -> list[int]:
    """Process ids of the cluster's workers that write a shard now: descendants of this process."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:
            continue  # it has ended

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and ours(parents[pid]))

    return [pid for pid, name in names.items() if name.startswith("ray::_write_shard") and ours(pid)]


class Interrupter(SilentObserver):
    """Ctrl-C once a sample is done."""

    def advance(self, n: int = 1, **values: float) -> None:
        raise KeyboardInterrupt


class Killer(SilentObserver):
    """Kills a worker once some samples are done."""

    def __init__(self) -> None:
        self.total, self.n, self.killed = None, 0, []

    def start(self, task: str, total: int | None) -> None:
        self.total = total

    def advance(self, n: int = 1, **values: float) -> None:
        self.n += n
        if not self.killed and self.n >= 2 and (found := workers()):
            os.kill(found[0], signal.SIGKILL)
            self.killed = found[:1]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_killed_worker_loses_nothing_and_writes_nothing_twice(
    ray: object, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = slow(tiny_model)
    out, killer = tmp_path / "faces.h5", Killer()
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.1)
    report = write_on_ray(load, PLAN, out, killer, shards=2)
    assert len(killer.killed) == 1 and (killer.total, killer.n) == (PLAN.n, PLAN.n)
    assert report.done == report.planned == PLAN.n and not report.interrupted
    assert list(tmp_path.iterdir()) == [out] and verify(out).ok
    write_dataset(load(), PLAN, tmp_path / "whole.h5")
    with open_file(out) as a, open_file(tmp_path / "whole.h5") as b:
        assert len(a["done"]) == PLAN.n and a["done"][:].all()
        for name in (name for name in SPECS if name in b and "span" not in name):
            for i in range(PLAN.n):
                np.testing.assert_array_equal(read_array(a, name, i), read_array(b, name, i), f"{name} {i}")
    again = write_on_ray(load, PLAN, out, resume=True)
    assert (again.samples, again.done) == (0, PLAN.n)
    with pytest.raises(ConfigError, match="--resume: .*faces.h5 is of another plan or run"):
        write_on_ray(load, replace(PLAN, seed=1), out, resume=True)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_what_an_earlier_run_left_is_continued(
    ray: object, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, out = partial(lift3d.load, tiny_model), tmp_path / "faces.h5"
    plan = replace(PLAN, n=3)
    shard_folder(out).mkdir()
    write_dataset(load(), replace(plan, shard="2/3"), shard_folder(out) / "2.h5")
    with pytest.raises(ConfigError, match="faces.shards exists; --resume continues it, --overwrite replaces"):
        write_on_ray(load, plan, out, shards=3)
    report = write_on_ray(load, plan, out, resume=True, shards=3)
    assert (report.samples, report.done) == (2, 3) and len(open_dataset(out)) == 3
    with h5py.File(out, "r+") as h5:
        h5.attrs["license"] = "mine"
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.1)
    report = write_on_ray(slow(tiny_model), PLAN, out, Interrupter(), overwrite=True, shards=2)
    assert report.interrupted and 0 < report.done == report.samples < PLAN.n
    with h5py.File(out) as h5:
        assert h5.attrs["license"] == "mine"  # until there is something to replace it
    assert write_on_ray(load, PLAN, out, resume=True, shards=2).samples == PLAN.n - report.done
    with h5py.File(out) as h5:
        assert h5.attrs["license"] != "mine" and h5["done"][:].all() and len(h5["done"]) == PLAN.n


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_error_of_a_task_is_the_error(ray: object, tiny_model: Path, tmp_path: Path) -> None:
    out, load = tmp_path / "faces.h5", partial(lift3d.load, tiny_model)
    shard_folder(out).mkdir()
    write_dataset(load(), replace(PLAN, seed=1, n=1, shard="1/1"), shard_folder(out) / "1.h5")
    with pytest.raises(ConfigError, match="--resume: seed is 1 in .*faces.shards/1.h5, 0 now; give the same"):
        write_on_ray(load, replace(PLAN, n=1), out, resume=True)
    assert not out.exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_command_of_the_readme(
    ray: object, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    line = re.search(r"^    lift3d (sample .*--engine ray.*?) +#", readme, re.M)[1]
    small = f"--model {tiny_model} --n 2 --shards 2 --size 16 --views 1 --lights 1 --mesh-resolution 24"
    result = CliRunner().invoke(main, shlex.split(f"{line} {small}"))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("faces.h5: 2 of 2 samples; wrote 2 images")
    assert verify(Path("faces.h5")).ok and not Path("faces.shards").exists()


def test_options_of_ray_need_ray(tmp_path: Path) -> None:
    for option in (["--shards", "3"], ["--ray-address", "a:1"], ["--num-gpus-per-task", "1"]):
        result = CliRunner().invoke(main, ["sample", "--out", str(tmp_path / "a.h5"), *option])
        assert result.exit_code == 1
        assert f"{option[0]} has no effect without --engine ray; leave it out" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_task_that_dies_every_time(
    ray: object, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = os.getpid()

    def load() -> object:
        if os.getpid() != here:
            os._exit(3)
        return lift3d.load(tiny_model)

    monkeypatch.setattr(cluster, "RETRIES", 0)
    with pytest.raises(Lift3DError, match=r"a task of Ray died 1 times \(.*--resume continues the shards"):
        write_on_ray(load, replace(PLAN, n=1), tmp_path / "a.h5")


def test_no_cluster_at_an_address(ray: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("nobody answers.\nAdvice")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(
        Lift3DError, match=r"no Ray cluster is at far:6379 \(nobody answers\); --ray-address names one"
    ):
        write_on_ray(Blobs, PLAN, tmp_path / "a.h5", address="far:6379")
    assert not list(tmp_path.iterdir())


def test_sigterm_still_interrupts(ray: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray installs a handler that ends the process without waiting for the tasks' samples."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ray, "init", lambda *_, **__: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with cluster._cluster(None):
        assert signal.getsignal(signal.SIGTERM) == before


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        BackendUnavailable, match=r"--engine ray needs a package: pip install 'lift3d\[ray\]'"
    ):
        write_on_ray(Blobs, PLAN, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_refusals(tmp_path: Path) -> None:
    path, other = tmp_path / "a.h5", tmp_path / "folder"
    path.write_bytes(b"mine")
    other.mkdir()
    for given, words in (
        ({"plan": replace(PLAN, shard="1/2")}, "shard is 1/2, but Ray writes all shards"),
        ({"shards": 0}, "shards is 0, expected at least 1"),
        ({"shards": 13}, "shard is 1/13, but there are only 8 samples"),
        ({"gpus": -1.0}, "-1.0 GPUs for a task, expected 0 or more"),
        ({}, "a.h5 exists; --resume continues it, --overwrite replaces it"),
        ({"overwrite": True, "resume": True}, "contradict each other"),
        ({"path": other, "overwrite": True}, "folder is no regular file and is not replaced"),
        ({"path": tmp_path / "no" / "a.h5"}, "no is no folder; make it, or choose another path"),
    ):
        with pytest.raises(ConfigError, match=words):
            write_on_ray(**{"load": Blobs, "plan": PLAN, "path": path} | given)
    assert path.read_bytes() == b"mine"
