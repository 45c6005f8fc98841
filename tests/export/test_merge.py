"""Shards of a dataset: written side by side, merged, they are what a single run writes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from lifted_blobs import Blobs

from lift3d.errors import ConfigError, CorruptFile
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.export.hdf5.file import open_file, read_array
from lift3d.export.hdf5.merge import merge
from lift3d.export.hdf5.reader import open_dataset
from lift3d.export.hdf5.schema import SPECS
from lift3d.export.hdf5.verify import verify
from lift3d.export.hdf5.writer import DatasetWriter
from lift3d.export.plan.shard import Shard

PLAN = DatasetPlan(n=5, views=2, lights=2, size=32, split=(0.6, 0.2, 0.2), truncation=0.7)
N_SHARDS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards, and the file of a single run."""
    folder = tmp_path_factory.mktemp("shards")
    for i in range(1, N_SHARDS + 1):
        write_dataset(Blobs(), replace(PLAN, shard=f"{i}/{N_SHARDS}"), folder / f"s-{i}.h5")
    write_dataset(Blobs(), PLAN, folder / "whole.h5")
    return folder


@pytest.fixture
def shards(folder: Path, tmp_path: Path) -> list[Path]:
    return [Path(shutil.copy(path, tmp_path)) for path in sorted(folder.glob("s-*.h5"))]


def assert_same(merged: Path, whole: Path) -> None:
    """Sample by sample, and every attribute but where the file came from."""
    with open_file(merged) as a, open_file(whole) as b:
        names = [name for name in SPECS if name in b and not name.endswith("_span")]
        assert all(name in a for name in names) and len(a["done"]) == len(b["done"])
        for i in range(len(b["done"])):
            for name in names:
                np.testing.assert_array_equal(
                    read_array(a, name, i), read_array(b, name, i), err_msg=f"{name} of sample {i}"
                )
        for name in names:
            assert a[name].attrs.keys() == b[name].attrs.keys()
        assert json.loads(a.attrs["config"]) == json.loads(b.attrs["config"])


@pytest.mark.parametrize("copy", [False, True])
def test_merged_shards_are_what_one_run_writes(shards: list[Path], folder: Path, copy: bool) -> None:
    out = shards[0].parent / "merged.h5"
    report = merge(reversed(shards), out, copy=copy)
    assert (report.shards, report.planned, report.missing) == (N_SHARDS, PLAN.n, ())
    assert_same(out, folder / "whole.h5")
    assert verify(out).ok
    assert len(open_dataset(out, split="train", flat=True)) == len(
        open_dataset(folder / "whole.h5", split="train", flat=True)
    )
    with h5py.File(out) as h5:
        assert h5["colors"].is_virtual == (not copy)


def test_chunks_are_copied_and_not_compressed_again(shards: list[Path]) -> None:
    out = merge(shards, shards[0].parent / "merged.h5", copy=True).path
    with h5py.File(out) as a, h5py.File(shards[0]) as b:
        assert a["colors"].id.read_direct_chunk((0,) * 6) == b["colors"].id.read_direct_chunk((0,) * 6)
        assert a["colors"].id.get_storage_size() < a["colors"].nbytes / 2


def test_a_virtual_file_moves_with_its_shards_and_misses_them(shards: list[Path], tmp_path: Path) -> None:
    merge(shards, tmp_path / "merged.h5")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (*shards, tmp_path / "merged.h5"):
        path.rename(moved / path.name)
    assert verify(moved / "merged.h5").ok
    (moved / "s-2.h5").unlink()
    with pytest.raises(CorruptFile, match="refers to the shard .*s-2.h5, which is not there; put it back"):
        open_dataset(moved / "merged.h5")


@pytest.mark.parametrize("copy", [False, True])
def test_unfinished_shards_say_which_samples_they_lack(shards: list[Path], copy: bool) -> None:
    unfinished = replace(PLAN, shard="2/3")
    shards[1].unlink()
    model = Blobs()

    class Stops(Blobs):
        def mesh(self, *arguments: object) -> object:
            if Stops.left == 0:
                raise KeyboardInterrupt
            Stops.left -= 1
            return model.mesh(*arguments)

    Stops.left = 1
    assert write_dataset(Stops(), unfinished, shards[1]).done == 1
    out = shards[0].parent / "merged.h5"
    assert merge(shards, out, copy=copy).missing == (2,)
    assert [int(sample.index) for sample in open_dataset(out)] == [0, 1, 3, 4]
    with pytest.raises(ConfigError, match="was merged from shards; --resume those that lack samples"):
        write_dataset(model, PLAN, out, resume=True)
    write_dataset(model, unfinished, shards[1], resume=True)
    assert merge(shards, out, copy=copy, overwrite=True).missing == () and verify(out).ok


def test_a_sample_that_is_not_whole_is_named(shards: list[Path]) -> None:
    with h5py.File(shards[1], "r+") as h5:  # done, though its images were never written
        shape, chunks, about = h5["colors"].shape, h5["colors"].chunks, dict(h5["colors"].attrs)
        del h5["colors"]
        h5.create_dataset("colors", shape, "u1", chunks=chunks, compression="gzip").attrs.update(about)
    with pytest.raises(CorruptFile, match="s-2.h5: sample 0 cannot be read .*; write the file again"):
        merge(shards, shards[0].parent / "merged.h5", copy=True)
    assert not (shards[0].parent / "merged.h5").exists()


def test_files_are_read_one_after_the_other(shards: list[Path], folder: Path) -> None:
    whole = open_dataset(folder / "whole.h5")
    for several in (open_dataset(shards), open_dataset(str(shards[0].parent / "s-?.h5"))):
        assert [int(s.seed) for s in several] == [int(s.seed) for s in whole]
        for i in (0, 2, -1):
            np.testing.assert_array_equal(several.mesh(i).vertices, whole.mesh(i).vertices)
        for cut in (slice(1, 4), slice(None, None, 2), slice(None, None, -1), slice(-2, 0, -2), slice(2, 2)):
            some, wanted = several[cut], whole[cut]
            assert len(some) == len(wanted) and some.names == whole.names and len(some.indices) == len(some)
            assert [int(s.seed) for s in some] == [int(s.seed) for s in wanted]
    with pytest.raises(ConfigError, match=r"no file matches .*t-\*.h5; give the path"):
        open_dataset(str(shards[0].parent / "t-*.h5"))
    with pytest.raises(ConfigError, match="the list of files is empty"):
        open_dataset([])


def test_shards_that_do_not_belong_together(shards: list[Path], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    with pytest.raises(ConfigError, match="2 of 3 shards are missing: 1/3, 2/3; write and give them, too"):
        merge(shards[2:], out)
    with pytest.raises(ConfigError, match="s-1.h5 and .*s-1.h5 both are shard 1/3; give each shard once"):
        merge([*shards, shards[0]], out)
    other = tmp_path / "other.h5"
    write_dataset(Blobs(), replace(PLAN, seed=1, shard="2/3"), other)
    with pytest.raises(ConfigError, match="seed is 0 in .*s-1.h5, 1 in .*other.h5; merge shards of one plan"):
        merge([shards[0], other, shards[2]], out)
    with pytest.raises(ConfigError, match="shard is 3 in .*s-1.h5, 1 in .*whole.h5; merge shards"):
        merge([*shards, folder / "whole.h5"], out)
    with h5py.File(other, "r+") as h5:
        config = json.loads(h5.attrs["config"])
        del config["plan"]["shard"]
        h5.attrs["config"] = json.dumps(config)
    with pytest.raises(ConfigError, match="other.h5 does not say which shard it is"):
        merge([other], out)
    with pytest.raises(ConfigError, match="no shards are given"):
        merge([], out)
    with pytest.raises(ConfigError, match="s-1.h5 is one of the shards; choose another file"):
        merge(shards, shards[0], overwrite=True)
    with h5py.File(shards[1], "r+") as h5:
        config = json.loads(h5.attrs["config"])
        h5.attrs["config"] = json.dumps(config | {"model": {"name": "another"}})
    with pytest.raises(ConfigError, match="were written with two models; merge those of one"):
        merge(shards, out)
    assert not out.exists()


def test_an_existing_file_is_kept(shards: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    out.write_bytes(b"mine")
    with pytest.raises(ConfigError, match="out.h5 exists; --overwrite replaces it"):
        merge(shards, out)
    assert out.read_bytes() == b"mine"
    merge(shards, out, overwrite=True)
    write_dataset(Blobs(), replace(PLAN, n=1, split=()), tmp_path / "busy.h5")
    with DatasetWriter(tmp_path / "busy.h5"):
        with pytest.raises(ConfigError, match="is being written by another process"):
            merge(shards, tmp_path / "busy.h5", overwrite=True)


def test_shards_cover_all_samples_once() -> None:
    for n, count in ((5, 3), (10_000, 50), (7, 7), (1, 1)):
        numbers = [i for k in range(count) for i in Shard(k + 1, count).of(n)]
        assert numbers == list(range(n))
    assert str(Shard.parse("3/50")) == "3/50"
    for text in ("", "3", "0/3", "4/3", "1/0", "-1/3", "a/b", "1/" + "9" * 99):
        with pytest.raises(ConfigError, match="shard is "):
            Shard.parse(text)
    with pytest.raises(ConfigError, match="shard is 1/6, but there are only 5 samples; make fewer shards"):
        replace(PLAN, shard="1/6")
