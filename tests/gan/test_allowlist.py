"""Hostile GAN files: nothing in them runs, memory stays bounded, and each is refused in one sentence."""

import io
import json
import os
import pickle
import pickletools
import re
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import gan_files as files
import numpy as np
import pytest
import torch
from gan_files import dumps, saved
from torch import Tensor

from lift3d.errors import CorruptFile, Lift3DError
from lift3d.gan.config import GeneratorConfig
from lift3d.gan.pickle.allowlist import unpickle
from lift3d.gan.pickle.vm import Budget, Inert
from lift3d.gan.stylegan2 import Generator

PROTO, STOP = pickle.PROTO + b"\x04", pickle.STOP
G = GeneratorConfig((3, 2), z_dim=4, w_dim=4, n_mapping_layers=1)


class Call:
    """Pickled as a call of a function, as hostile files do it."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


def text(value: str) -> bytes:
    """Operations that push a text."""
    data = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def name(module: str, attribute: str) -> bytes:
    """Operations that push a global."""
    return text(module) + text(attribute) + pickle.STACK_GLOBAL


def number(value: int) -> bytes:
    """Operations that push an integer."""
    data = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(data)]) + data


def blob(value: object) -> bytes:
    """A nested file, as in ``torch.storage._load_from_bytes(blob)``."""
    data = value if isinstance(value, bytes) else saved(value, legacy=True)
    pushed = pickle.BINBYTES + struct.pack("<I", len(data)) + data
    return name("torch.storage", "_load_from_bytes") + pushed + pickle.TUPLE1 + pickle.REDUCE


SIX = next(
    argument for _, argument, _ in pickletools.genops(pickle.dumps(torch.zeros(6))) if type(argument) is bytes
)
NO_HOOKS = name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE


def tensor(shape: bytes, strides: bytes, offset: bytes = number(0), hooks: bytes = NO_HOOKS) -> bytes:
    """Operations that push a tensor, a view of six numbers."""
    values = pickle.MARK + blob(SIX) + offset + shape + strides + pickle.NEWFALSE + hooks + pickle.TUPLE
    return name("torch._utils", "_rebuild_tensor_v2") + values + pickle.REDUCE


def pair(a: int, b: int) -> bytes:
    return number(a) + number(b) + pickle.TUPLE2


def whole(*operations: bytes) -> bytes:
    """A pickle whose G_ema is what the operations push."""
    return PROTO + pickle.EMPTY_DICT + text("G_ema") + b"".join(operations) + pickle.SETITEM + STOP


def archive(
    pickled: bytes, entries: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED
) -> bytes:
    """A PyTorch archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        out.writestr("net/data.pkl", pickled)
        for key, content in (entries or {}).items():
            out.writestr(key, content)
    return file.getvalue()


def rosinality(
    change: Callable[[dict[str, Tensor]], object], config: GeneratorConfig = G, **keywords: bool
) -> bytes:
    state = files.rosinality_generator(Generator(config), **keywords)
    change(state)
    return saved({"g_ema": state, "latent_avg": torch.zeros(config.w_dim)})


def shared(state: dict[str, Tensor]) -> None:
    """Every tensor a view of one storage."""
    ground = torch.zeros(max(t.numel() for t in state.values()))
    for key, value in state.items():
        if not key.endswith("kernel"):
            state[key] = ground[: value.numel()].reshape(value.shape)


def cyclic() -> bytes:
    """A generator that contains itself."""
    record = files.nvlabs_generator(Generator(G))
    record.state["_modules"]["self"] = Same(record.state)
    return dumps(files.snapshot(record))


class Same(files.Stored):
    """A module with given attributes."""

    def __init__(self, state: dict) -> None:
        self.meta = {"type": "class", "version": 6, "class_name": "MappingNetwork", "state": state}


def overlapping_doubles() -> bytes:
    """Modules that share their children: few in the file, very many when walked."""
    leaf = files.Stored("FullyConnectedLayer", {}, {})
    for _ in range(30):
        leaf = files.Stored("FullyConnectedLayer", {}, {str(i): leaf for i in range(9)})
    record = files.nvlabs_generator(Generator(G))
    record.state["_modules"]["more"] = leaf
    return dumps(files.snapshot(record))


def safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


def metadata(text: str) -> bytes:
    """A safetensors file without tensors."""
    return safetensors(json.dumps({"__metadata__": {"lift3d": text}}).encode())


def cases(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Hostile files, and what must be said of each."""
    evil = Call(exec, f"open({str(marker)!r}, 'w')")
    command = Call(os.system, f"touch {marker}")
    exec_name = name("builtins", "exec")
    evil_arguments = text(f"open({str(marker)!r}, 'w')") + pickle.TUPLE1
    refused, damaged, bomb = "which no StyleGAN2 checkpoint needs", "is damaged", "is a pickle bomb"
    huge = struct.pack("<Q", 1 << 40)
    flood = 6_000_000
    deep = pickle.EMPTY_TUPLE + pickle.TUPLE1 * 100_000
    nine = pickle.MARK + number(1) * 9 + pickle.TUPLE
    big = GeneratorConfig((1,) * 10, z_dim=1, w_dim=1, n_mapping_layers=1)
    return {
        "reduce": (pickle.dumps({"G_ema": evil}, 4), "asks for builtins.exec"),
        "command": (pickle.dumps({"G_ema": command}, 2), "asks for (posix|nt).system"),
        "newobj": (whole(exec_name, evil_arguments, pickle.NEWOBJ), "asks for builtins.exec"),
        "newobj_ex": (whole(exec_name, evil_arguments, pickle.EMPTY_DICT, pickle.NEWOBJ_EX), refused),
        "inst": (
            PROTO + pickle.MARK + text("1") + pickle.INST + b"builtins\nexec\n" + STOP,
            "operation 0x69 is in no GAN",
        ),
        "obj": (
            PROTO + pickle.MARK + b"cbuiltins\nexec\n" + text("1") + pickle.OBJ + STOP,
            "asks for builtins.exec",
        ),
        "extension": (PROTO + pickle.EXT1 + b"\x01" + STOP, "operation 0x82 is in no GAN"),
        "text_id": (PROTO + pickle.PERSID + b"a\n" + STOP, "operation 0x50"),
        "dotted": (whole(name("torch._utils", "_rebuild_tensor_v2.__globals__")), refused),
        "getattr": (whole(name("builtins", "getattr")), "asks for builtins.getattr"),
        "import": (whole(name("importlib", "import_module")), refused),
        "unprintable": (whole(name("a\nb\x1b[31m", "c" * 5000)), r"asks for 'a\\nb\\x1b"),
        "torch_load": (whole(name("torch.serialization", "load")), refused),
        "in_blob": (whole(blob(evil)), "asks for __builtin__.exec"),
        "blob_in_blob": (whole(blob({"a": Call(torch.storage._load_from_bytes, b"x")})), "_load_from_bytes"),
        "tensor_in_blob": (whole(blob(torch.zeros(2))), "asks for torch._utils._rebuild_tensor_v2"),
        "dict_in_blob": (whole(blob({"a": 1})), "a tensor's numbers are not a storage"),
        "zip_in_blob": (whole(blob(saved(torch.zeros(2)))), f"{damaged}"),
        "text_in_blob": (
            whole(name("torch.storage", "_load_from_bytes") + text("x") + pickle.TUPLE1 + pickle.REDUCE),
            damaged,
        ),
        "in_archive": (saved({"g_ema": evil}), "asks for __builtin__.exec"),
        "in_legacy": (saved({"g_ema": evil}, legacy=True), "asks for __builtin__.exec"),
        "call_of_nothing": (
            whole(text("x") + pickle.EMPTY_TUPLE + pickle.REDUCE),
            "calls something that is no function",
        ),
        "call_of_a_type": (
            whole(name("numpy", "ndarray") + pickle.EMPTY_TUPLE + pickle.REDUCE),
            "calls something",
        ),
        "call_with_a_list": (
            whole(name("builtins", "set") + pickle.EMPTY_LIST + pickle.REDUCE),
            "calls something",
        ),
        "call_with_too_much": (
            whole(name("collections", "OrderedDict") + pair(1, 2) + pickle.REDUCE),
            damaged,
        ),
        "state_of_nothing": (
            whole(text("x") + pickle.EMPTY_DICT + pickle.BUILD),
            "a state to something that has none",
        ),
        "hooks": (
            whole(tensor(pair(2, 3), pair(3, 1), hooks=text("hook"))),
            "tensor is not described as one",
        ),
        "outside": (
            whole(tensor(pair(2, 3), pair(3, 1), number(1))),
            "tensor of shape 2 x 3 exceeds its storage of 6",
        ),
        "negative_stride": (whole(tensor(pair(2, 3), pair(-3, 1))), "no proper shape"),
        "negative_offset": (whole(tensor(pair(2, 3), pair(3, 1), number(-1))), "no proper shape"),
        "giant": (whole(tensor(pair(10**6, 10**6), pair(0, 0))), "exceeds its storage of 6"),
        "overflow": (whole(tensor(pair(1 << 63, 1 << 63), pair(0, 0))), r"10\^12\+ x 10\^12\+ exceeds"),
        "bool_shape": (
            whole(tensor(pickle.NEWTRUE + pickle.TUPLE1, number(1) + pickle.TUPLE1)),
            "no proper shape",
        ),
        "list_shape": (
            whole(tensor(pickle.EMPTY_LIST, pickle.EMPTY_LIST)),
            "a tensor is not described as one",
        ),
        "ragged_shape": (whole(tensor(pair(2, 3), number(1) + pickle.TUPLE1)), "no proper shape"),
        "many_axes": (whole(tensor(nine, nine)), "a tensor has 9 axes"),
        "copied_sets": (
            PROTO
            + pickle.EMPTY_LIST
            + pickle.BINPUT
            + b"\x00"
            + pickle.MARK
            + b"".join(pickle.BININT2 + struct.pack("<H", i) for i in range(60_000))
            + pickle.APPENDS
            + (b"cbuiltins\nset\n" + pickle.BINGET + b"\x00" + pickle.TUPLE1 + pickle.REDUCE) * 400
            + STOP,
            bomb,
        ),
        "copied_text": (
            PROTO
            + pickle.BINUNICODE
            + struct.pack("<I", 1 << 22)
            + b"a" * (1 << 22)
            + pickle.BINPUT
            + b"\x00"
            + (
                b"c_codecs\nencode\n"
                + pickle.BINGET
                + b"\x00"
                + pickle.SHORT_BINUNICODE
                + b"\x06latin1"
                + pickle.TUPLE2
                + pickle.REDUCE
            )
            * 400
            + STOP,
            bomb,
        ),
        "long_description": (_described_at_length(), "its description has 30000003 characters"),
        "far_memo": (
            PROTO + pickle.EMPTY_DICT + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f" + STOP,
            "something else than a GAN",
        ),
        "unknown_memo": (PROTO + pickle.BINGET + b"\x07" + STOP, f"{damaged}: its pickle makes no sense"),
        "far_bytes": (PROTO + pickle.BINBYTES8 + huge + STOP, "is truncated"),
        "far_array": (PROTO + pickle.BYTEARRAY8 + huge + STOP, "is truncated"),
        "far_text": (PROTO + pickle.BINUNICODE8 + huge + STOP, bomb),
        "far_integer": (PROTO + pickle.LONG4 + b"\xff\xff\xff\x7f" + STOP, "an integer of 2147483647 bytes"),
        "negative_integer": (PROTO + pickle.LONG4 + b"\xff\xff\xff\xff" + STOP, "is truncated"),
        "negative_text": (PROTO + pickle.BINSTRING + b"\xff\xff\xff\xff" + STOP, "is truncated"),
        "far_number": (PROTO + number(1 << 500) + STOP, "something else than a GAN"),
        "dicts": (PROTO + pickle.EMPTY_DICT * flood + STOP, bomb),
        "sets": (PROTO + pickle.EMPTY_SET * flood + STOP, bomb),
        "memos": (PROTO + pickle.EMPTY_LIST + pickle.MEMOIZE * flood + STOP, bomb),
        "deep": (PROTO + deep + STOP, "something else than a GAN"),
        "deep_key": (
            PROTO + pickle.EMPTY_DICT + deep + pickle.NONE + pickle.SETITEM + STOP,
            "a key that is neither",
        ),
        "deep_set": (
            PROTO + pickle.EMPTY_SET + pickle.MARK + deep + pickle.ADDITEMS + STOP,
            "a key that is neither",
        ),
        "deep_value": (whole(deep), "has no G_ema"),
        "colliding_keys": (
            PROTO + pickle.EMPTY_DICT + number((1 << 61) - 1) + pickle.NONE + pickle.SETITEM + STOP,
            "a key that is neither",
        ),
        "nan_key": (
            PROTO
            + pickle.EMPTY_DICT
            + pickle.BINFLOAT
            + struct.pack(">d", float("nan"))
            + pickle.NONE
            + pickle.SETITEM
            + STOP,
            "a key that is neither",
        ),
        "wide_text": (PROTO + text("\U0001f600" + "a" * 4_000_000) * 5 + STOP, bomb),
        "laughs": (
            PROTO + text("ha") + (pickle.MEMOIZE + pickle.BINGET + b"\x00" + pickle.TUPLE2) * 60 + STOP,
            "something else than a GAN",
        ),
        "odd_items": (
            PROTO + pickle.EMPTY_DICT + pickle.MARK + text("a") + pickle.SETITEMS + STOP,
            "fills something that is no container",
        ),
        "empty_stack": (PROTO + pickle.TUPLE2 + STOP, "takes more values than it has"),
        "no_stop": (PROTO + pickle.NONE, "is truncated"),
        "bad_text": (PROTO + pickle.SHORT_BINUNICODE + b"\x01\xff" + STOP, "makes no sense"),
        "cyclic_modules": (cyclic(), "far more modules than a StyleGAN2"),
        "exponential_modules": (overlapping_doubles(), "far more modules than a StyleGAN2"),
        "inflated": (
            archive(b"\x80\x02}.", {"net/data/0": bytes(40_000_000)}, zipfile.ZIP_DEFLATED),
            "is compressed inside",
        ),
        "inflated_storage": (_compressed_storage(), "is compressed inside"),
        "many_entries": (
            archive(b"\x80\x02}.", {f"net/{i}": b"" for i in range(21_000)}),
            "has 21001 entries, far more than a GAN",
        ),
        "two_pickles": (archive(b"\x80\x02}.", {"other/data.pkl": b"\x80\x02}."}), "but not one of PyTorch"),
        "big_endian": (archive(b"\x80\x02}.", {"net/byteorder": b"big"}), "not little-endian"),
        "missing_storage": (_without_storage(), "a storage is missing"),
        "wrong_checksum": (_flipped(), "the checksum of an entry"),
        "shared_storage": (
            rosinality(shared, GeneratorConfig((64, 64), z_dim=64, w_dim=64)),
            "its tensors overlap",
        ),
        "large_noise": (rosinality(lambda state: None, big, noises=False), "rosinality"),
        "long_header": (safetensors(b"{}", 1 << 60), "truncated or not a safetensors"),
        "deep_header": (safetensors(b'{"a":' + b"[" * 200_000), "truncated or not a safetensors"),
        "deep_metadata": (metadata("[" * 200_000), "truncated or not a"),
        "metadata_number": (metadata("9" * 10_000), "truncated or not a"),
        "metadata_list": (metadata("[]"), "was not written by lift3d"),
        "metadata_format": (metadata(json.dumps({"format": [[]]})), r"format '\[\[\]\]'|has format"),
        "no_configuration": (metadata('{"format": "lift3d.gan/2"}'), "its configuration is incomplete"),
    }


def _compressed_storage() -> bytes:
    """A PyTorch archive whose storages are deflated zeros."""
    state = {"g_ema": {"style.1.weight": torch.zeros(1000, 1000)}}
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(state))) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _described_at_length() -> bytes:
    header = json.dumps({"__metadata__": {"lift3d": "[" + "[]," * 10_000_000 + "1]"}}).encode()
    return struct.pack("<Q", len(header)) + header


def _without_storage() -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(rosinality(lambda state: None))) as old,
        zipfile.ZipFile(file, "w") as new,
    ):
        for entry in old.infolist():
            if not entry.filename.endswith("/data/3"):
                new.writestr(entry.filename, old.read(entry))
    return file.getvalue()


def _flipped() -> bytes:
    data = bytearray(rosinality(lambda state: state.update({"conv1.activate.bias": torch.full((3,), 0.125)})))
    data[data.index(struct.pack("<3f", 0.125, 0.125, 0.125))] ^= 1
    return bytes(data)


def test_hostile_files_do_nothing_but_fail(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    hostile = cases(marker)
    (tmp_path / "first").write_bytes(rosinality(lambda state: None))
    for key, (content, _) in hostile.items():
        (tmp_path / key).write_bytes(content)
    paths = [str(tmp_path / key) for key in ("first", *hostile)]
    code = Path(__file__).parents[1] / "gan_probe.py"
    done = subprocess.run([sys.executable, code, *paths], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert not marker.exists() and "SG_FIXTURE_PWNED" not in report["environment"]
    assert set(report["imported"]) <= {"encodings.cp437"}  # by zipfile
    first, *results = report["results"]
    assert first["outcome"] == "loaded"
    for result in results:
        sentence = hostile[result["file"]][1]
        assert re.search(sentence, result["message"]), (result, sentence)
        assert result["outcome"] in ("CheckpointError", "CorruptFile") or result["file"] == "large_noise", (
            result
        )
        assert "\n" not in result["message"] and len(result["message"]) < 500, result
        assert result["peak"] - report["memory"] <= 3 * result["size"] + 200e6, result
        assert result["seconds"] < 30, result


def value(*operations: bytes) -> object:
    """What a pickle of these operations holds."""
    data = PROTO + b"".join(operations) + STOP
    return unpickle(memoryview(data), Budget(len(data)))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_come_out_as_python_unpickles_them(protocol: int) -> None:
    shared_list = [1, -2, 3.5]
    plain = {
        "none": None,
        "flags": (True, False),
        "numbers": [0, 255, 256, 65536, -1, 1 << 31, -(1 << 40), (1 << 500) + 7, 1e-300, float("inf")],
        "texts": ["", "ä", "\U0001f600", "\ud800", "x" * 300],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "shared": [shared_list, shared_list],
        "nested": {1: {2: {3: []}}},
        "many": list(range(3000)),
        "ordered": OrderedDict(a=1, b=OrderedDict()),
        "numpy": [np.float64(0.1), np.float32(0.1), np.int64(-5), np.bool_(True)],
    }
    data = pickle.dumps(plain, protocol)
    found = unpickle(memoryview(data), Budget(len(data)))
    assert found == pickle.loads(data)
    assert found["shared"][0] is found["shared"][1]
    if protocol > 2:  # protocol 2 makes bytes of text
        assert bytes(unpickle(memoryview(pickle.dumps(b"\x00" * 300, protocol)), Budget(1))) == bytes(300)
    for elements in (set(), {"a", 3}):
        data = pickle.dumps(elements, protocol)
        assert unpickle(memoryview(data), Budget(len(data))) == elements


def test_tensors_come_out_as_they_went_in() -> None:
    base = torch.randn(4, 5, 6, 7)
    for original in (
        base,
        base[1:, ::2].transpose(0, 3),
        base[2, 3, 4, 5],
        base[:, :0],
        torch.nn.Parameter(base[0]),
    ):
        data = pickle.dumps(original)
        stored = unpickle(memoryview(data), Budget(len(data)))
        assert stored.shape == tuple(original.shape)
        assert torch.equal(stored.tensor(), original.detach())
    integers = unpickle(memoryview(pickle.dumps(torch.arange(3))), Budget(0))
    with pytest.raises(Lift3DError, match="weights of type torch.int64, expected floating-point"):
        integers.tensor()


def test_other_objects_become_records() -> None:
    made = value(
        name("argparse", "Namespace"), pickle.EMPTY_TUPLE, pickle.NEWOBJ, text("state"), pickle.BUILD
    )
    assert made == Inert((), "state")


def test_numbers_of_other_byte_orders_are_refused() -> None:
    state = pickle.MARK + number(3) + text(">") + pickle.NONE * 3 + number(-1) * 2 + number(0) + pickle.TUPLE
    dtype = name("numpy", "dtype") + text("f8") + pickle.TUPLE1 + pickle.REDUCE + state + pickle.BUILD
    scalar = name("numpy.core.multiarray", "scalar") + dtype + pickle.SHORT_BINBYTES + b"\x08" + bytes(8)
    with pytest.raises(CorruptFile, match="a number of an unknown type"):
        value(scalar, pickle.TUPLE2, pickle.REDUCE)
    with pytest.raises(CorruptFile, match="a number of an unknown type"):
        value(
            scalar.replace(text("f8"), text("O8")).replace(text(">"), text("<")), pickle.TUPLE2, pickle.REDUCE
        )
