"""Damaged and hostile dataset files: a sentence each, and a few dozen of the inputs of ``hdf5_fuzz.py``."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from lifted_blobs import Blobs

from lift3d.cli.main import main
from lift3d.errors import CorruptFile
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5.file import open_file, reading
from lift3d.export.hdf5.probe import probe
from lift3d.export.hdf5.reader import describe, open_dataset
from lift3d.export.hdf5.schema import SPECS
from lift3d.export.hdf5.verify import verify

N = int(os.environ.get("LIFT3D_FUZZ", "60"))
PLAN = DatasetPlan(n=2, views=1, lights=1, size=16, truncation=0.7, meshes="full")


def test_mutated_files_end_in_data_or_clear_errors() -> None:
    script = Path(__file__).parents[1] / "hdf5_fuzz.py"
    done = subprocess.run(
        [sys.executable, script, str(N), "2026"], capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["failures"] == [] and report["inputs"] == N
    counts = report["describe, open_dataset, verify"]
    assert sum(counts.values()) == N
    words = {"read", "sound", "found", "CorruptFile", "ConfigError"}
    assert {word for outcome in counts for word in outcome.split()} <= words
    assert counts["CorruptFile CorruptFile CorruptFile"] > N / 4  # damage, and not in vain


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dataset") / "faces.h5"
    write_dataset(Blobs(), PLAN, path)
    return path


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path / "copy.h5"))


def replace_by(name: str, make: Callable[[h5py.File, str], object]) -> Callable[[h5py.File], None]:
    """Puts something else where a dataset was."""

    def change(h5: h5py.File) -> None:
        h5.move(name, "gone")
        make(h5, name)

    return change


def with_attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda h5: h5.attrs.__setitem__(name, value)


def external(h5: h5py.File, name: str) -> None:
    h5.create_dataset(name, (2,), "?", external=[("/etc/hostname", 0, 2)])


HOSTILE = {
    "a format that is no text": (with_attribute("format", 3), "is an HDF5 file of another program"),
    "no license": (
        lambda h5: h5.attrs.__delitem__("license"),
        "lacks the attributes license; write the file again",
    ),
    "a version of words": (
        with_attribute("format_version", "1"),
        "attribute format_version is no whole number",
    ),
    "a version of fractions": (
        with_attribute("format_version", 1.0),
        "attribute format_version is no whole number",
    ),
    "a license of numbers": (with_attribute("license", [1, 2]), "attribute license is no text"),
    "a config of bytes": (with_attribute("config", np.bytes_(b"{}")), "attribute config is no text"),
    "a config that is a list": (with_attribute("config", "[]"), "attribute config is no JSON object"),
    "a config of brackets": (with_attribute("config", "[" * 50_000), "attribute config is no JSON"),
    "samples without end": (
        replace_by("done", lambda h5, name: h5.create_dataset(name, (10**11,), "?")),
        "colors has 2 samples, expected 100000000000|done claims 100,000,000,000 bytes",
    ),
    "rows without end": (
        lambda h5: _grow(h5),
        "meshes/faces claims [0-9,]* bytes, more than a file of [0-9,]* bytes can hold",
    ),
    "a chunk as large as the world": (
        replace_by(
            "mask",
            lambda h5, name: h5.create_dataset(
                name, (2, 1, 16, 16), "u1", chunks=(2, 1, 9000, 9000), maxshape=(None,) * 4
            ),
        ),
        "mask has chunks of 162,000,000 bytes, more than all of it",
    ),
    "another size": (
        replace_by("mask", lambda h5, name: h5.create_dataset(name, (2, 1, 16, 15), "u1")),
        r"mask has the shape \(2, 1, 16, 15\), expected \(2, 1, 16, 16\)",
    ),
    "another dtype": (
        replace_by("mask", lambda h5, name: h5.create_dataset(name, (2, 1, 16, 16), "f8")),
        "mask is float64 of 4 axes, expected u1 of 4",
    ),
    "a link to another file": (
        replace_by("done", lambda h5, name: h5.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/done"))),
        "done is missing",
    ),
    "data in another file": (
        replace_by("done", external),
        "done stands in another file, expected in this one",
    ),
    "virtual data": (
        replace_by("done", lambda h5, name: h5.create_virtual_dataset(name, h5py.VirtualLayout((2,), "?"))),
        "done refers to other files, though the file was not merged of shards",
    ),
    "shards that are a number": (lambda h5: _merged(h5, "3"), "attribute shards is no list of names"),
    "shards that are not there": (
        lambda h5: _merged(h5, '["a.h5"]'),
        "refers to the shard .*a.h5, which is not",
    ),
    "a group": (replace_by("colors", lambda h5, name: h5.create_group(name)), "colors is missing"),
    "half a mesh": (lambda h5: h5.move("meshes/albedo", "gone"), "meshes/albedo is missing"),
}


def _merged(h5: h5py.File, shards: str) -> None:
    """A file that says it was merged."""
    h5.attrs["shards"] = shards
    h5.move("colors", "gone")
    h5.create_virtual_dataset("colors", h5py.VirtualLayout((2, 1, 1, 16, 16, 3), "u1"))


def _grow(h5: h5py.File) -> None:
    """Rows of meshes without end."""
    faces = h5["meshes/faces"]
    attributes = dict(faces.attrs)
    h5.move("meshes/faces", "gone")
    h5.create_dataset("meshes/faces", (10**9, 3), "i4", chunks=(4096, 3)).attrs.update(attributes)


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_with_a_sentence(copy: Path, case: str) -> None:
    change, words = HOSTILE[case]
    with h5py.File(copy, "r+") as h5:
        change(h5)
    for read in (open_dataset, describe):
        with pytest.raises(CorruptFile, match=f"copy.h5.*({words})"):
            read(copy)
    try:
        report = verify(copy)
    except CorruptFile as error:
        assert "copy.h5" in str(error)
    else:
        assert not report.ok and report.samples == 0


@pytest.mark.parametrize("size", [0, 8, 2**64 - 64, 2**40])
def test_heaps_that_lead_in_circles(copy: Path, size: int) -> None:
    """Free space of size 0 sends HDF5 round for ever."""
    data = bytearray(copy.read_bytes())
    heap = data.index(b"GCOL")
    place = heap + 16
    while int.from_bytes(
        data[place : place + 2], "little"
    ):  # to the free space at the end, or beyond the heap
        place += 16 + -(-int.from_bytes(data[place + 8 : place + 16], "little") // 8) * 8
    assert place < heap + int.from_bytes(data[heap + 8 : heap + 16], "little")
    data[place + 8 : place + 16] = size.to_bytes(8, "little")
    copy.write_bytes(data)
    for read in (open_dataset, describe, verify):
        with pytest.raises(
            CorruptFile, match="copy.h5: the heap of its attributes is damaged; write the file"
        ):
            read(copy)


def test_texts_longer_than_their_file(copy: Path) -> None:
    """HDF5 gets memory for what a text claims, up to 4 GB: each attribute of each dataset in turn."""
    data, claims = copy.read_bytes(), []
    with h5py.File(copy) as h5:
        items = [h5] + [h5[name] for name in SPECS if name in h5]
        texts = sum(isinstance(value, str) for item in items for value in item.attrs.values())
    for heap in re.finditer(b"GCOL", data):
        for found in re.finditer(re.escape(struct.pack("<Q", heap.start())), data):
            claims += [found.start() - 1] if data[found.start() - 12 :][:8] == b"\1" + 7 * b"\0" else []
    assert len(claims) == texts > 20
    for place in claims:  # of the most significant byte of a length
        copy.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        with pytest.raises(
            CorruptFile, match="copy.h5: the heap of its attributes is damaged; write the file"
        ):
            verify(copy)


def test_a_heap_larger_than_its_file(copy: Path) -> None:
    data = bytearray(copy.read_bytes())
    place = data.index(b"GCOL") + 8
    data[place : place + 8] = (2**32).to_bytes(8, "little")
    copy.write_bytes(data)
    with pytest.raises(CorruptFile, match="copy.h5 is truncated or no HDF5 file .its attributes end beyond"):
        open_dataset(copy)


def test_the_users_own_datasets_are_let_be(copy: Path) -> None:
    with h5py.File(copy, "r+") as h5:
        h5["labels"] = np.arange(2)
    assert len(open_dataset(copy)) == 2
    assert [(f.dataset, f.problem) for f in verify(copy).findings] == [
        ("labels", "is not part of the format")
    ]


def test_whatever_is_raised_while_reading_is_one_sentence() -> None:
    for error in (
        KeyError("x"),
        RuntimeError("a\n  b"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
        ValueError(),
    ):
        with pytest.raises(CorruptFile, match=r"^a\.h5: depth cannot be read \(.+\); write the file again$"):
            with reading("a.h5: depth"):
                raise error
    with pytest.raises(KeyboardInterrupt), reading("a"):
        raise KeyboardInterrupt


def test_errors_of_callers_are_their_own(copy: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_file(copy):
        raise ZeroDivisionError


# --- what cannot be caught ------------------------------------------------------------------------


def test_a_probe_of_a_sound_or_merely_damaged_file_says_nothing(copy: Path) -> None:
    probe(copy)
    copy.write_bytes(b"no HDF5 at all")
    probe(copy)  # the reader's to refuse


def test_a_file_whose_reading_does_not_end(tmp_path: Path) -> None:
    """A pipe that nobody writes to stands for a structure that runs in circles."""
    os.mkfifo(tmp_path / "endless.h5")
    start = time.monotonic()
    with pytest.raises(CorruptFile, match="endless.h5: HDF5 does not get through its structure"):
        probe(tmp_path / "endless.h5", seconds=2.0)
    assert time.monotonic() - start < 60


def test_a_file_that_crashes_the_library(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = copy.parent / "crash.sh"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr("lift3d.export.hdf5.probe.sys.executable", str(crash))
    with pytest.raises(CorruptFile, match="copy.h5: HDF5 crashes on its structure; write the file again"):
        probe(copy)


def test_verify_probes_first(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probed = []
    monkeypatch.setattr("lift3d.export.hdf5.probe.probe", probed.append)
    result = CliRunner().invoke(main, ["verify", str(copy)])
    assert result.exit_code == 0 and probed == [copy]
