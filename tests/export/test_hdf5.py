"""The dataset file: what is in it, that plain HDF5 libraries agree, what the writer and the reader refuse."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hdf5_samples import ATTRIBUTES, SPECS, WHITE, arrays, check, dimensions, fill, make
from torch.utils.data import DataLoader

from lift3d.errors import ConfigError, CorruptFile, Lift3DError
from lift3d.export.hdf5.file import read_array
from lift3d.export.hdf5.reader import describe, open_dataset
from lift3d.export.hdf5.sample_file import Form, write_reference
from lift3d.export.hdf5.schema import MESH_ROWS, ROOT_ATTRIBUTES, SCHEMA, UNCHECKED, checksum, stored
from lift3d.export.hdf5.verify import verify
from lift3d.export.hdf5.writer import DatasetWriter, create

N = 6


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
    form = Form(SPECS, lengths, ATTRIBUTES, WHITE)
    write_reference(twin, form, [arrays(i, lengths) for i in range(N)])
    with h5py.File(full) as ours, h5py.File(twin) as theirs:
        for spec in SPECS:
            a, b = ours[spec.name], theirs[spec.name]
            np.testing.assert_array_equal(a[:], b[:], err_msg=spec.name)
            assert dict(a.attrs).keys() == dict(b.attrs).keys()


def test_optional_datasets_are_left_out() -> None:
    names = {spec.name for spec in stored(("depth", "mask"), gan=False, meshes=False)}
    assert {"depth", "mask", "colors", "done"} <= names
    assert not names & {"albedo", "normals", "colors_gan"} and not any(n.startswith("meshes") for n in names)
    assert {spec.name for spec in SPECS} == {spec.name for spec in SCHEMA}


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
    form = Form(SPECS, lengths, ATTRIBUTES, WHITE)
    locked = create(path, form, 1, overwrite=False)
    with pytest.raises(ConfigError, match="is being written by another process"):
        DatasetWriter(path)
    with DatasetWriter(path, locked=locked) as writer:
        writer.write(0, arrays(0, lengths))
    with pytest.raises(ConfigError, match="new.h5 exists; --resume continues it, --overwrite replaces it"):
        os.close(create(path, form, 1, overwrite=False))
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
    os.close(create(path, Form(specs, lengths, ATTRIBUTES, WHITE), 1))
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
