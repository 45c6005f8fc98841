"""Files of tensors: round trip, atomic replacement, and what is refused."""

import builtins
import errno
import io
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from lift3d.checkpoint import fill, is_finite, read_tensors, write_tensors
from lift3d.errors import CheckpointError, CorruptFile


def test_round_trip_of_every_type_and_layout(tmp_path: Path) -> None:
    tensors = {
        "strided": torch.randn(4, 6)[:, ::2],
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "half": torch.randn(3).half(),
        "brain": torch.randn(3).bfloat16(),
        "integer": torch.arange(5),
        "flag": torch.tensor(True),
        "empty": torch.zeros(0, 3),
    }
    about = {"text": "ä\n", "numbers": [1, 2.5], "nothing": None}
    write_tensors(tmp_path / "a", tensors, about)
    found_about, found = read_tensors(tmp_path / "a")
    assert found_about == about and found.keys() == tensors.keys()
    assert all(torch.equal(found[k], tensors[k]) and found[k].dtype == tensors[k].dtype for k in tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_files_are_byte_for_byte_those_of_the_safetensors_library(tmp_path: Path) -> None:
    kinds = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    kinds += (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    rng = torch.Generator().manual_seed(0)
    tensors = {f"t{i}": (3 * torch.randn(3, 5, generator=rng)).to(kind) for i, kind in enumerate(kinds)}
    tensors |= {"none": torch.zeros(0, 2), "one": torch.tensor(2.5), 'ü"': tensors["t8"].T}
    about = {"text": "ä\n", "numbers": [1, 2.5]}
    write_tensors(tmp_path / "a", tensors, about)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    assert (tmp_path / "a").read_bytes() == save(contiguous, {"lift3d": json.dumps(about)})


class FullDisk(io.BytesIO):
    """A file that takes nothing."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    def write(self, data: bytes) -> int:
        raise OSError(self.code, "does not work")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, r"a could not be written: the disk is full; make 0 MB of room"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EIO, "does not work; choose a path in a folder that exists and that you may write"),
    ],
)
def test_failed_writing_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, sentence: str
) -> None:
    write_tensors(tmp_path / "a", {"x": torch.zeros(1)}, {"version": 1})
    opened = builtins.open

    def fail(path: Path, mode: str = "r") -> io.IOBase:
        if str(path).endswith(".partial"):
            opened(path, mode).close()
            return FullDisk(code)
        return opened(path, mode)

    monkeypatch.setattr(builtins, "open", fail)
    with pytest.raises(CheckpointError, match=sentence):
        write_tensors(tmp_path / "a", {"x": torch.ones(1)}, {"version": 2})
    monkeypatch.undo()
    assert read_tensors(tmp_path / "a")[0] == {"version": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_writing_into_no_folder(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="a could not be written: No such file or directory; choose a path"
    ):
        write_tensors(tmp_path / "no" / "a", {}, {})


def test_reading_what_is_no_file_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(CheckpointError, match="a does not exist"):
        read_tensors(path)
    for content in (b"PK\x03\x04 an archive", b"\x80\x04 a pickle"):
        path.write_bytes(content)
        with pytest.raises(
            CheckpointError, match="is a pickle or PyTorch checkpoint, .*`lift3d gan convert`"
        ):
            read_tensors(path)
    write_tensors(path, {"x": torch.zeros(100)}, {})
    whole = path.read_bytes()
    for n in (0, 4, 30, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(CorruptFile, match="a is truncated or not a safetensors file"):
            read_tensors(path)
    for metadata in (None, {"lift3d": "[1]"}, {"other": "{}"}):
        save_file({"x": torch.zeros(1)}, path, metadata)
        with pytest.raises(
            CheckpointError, match="was not written by lift3d: its metadata has no 'lift3d' entry"
        ):
            read_tensors(path)
    for text in ("{", "[" * 100_000, "1" * 5_000):
        save_file({"x": torch.zeros(1)}, path, {"lift3d": text})
        with pytest.raises(CorruptFile, match="is truncated or not a safetensors file"):
            read_tensors(path)


def test_filling_is_strict_and_all_or_nothing() -> None:
    module = nn.Linear(2, 3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    good = {
        "m.weight": torch.ones(3, 2, dtype=torch.float16),
        "m.bias": torch.ones(3),
        "other": torch.zeros(1),
    }
    for change, kind, sentence in (
        ({"m.bias": None}, CheckpointError, "f does not fit the network: missing bias, unexpected nothing"),
        ({"m.more": torch.zeros(1)}, CheckpointError, "missing nothing, unexpected more"),
        ({"m.bias": torch.zeros(2)}, CheckpointError, r"bias has shape \(2,\), the network expects \(3,\)"),
        ({"m.bias": torch.full((3,), torch.nan)}, CorruptFile, "bias holds values that are not finite"),
    ):
        tensors = {k: t for k, t in {**good, **change}.items() if t is not None}
        with pytest.raises(kind, match=sentence):
            fill(module, tensors, "m.", "f")
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    fill(module, good, "m.", "f")
    assert all(torch.equal(tensor, torch.ones_like(tensor)) for tensor in module.state_dict().values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finiteness(dtype: torch.dtype) -> None:
    for value in (torch.nan, torch.inf, -torch.inf):
        assert not is_finite(torch.tensor([0.0, value, 1.0], dtype=dtype))
        assert not is_finite(torch.tensor(value, dtype=dtype))
    assert is_finite(torch.tensor([torch.finfo(dtype).max, torch.finfo(dtype).min], dtype=dtype))
    assert (
        is_finite(torch.zeros(0, dtype=dtype))
        and is_finite(torch.arange(3))
        and is_finite(torch.tensor(True))
    )


def test_metadata_is_json(tmp_path: Path) -> None:
    from safetensors import safe_open

    write_tensors(tmp_path / "a", {}, {"a": 1})
    with safe_open(tmp_path / "a", "pt") as file:
        assert json.loads(file.metadata()["lift3d"]) == {"a": 1}
