"""The dataset file: what is in it, that plain HDF5 libraries agree, and that no crash loses a done sample."""

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hdf5_samples import ATTRIBUTES, SPECS, WHITE, arrays, check, dimensions, fill, make
from torch.utils.data import DataLoader

from lift3d.errors import ConfigError, CorruptFile, Lift3DError
from lift3d.export.hdf5 import layout
from lift3d.export.hdf5.file import read_array
from lift3d.export.hdf5.layout import ChunkIndex
from lift3d.export.hdf5.reader import describe, open_dataset
from lift3d.export.hdf5.schema import MESH_ROWS, ROOT_ATTRIBUTES, SCHEMA, UNCHECKED, checksum, stored
from lift3d.export.hdf5.skeleton import create, create_locked
from lift3d.export.hdf5.verify import verify
from lift3d.export.hdf5.writer import DatasetWriter, write_reference

N = 6
CRASHES = int(os.environ.get("LIFT3D_TEST_CRASHES", 12))  # of each kind; 300 were tried once


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with N done samples."""
    path = tmp_path_factory.mktemp("hdf5") / "full.h5"
    fill(path, make(path, N))
    return path


@pytest.fixture
def copy(full: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(full, tmp_path / "copy.h5"))


# --- the file -------------------------------------------------------------------------------------


def test_everything_written_is_read_by_plain_h5py(full: Path) -> None:
    assert check(full, dimensions(N)) == N


def test_the_schema_names_every_dataset_and_attribute(full: Path) -> None:
    with h5py.File(full) as h5:
        assert set(h5.attrs) == set(ROOT_ATTRIBUTES)
        for spec in SPECS:
            dataset = h5[spec.name]
            assert dataset.dtype == np.dtype(spec.dtype)
            assert len(spec.axes.split(",")) == len(spec.shape) == dataset.ndim
            assert {name: dataset.attrs[name] for name in spec.attributes} == spec.attributes
            assert all(spec.attributes.values())
        np.testing.assert_array_equal(h5["colors"].attrs["background"], WHITE)
        assert h5["colors"].attrs["axes"] == "sample,view,light,y,x,channel"
        assert "z-depth" in h5["depth"].attrs["description"]


def test_one_chunk_is_one_image_of_plain_gzip(full: Path) -> None:
    with h5py.File(full) as h5:
        assert h5["colors"].chunks == (1, 1, 1, 16, 16, 3) and h5["depth"].chunks == (1, 1, 16, 16)
        assert h5["colors"].compression == "gzip" and not h5["colors"].shuffle and h5["normals"].shuffle
        for chunk in range(h5["colors"].id.get_num_chunks()):
            where = h5["colors"].id.get_chunk_info(chunk).chunk_offset
            mask, data = h5["colors"].id.read_direct_chunk(where)
            assert mask == 0
            assert zlib.decompress(data) == h5["colors"][where[:3]].tobytes()


def test_the_h5py_twin_writes_the_same(full: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin.h5"
    lengths = dimensions(N)
    write_reference(twin, SPECS, lengths, ATTRIBUTES, WHITE, (arrays(i, lengths) for i in range(N)))
    with h5py.File(full) as ours, h5py.File(twin) as theirs:
        for spec in SPECS:
            a, b = ours[spec.name], theirs[spec.name]
            np.testing.assert_array_equal(a[:], b[: len(a)], err_msg=spec.name)
            assert dict(a.attrs).keys() == dict(b.attrs).keys()


def test_optional_datasets_are_left_out() -> None:
    names = {spec.name for spec in stored(("depth", "mask"), gan=False, meshes=False)}
    assert {"depth", "mask", "colors", "done"} <= names
    assert not names & {"albedo", "normals", "colors_gan"} and not any(n.startswith("meshes") for n in names)
    assert {spec.name for spec in SPECS} == {spec.name for spec in SCHEMA}


@pytest.mark.parametrize("extent", [(1, 2), (7, 9), (70, 3), (300, 20), (4097, 3)])
def test_chunk_indices_of_every_depth(tmp_path: Path, extent: tuple[int, int]) -> None:
    """HDF5 finds every chunk in trees of one to three levels, and nothing in chunks that were not written."""
    path = tmp_path / "index.h5"
    lengths = dimensions(1)
    create(path, stored((), gan=False, meshes=False), lengths, ATTRIBUTES, WHITE)
    with h5py.File(path, "w", libver="earliest") as h5:
        h5.create_dataset("d", (*extent, 4), "u1", chunks=(1, 1, 4), compression="gzip")
    with open(path, "r+b") as file, h5py.File(path) as h5:
        place = layout.header(file, h5["d"])
        blank, data = zlib.compress(bytes(4)), zlib.compress(b"abcd")
        end = file.seek(0, os.SEEK_END)
        index = ChunkIndex.over((*extent, 4), (1, 1, 4), 1, end + len(blank) + len(data))
        assert len(index.levels) == 1 + (index.n_chunks > 64) + (index.n_chunks > 64**2) + (
            index.n_chunks > 64**3
        )
        file.write(blank + data + index.build(end, len(blank)))
        written = np.arange(0, index.n_chunks, 5)
        for number in written:
            entry = index.entries(
                int(number), np.array([end + len(blank)], np.uint64), np.array([len(data)], np.uint32)
            )
            for address, patch in index.patches(int(number), entry):
                file.seek(address)
                file.write(patch)
        for value, address in (
            (index.root, place.storage),
            (file.seek(0, os.SEEK_END), layout.END_OF_FILE),
        ):
            file.seek(address)
            file.write(value.to_bytes(8, "little"))
    with h5py.File(path) as h5:
        found = h5["d"][:].reshape(-1, 4)
        wanted = np.zeros_like(found)
        wanted[written] = list(b"abcd")
        np.testing.assert_array_equal(found, wanted)


def test_checksum_is_what_the_format_says(full: Path) -> None:
    """Recomputed with nothing but h5py, numpy and zlib."""
    with h5py.File(full) as h5:
        names = sorted({spec.name for spec in SPECS} - set(UNCHECKED))
        for i in range(N):
            data = b"".join(np.ascontiguousarray(read_array(h5, name, i)).tobytes() for name in names)
            assert h5["checksum"][i] == zlib.crc32(data) << 32 | zlib.adler32(data)


def test_checksum_sees_every_dataset() -> None:
    sample = arrays(1, dimensions(1))
    whole = checksum(sample)
    for name, array in sample.items():
        changed = np.array(array)
        changed.reshape(-1).view(np.uint8)[-1] ^= 1
        assert checksum(sample | {name: changed}) != whole


def test_meshes_lie_one_after_the_other(full: Path) -> None:
    with h5py.File(full) as h5:
        for span, rows in (
            ("meshes/vertex_span", h5["meshes/vertices"]),
            ("meshes/face_span", h5["meshes/faces"]),
        ):
            start, count = h5[span][:].T
            assert not (start % MESH_ROWS).any()
            assert (start[1:] - (start + count)[:-1]).min() >= 0
            assert (start[1:] - (start + count)[:-1]).max() < MESH_ROWS
            assert len(rows) == start[-1] + count[-1]


# --- crashes --------------------------------------------------------------------------------------


def recorded_run(
    path: Path, n: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[bytes, list[tuple[int, bytes] | None]]:
    """The empty file, and everything a run then did to it: (address, bytes) per write, None per sync."""
    lengths = make(path, n)
    empty, log = path.read_bytes(), []
    pwrite, fdatasync = os.pwrite, os.fdatasync

    def logged_write(fd: int, data: memoryview, address: int) -> int:
        log.append((address, bytes(data)))
        return pwrite(fd, data, address)

    def logged_sync(fd: int) -> None:
        log.append(None)
        fdatasync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", logged_write)
        patch.setattr(os, "fdatasync", logged_sync)
        for some in ([0], [1, 2], [3]):
            with DatasetWriter(path) as writer:
                for i in some:
                    writer.write(i, arrays(i, lengths))
    return empty, log


def image_of(empty: bytes, writes: list[tuple[int, bytes]]) -> bytes:
    image = bytearray(empty)
    for address, data in writes:
        image.extend(bytes(max(0, address + len(data) - len(image))))
        image[address : address + len(data)] = data
    return bytes(image)


def sectors(address: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """A write, cut at the borders of 512-byte sectors."""
    while data:
        step = 512 - address % 512
        yield address, data[:step]
        address, data = address + step, data[step:]


@pytest.mark.parametrize("power", ["killed", "power cut"])
def test_any_crash_leaves_whole_done_samples(
    power: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed: what was written stays. Power cut: of what was not synced any sector may be missing."""
    rng = np.random.default_rng(0)
    path, n, seen = tmp_path / "crash.h5", 4, set()
    empty, log = recorded_run(path, n, monkeypatch)
    for _ in range(CRASHES):
        instant = int(rng.integers(len(log)))
        before, torn = [w for w in log[:instant] if w], log[instant]
        if power == "killed":
            writes = before + ([(torn[0], torn[1][: len(torn[1]) // 2])] if torn else [])
        else:
            synced = max((i for i, w in enumerate(log[:instant]) if w is None), default=0)
            writes = [w for w in log[:synced] if w]
            loose = [piece for w in log[synced:instant] if w for piece in sectors(*w)]
            share = rng.choice([0.1, 0.5, 0.9])
            writes += [loose[i] for i in rng.permutation(len(loose)) if rng.random() < share]
        path.write_bytes(image_of(empty, writes))
        done = check(path, dimensions(n))
        seen.add(done)
        if rng.random() < 0.2:
            fill(path, dimensions(n))
            assert check(path, dimensions(n)) == n
    assert len(seen) >= 3  # crashes hit all phases of the run


def test_kill_minus_nine_and_resume(tmp_path: Path) -> None:
    """Run after run is killed a few samples on; each continues what the last one left."""
    path, n, seen = tmp_path / "killed.h5", 400, [0]
    lengths = make(path, n)
    program = [sys.executable, str(Path(__file__).parents[1] / "hdf5_samples.py"), str(path), str(n)]
    rng = np.random.default_rng(0)
    for _ in range(4):
        with subprocess.Popen(program, stdout=subprocess.PIPE) as child:
            child.stdout.read(int(rng.integers(5, 25)))  # a byte per sample handed to the writer
            time.sleep(rng.uniform(0, 0.02))
            child.send_signal(signal.SIGKILL)
        seen.append(check(path, lengths, at_most=6))
    assert seen == sorted(seen) and seen[-1] >= 4


def test_full_disk_keeps_what_is_done_and_continues(tmp_path: Path) -> None:
    """RLIMIT_FSIZE gives EFBIG where a full disk gives ENOSPC."""
    path, n = tmp_path / "full.h5", 20
    lengths = make(path, n)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 1_000_000, hard))
    try:
        with pytest.raises(
            Lift3DError, match=r"cannot write .*: File too large; \d+ of 20 samples are in it"
        ):
            fill(path, lengths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    done = check(path, lengths)
    assert 0 < done < n
    fill(path, lengths)
    assert check(path, lengths) == n


def test_full_disk_while_creating_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(Lift3DError, match=r"cannot write .*new.h5: "):
            make(tmp_path / "new.h5", 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_samples_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "order.h5"
    lengths = make(path, 5)
    with DatasetWriter(path) as writer:
        for i in (3, 0, 4):
            writer.write(i, arrays(i, lengths))
    assert check(path, lengths) == 3
    fill(path, lengths)
    assert check(path, lengths) == 5


# --- the writer's refusals ------------------------------------------------------------------------


def test_create_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(Lift3DError, match=r"cannot write .*x.h5: No such file or directory"):
        make(tmp_path / "nowhere" / "x.h5", 1)


def test_writer_of_a_missing_or_foreign_file(tmp_path: Path) -> None:
    with pytest.raises(Lift3DError, match="cannot write .*x.h5: No such file"):
        DatasetWriter(tmp_path / "x.h5")
    (tmp_path / "y.h5").write_bytes(b"not HDF5" * 100)
    with pytest.raises(Lift3DError, match="cannot write .*y.h5: .*signature"):
        DatasetWriter(tmp_path / "y.h5")


def test_two_writers(copy: Path) -> None:
    other = (
        "import h5py, sys; from lift3d.export.hdf5.writer import DatasetWriter\n"
        "print(h5py.File(sys.argv[1])['done'][:].sum(), flush=True)\n"
        "DatasetWriter(sys.argv[1])"
    )
    with DatasetWriter(copy):
        child = subprocess.run([sys.executable, "-c", other, str(copy)], capture_output=True, text=True)
    assert child.stdout == f"{N}\n"  # reading is allowed
    assert "being written by another process" in child.stderr


def test_the_lock_survives_readers_in_the_writing_process(copy: Path) -> None:
    with DatasetWriter(copy):
        open_dataset(copy)[0]  # opens and closes the file: a POSIX lock would be gone
        for write_again in (DatasetWriter, lambda path: make(path, 1)):
            with pytest.raises(ConfigError, match="copy.h5 is being written by another process; wait for it"):
                write_again(copy)
    DatasetWriter(copy).close()


def test_a_new_file_is_locked_before_it_is_at_its_path(tmp_path: Path) -> None:
    path, lengths = tmp_path / "new.h5", dimensions(1)
    locked = create_locked(path, SPECS, lengths, ATTRIBUTES, WHITE, overwrite=False)
    with pytest.raises(ConfigError, match="is being written by another process"):
        DatasetWriter(path)
    with DatasetWriter(path, locked=locked) as writer:
        writer.write(0, arrays(0, lengths))
    with pytest.raises(ConfigError, match="new.h5 exists; --resume continues it, --overwrite replaces it"):
        create(path, SPECS, lengths, ATTRIBUTES, WHITE, overwrite=False)
    assert check(path, lengths) == 1 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("loss", ["removed", "replaced", "moved"])
@pytest.mark.parametrize("commits_after", [True, False])
def test_a_file_that_is_lost_beside_its_writer(tmp_path: Path, loss: str, commits_after: bool) -> None:
    """Nothing is written to a file that has no name, and no run that lost its file ends well."""
    path = tmp_path / "lost.h5"
    lengths = make(path, 2)
    with pytest.raises(Lift3DError, match="lost.h5 was removed or replaced while it was being written"):
        with DatasetWriter(path) as writer:
            if loss == "removed":
                path.unlink()
            elif loss == "replaced":
                (tmp_path / "other").write_bytes(b"other")
                os.replace(tmp_path / "other", path)
            else:
                path.rename(tmp_path / "elsewhere.h5")
            if commits_after:
                writer.write(0, arrays(0, lengths))
    assert not writer.done.any()
    if loss == "replaced":
        assert path.read_bytes() == b"other"


def test_wrong_samples(tmp_path: Path) -> None:
    path = tmp_path / "wrong.h5"
    lengths = make(path, 2)
    good = arrays(0, lengths)
    with DatasetWriter(path) as writer:
        with pytest.raises(ConfigError, match=r"\['depth'\] are missing, or not in"):
            writer.write(0, {name: array for name, array in good.items() if name != "depth"})
        with pytest.raises(ConfigError, match=r"\['fog'\] are missing, or not in"):
            writer.write(0, good | {"fog": np.zeros(3)})
        with pytest.raises(ConfigError, match=r"depth has shape \(3, 16, 16\), expected \(2, 16, 16\)"):
            writer.write(0, good | {"depth": np.zeros((3, 16, 16))})
        with pytest.raises(ConfigError, match=r"sample 2 is written already or not one of 0..1"):
            writer.write(2, good)
        writer.write(1, arrays(1, lengths))
        with pytest.raises(ConfigError, match="sample 1 is written already"):  # or on its way
            writer.write(1, good)
    fill(path, lengths)
    with DatasetWriter(path) as writer, pytest.raises(ConfigError, match="sample 0 is written already"):
        writer.write(0, good)


def test_meshes_beyond_the_room_for_them(tmp_path: Path) -> None:
    path = tmp_path / "room.h5"
    lengths = make(path, 3, vertices=10_000)
    with pytest.raises(
        Lift3DError, match="has room for 12288 vertices of meshes, all used up; choose coarser"
    ):
        fill(path, lengths)
    assert check(path, lengths) < 3


def test_layouts_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w", libver="latest") as h5:
        h5.create_dataset("new", (4,), "f4", chunks=(2,))
    with open(path, "rb") as file, h5py.File(path) as h5:
        with pytest.raises(CorruptFile, match="object header version 79, expected 1"):
            layout.header(file, h5["new"])
    with h5py.File(path, "w", libver="earliest") as h5:
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        h5.create_dataset("compact", (4,), "f4", dcpl=compact)
    with open(path, "rb") as file, h5py.File(path) as h5:
        with pytest.raises(CorruptFile, match="compact is stored in another way than lift3d"):
            layout.header(file, h5["compact"])
        (tmp_path / "short").write_bytes(file.read(100))
        with open(tmp_path / "short", "rb") as short:
            with pytest.raises(CorruptFile, match="truncated: it ends in an object header, byte 800"):
                layout.header(short, h5["compact"])


# --- the reader -----------------------------------------------------------------------------------


def test_reader_gives_what_was_written(full: Path) -> None:
    dataset = open_dataset(full)
    assert len(dataset) == N
    for i, sample in enumerate(dataset):
        wanted = arrays(i, dimensions(N))
        for name in (
            "colors",
            "colors_gan",
            "albedo",
            "gan_image",
            "cam2world",
            "latent_z",
            "light_dir",
            "depth",
        ):
            np.testing.assert_array_equal(getattr(sample, name).numpy(), wanted[name])
        np.testing.assert_array_equal(sample.normals.numpy(), wanted["normals"].astype(np.float32))
        np.testing.assert_array_equal(sample.intrinsics.numpy(), wanted["cam_K"])
        assert int(sample.index) == i and int(sample.seed) == wanted["seed"]
        mesh = dataset.mesh(i)
        np.testing.assert_array_equal(mesh.faces, wanted["meshes/faces"])
        np.testing.assert_array_equal(mesh.shininess, wanted["meshes/shininess"])


def test_reader_slices_and_skips_unfinished_samples(tmp_path: Path) -> None:
    path = tmp_path / "some.h5"
    lengths = make(path, 5)
    with DatasetWriter(path) as writer:
        for i in (1, 3, 4):
            writer.write(i, arrays(i, lengths))
    dataset = open_dataset(path)
    assert [int(s.index) for s in dataset] == [1, 3, 4]
    assert [int(s.index) for s in dataset[1:]] == [3, 4] and int(dataset[-1].index) == 4
    assert int(dataset[1:][0].seed) == arrays(3, lengths)["seed"]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
def test_workers_open_the_file_themselves(full: Path) -> None:
    dataset = open_dataset(full, maps=("depth",))
    assert dataset[0].depth is not None  # opened here, before the workers are forked
    again = pickle.loads(pickle.dumps(dataset))
    assert again._open is None and len(again) == N
    batches = list(DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context="fork"))
    assert [len(batch) for batch in batches] == [4, 2] and "depth=[4, 2, 16, 16]" in repr(batches[0])
    for batch in batches:
        assert torch.equal(batch[1].depth, batch.depth[1]) and batch.to("cpu").colors is None
        assert batch.colors is None and batch.depth.shape[1:] == (2, 16, 16)
        assert batch.cameras.rotation.shape[1:] == (2, 3, 3) and batch.lights.direction.shape[1:] == (3, 3)
        for k, i in enumerate(batch.index.tolist()):
            np.testing.assert_array_equal(batch.depth[k].numpy(), arrays(i, dimensions(N))["depth"])


def test_reader_refuses_unknown_maps(full: Path) -> None:
    with pytest.raises(ConfigError, match=r"\['fog'\] are not in .*; it has colors, colors_gan, albedo"):
        open_dataset(full, maps=("fog",))


def test_mesh_of_a_file_without(tmp_path: Path) -> None:
    path = tmp_path / "flat.h5"
    specs, lengths = stored((), gan=False, meshes=False), dimensions(1)
    create(path, specs, lengths, ATTRIBUTES, WHITE)
    with DatasetWriter(path) as writer:
        names = {spec.name for spec in specs}
        writer.write(0, {name: array for name, array in arrays(0, lengths).items() if name in names})
    with pytest.raises(ConfigError, match="has no meshes; lift3d sample stores them: write it again"):
        open_dataset(path).mesh(0)


def test_describe(full: Path) -> None:
    info = describe(full)
    assert (info.planned, info.done, info.nbytes, info.license) == (N, N, full.stat().st_size, "CC0-1.0")
    assert [d.name for d in info.datasets] == [spec.name for spec in SPECS]
    colors = info.datasets[0]
    assert (colors.shape, colors.dtype, colors.units) == ((N, 2, 3, 16, 16, 3), "uint8", "code value")
    assert info.config == json.loads(ATTRIBUTES["config"])


def test_files_that_are_no_dataset(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere.h5 is not a file"):
        open_dataset(tmp_path / "nowhere.h5")
    data = copy.read_bytes()
    copy.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptFile, match="truncated or no HDF5 file"):
        open_dataset(copy)
    copy.write_bytes(b"no HDF5 at all")
    with pytest.raises(CorruptFile, match="truncated or no HDF5 file"):
        describe(copy)
    with h5py.File(copy, "w") as h5:
        h5["x"] = 1
    with pytest.raises(CorruptFile, match="is an HDF5 file of another program"):
        open_dataset(copy)


def test_a_config_that_is_no_json(copy: Path) -> None:
    with h5py.File(copy, "r+") as h5:
        h5.attrs["config"] = "{"
    with pytest.raises(CorruptFile, match="attribute config is no JSON"):
        describe(copy)


def test_a_file_from_the_future(copy: Path) -> None:
    with h5py.File(copy, "r+") as h5:
        h5.attrs["format_version"] = 2
    with pytest.raises(CorruptFile, match="has format version 2, this lift3d reads 1"):
        open_dataset(copy)


def test_damaged_chunk_and_span(copy: Path) -> None:
    with h5py.File(copy, "r+") as h5:
        place = h5["colors"].id.get_chunk_info(0)
        h5["meshes/face_span"][1] = 10**6, 5
    with open(copy, "r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\xff" * place.size)
    dataset = open_dataset(copy)
    with pytest.raises(CorruptFile, match="colors of sample 0 cannot be read"):
        dataset[0]
    with pytest.raises(CorruptFile, match="meshes/face_span of sample 1 leaves meshes/faces"):
        dataset.mesh(1)
    problems = {(f.sample, f.dataset): f.problem for f in verify(copy).findings}
    assert "colors of sample 0 cannot be read" in problems[0, "checksum"]
    assert "face_span of sample 1 leaves" in problems[1, "checksum"]


# --- verify, of the schema (test_dataset.py has the rest) -----------------------------------------


def test_verify_finds_missing_foreign_and_mistyped_datasets(copy: Path) -> None:
    with h5py.File(copy, "r+") as h5:
        del h5["seed"], h5["gan_view"], h5["gan_light"]
        h5["labels"] = np.zeros(N)
        h5["gan_view"] = np.zeros((N, 6), np.int32)
        h5["gan_light"] = np.zeros((N + 1, 5), np.float32)
    report = verify(copy)
    assert not report.ok and report.samples == 0
    assert {(f.dataset, f.problem) for f in report.findings} == {
        ("seed", "is missing"),
        ("labels", "is not part of the format"),
        ("gan_view", "is int32 of 2 axes, expected f4 of 2"),
        ("gan_light", f"has {N + 1} samples, expected {N}"),
    }


def test_verify_finds_wrong_attributes(copy: Path) -> None:
    with h5py.File(copy, "r+") as h5:
        h5["depth"].attrs["units"] = "millimeter"
    assert "attribute units is 'millimeter', the format says 'world unit'" in [
        f.problem for f in verify(copy).findings if f.dataset == "depth"
    ]
