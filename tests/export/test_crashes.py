"""No crash costs more than the open part: runs that are killed, lose power, or fill the disk."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hdf5_samples import ATTRIBUTES, SPECS, WHITE, arrays, check, dimensions, fill, kept, make

from lift3d.errors import ConfigError, Lift3DError
from lift3d.export.hdf5 import writer
from lift3d.export.hdf5.sample_file import Form, parts_folder
from lift3d.export.hdf5.writer import DatasetWriter, create

TESTS = Path(__file__).parents[1]
CRASHES = int(os.environ.get("LIFT3D_TEST_CRASHES", 8))  # torn writes of each kind; 300 were tried once
PART_BYTES = 600_000  # one to three samples


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PART_BYTES", PART_BYTES)


def same(a: Path, b: Path) -> None:
    """Both files have the same datasets with the same values."""
    with h5py.File(a) as one, h5py.File(b) as other:
        for spec in SPECS:
            np.testing.assert_array_equal(one[spec.name][:], other[spec.name][:], err_msg=spec.name)


@pytest.mark.parametrize("power", ["kill", "power"])
def test_a_run_that_ends_at_any_step(power: str, tmp_path: Path) -> None:
    """Every file is whole, nothing that was safe is lost, and the next run writes the rest, the same."""
    n = 4
    program = [sys.executable, TESTS / "hdf5_crashes.py", tmp_path, n, 1, power, CRASHES]
    done = subprocess.run([*map(str, program)], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    lengths, seen, in_parts = dimensions(n), set(), 0
    for folder in sorted(path for path in tmp_path.iterdir() if path.name.isdigit()):
        path, told = folder / "faces.h5", Path(f"{folder}.safe").read_bytes()
        safe = told[-1] if told else 0
        if not path.exists():
            assert not safe
            continue
        found = kept(path, lengths)
        assert found == set(range(len(found))) and len(found) >= safe, (folder.name, found, safe)
        in_parts += len(found) > check(path, lengths)
        seen.add(len(found))
        fill(path, lengths)
        assert check(path, lengths) == n
        same(path, tmp_path / "whole" / "faces.h5")
        assert not parts_folder(path).exists()
    assert seen >= {0, n} and len(seen) >= 4 and in_parts >= 4  # crashes hit all phases of the run


def test_kill_minus_nine_and_resume(tmp_path: Path, small_parts: None) -> None:
    """Run after run is killed a few samples on; each continues what the last one left."""
    path, n, seen = tmp_path / "killed.h5", 60, [0]
    lengths = make(path, n)
    program = [sys.executable, str(TESTS / "hdf5_samples.py"), str(path), str(n), str(PART_BYTES)]
    rng = np.random.default_rng(0)
    for _ in range(4):
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as child:
            for _ in range(int(rng.integers(3, 10))):
                safe = int(child.stdout.readline())
            time.sleep(rng.uniform(0, 0.05))
            child.send_signal(signal.SIGKILL)
        found = kept(path, lengths)
        assert found == set(range(len(found))) and len(found) >= max(safe, seen[-1])
        assert check(path, lengths) == 0
        seen.append(len(found))
    assert seen[-1] >= 8
    fill(path, lengths)
    assert check(path, lengths) == n


@pytest.mark.parametrize("room", [20_000, 120_000, 700_000, 2_000_000])
def test_a_full_disk_keeps_the_parts_and_continues(tmp_path: Path, small_parts: None, room: int) -> None:
    """RLIMIT_FSIZE gives EFBIG where a full disk gives ENOSPC: for a part, or for the file of all of them."""
    path, n = tmp_path / "full.h5", 12
    lengths = make(path, n)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(Lift3DError, match=r"cannot write .*: File too large; \d+ of 12 samples are kept"):
            fill(path, lengths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(kept(path, lengths)) == (n if room > 1_000_000 else 0) and check(path, lengths) == 0
    assert not [*tmp_path.rglob("*.partial")]
    fill(path, lengths)
    assert check(path, lengths) == n and [*tmp_path.iterdir()] == [path]


def test_a_full_disk_while_creating_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(Lift3DError, match=r"cannot write .*new.h5: "):
            make(tmp_path / "new.h5", 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_samples_in_any_order(tmp_path: Path, small_parts: None) -> None:
    path = tmp_path / "order.h5"
    lengths = make(path, 5)
    with DatasetWriter(path) as file:
        for i in (3, 0, 4):
            file.write(i, arrays(i, lengths))
    assert check(path, lengths) == 3
    fill(path, lengths)
    assert check(path, lengths) == 5


def test_a_part_closes_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PART_SECONDS", 0.0)
    path = tmp_path / "slow.h5"
    lengths = make(path, 3)
    with DatasetWriter(path) as file:
        file.write(0, arrays(0, lengths))
        assert file.done.tolist() == [True, False, False] and kept(path, lengths) == {0}
        monkeypatch.setattr(writer, "PART_SECONDS", 60.0)
        file.write(1, arrays(1, lengths))
        assert file.done.tolist() == [True, False, False] and kept(path, lengths) == {0}
    assert check(path, lengths) == 2


def test_parts_of_another_file_are_not_read(tmp_path: Path, small_parts: None) -> None:
    """Left by a file that was removed, or damaged: their samples are written again."""
    path, lengths = tmp_path / "again.h5", dimensions(3)
    parts_folder(path).mkdir()
    other = ATTRIBUTES | {"created": "long ago"}
    os.close(create(tmp_path / "other.h5", Form(SPECS, lengths, other, WHITE), 3))
    fill(tmp_path / "other.h5", lengths)
    make(path, 3)
    assert not parts_folder(path).exists()  # a new file begins with nothing
    parts_folder(path).mkdir()
    (tmp_path / "other.h5").rename(parts_folder(path) / "000000000.h5")
    (parts_folder(path) / "000000001.h5").write_bytes(b"torn")
    with DatasetWriter(path) as file:
        assert not file.done.any()
    fill(path, lengths)
    assert check(path, lengths) == 3 and [*tmp_path.iterdir()] == [path]


def test_what_others_added_to_a_file_stays(tmp_path: Path) -> None:
    path, lengths = tmp_path / "mine.h5", make(tmp_path / "mine.h5", 2)
    with h5py.File(path, "r+") as h5:
        h5["labels"] = np.arange(2)
    fill(path, lengths)
    with h5py.File(path) as h5:
        assert h5["labels"][:].tolist() == [0, 1] and h5["done"][:].all()


def test_a_file_of_another_program(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as h5:
        h5["x"] = 1
    with pytest.raises(ConfigError, match=r"other.h5 is an HDF5 file of another program; choose another"):
        DatasetWriter(tmp_path / "other.h5")


def test_a_name_as_long_as_the_system_allows(tmp_path: Path, small_parts: None) -> None:
    path = tmp_path / ("n" * 252 + ".h5")
    lengths = make(path, 4)
    fill(path, lengths)
    assert check(path, lengths) == 4 and [*tmp_path.iterdir()] == [path]
