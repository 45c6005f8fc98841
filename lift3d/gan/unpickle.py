"""Reads pickles without executing them: the names that are accepted, and what stands in for each.

Accepted is what StyleGAN2 files of NVLabs and rosinality contain; the stand-ins make inert records, storages
and tensors that are still unread. Nothing is imported. Neither Python's unpickler nor ``torch.load`` is used:
the first sizes its memo by a number in the file; the second grows storages to whatever shape a tensor claims,
inflates archives, and before PyTorch 2.6 could be made to execute code in spite of ``weights_only``. Errors
are predicates ("is damaged: ..."); ``load.py`` puts the file's name before them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from lift3d.errors import CheckpointError, CorruptFile
from lift3d.gan.machine import Budget, Inert, Machine, Name, key
from lift3d.gan.storages import DTYPES, Storage, StoredTensor

_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")

Names = Mapping[str, Callable[..., object] | None]


@dataclass(frozen=True)
class Persistent:
    """An NVLabs module: the name of its class, and its attributes. The source text beside them is ignored."""

    class_name: str
    state: dict[str, object]


def unpickle(data: memoryview, budget: Budget, storage: Callable[[object], Storage] | None = None) -> object:
    """The value in a pickle. ``storage`` finds the numbers of tensors that are stored outside of it."""
    nested = {"torch.storage._load_from_bytes": lambda blob: _nested_storage(memoryview(blob), budget)}
    return Machine(data, _finder(_NAMES | nested), budget, storage).run()


def unpickle_legacy(data: memoryview, budget: Budget, names: Names | None = None) -> object:
    """The value in a file of PyTorch before 1.6, or of ``_use_new_zipfile_serialization=False``.

    Four pickles (magic number, version, system, the value), one with the order of storages, then for each
    storage an eight-byte count and its numbers."""
    at = 0

    def following(names: Names, storage: Callable[[object], Storage] | None = None) -> object:
        nonlocal at
        machine = Machine(data, _finder(names), budget, storage, at)
        value, at = machine.run(), machine.at
        return value

    if following({}) != _LEGACY_MAGIC or following({}) != _LEGACY_PROTOCOL:
        raise CorruptFile("is damaged: it does not start like a file of PyTorch")
    system = following({})
    if type(system) is not dict or system.get("little_endian") is not True:
        raise CorruptFile("is damaged: its numbers are not little-endian")
    storages: dict[str, Storage] = {}
    numbers: dict[str, memoryview] = {}

    def storage(identity: object) -> Storage:
        dtype, name, count = storage_identity(identity)
        known = storages.setdefault(name, Storage(dtype, count, lambda: numbers[name]))
        if (known.dtype, known.count) != (dtype, count):
            raise CorruptFile("is damaged: it describes one storage in two ways")
        return known

    value, order = following(_NAMES if names is None else names, storage), following({})
    if type(order) is not list or sorted(map(str, map(key, order))) != sorted(storages):
        raise CorruptFile("is damaged: the storages it lists are not those it uses")
    for name in order:
        reader = Machine(data, _finder({}), budget, at=at)
        if reader.number("<q") != storages[name].count:
            raise CorruptFile("is damaged: a storage is not as long as announced")
        numbers[name], at = reader.take(storages[name].count * storages[name].dtype.itemsize), reader.at
    return value


def _nested_storage(data: memoryview, budget: Budget) -> Storage:
    """The numbers of a tensor in an NVLabs file: a legacy file that holds nothing but one storage."""
    value = unpickle_legacy(data, budget, dict.fromkeys(DTYPES))
    if not isinstance(value, Storage):
        raise CorruptFile("is damaged: a tensor's numbers are not a storage")
    return value


def storage_identity(identity: object) -> tuple[torch.dtype, str, int]:
    """Type, name and length in the persistent id ("storage", type, name, device, length[, None])."""
    if (
        type(identity) is tuple
        and len(identity) in (5, 6)
        and identity[0] == "storage"
        and not any(identity[5:])
    ):
        kind, name, count = identity[1], identity[2], identity[4]
        if (
            isinstance(kind, Name)
            and kind.name in DTYPES
            and type(name) is str
            and type(count) is int
            and count >= 0
        ):
            return DTYPES[kind.name], name, count
    raise CorruptFile("is damaged: a storage is not described as one")


# --- names ------------------------------------------------------------------------------------------


def _finder(names: Names) -> Callable[[str], Name]:
    """Accepts these names and no others."""

    def find(name: str) -> Name:
        if name not in names:
            raise _refusal(name)
        return Name(name, names[name])

    return find


def _refusal(name: str) -> CheckpointError | CorruptFile:
    """Why a file that asks for this global is not read, and what to do."""
    shown = name[:100] if name.isprintable() else ascii(name[:100])
    if name in ("dnnlib.tflib.network.Network", "tfutil.Network"):
        return CheckpointError(
            "is a TensorFlow pickle: convert it with `python legacy.py --source=IN.pkl --dest=OUT.pkl` of "
            "stylegan2-ada-pytorch or stylegan3 (StyleGAN2 only; needs no TensorFlow) and give OUT.pkl"
        )
    if name.startswith(("torch.nn.", "torchvision.")):
        return CheckpointError(
            f"is a whole network saved as a Python object ({shown}), such as a classifier: give a StyleGAN2 "
            "checkpoint that holds state_dicts"
        )
    return CorruptFile(
        f"asks for {shown}, which no StyleGAN2 checkpoint needs, and nothing in it was executed: get it from "
        "another source, or save only the state_dicts of its networks"
    )


def _inert(*arguments: object) -> Inert:
    return Inert(arguments)


def _empty_dict() -> dict:
    return {}


def _set(items: list) -> set:
    return set(map(key, items))


def _encode(text: str, encoding: str) -> bytes:
    return text.encode({"latin1": "latin1"}[encoding])


def _persistent(meta: dict) -> Persistent:
    if meta["type"] != "class" or meta["version"] != 6:
        raise CheckpointError(
            "has modules of an unknown version of torch_utils.persistence, expected version 6"
        )
    if type(meta["class_name"]) is not str or type(meta["state"]) is not dict:
        raise CorruptFile("is damaged: a module is not described as one")
    return Persistent(meta["class_name"], meta["state"])


def _tensor(
    storage: Storage,
    offset: int,
    shape: tuple,
    strides: tuple,
    _gradient: bool,
    hooks: dict,
    _metadata: object = None,
) -> StoredTensor:
    if not isinstance(storage, Storage) or type(shape) is not tuple or type(strides) is not tuple or hooks:
        raise CorruptFile("is damaged: a tensor is not described as one")
    return StoredTensor(storage, offset, shape, strides)


def _parameter(data: StoredTensor, _gradient: bool, hooks: dict) -> StoredTensor:
    if not isinstance(data, StoredTensor) or hooks:
        raise CorruptFile("is damaged: a parameter is not described as one")
    return data


def _scalar(dtype: Inert, data: bytes | memoryview) -> float | int | bool:
    """A NumPy number; its type is Inert((code, ...), (version, byte order, ...))."""
    code = dtype.arguments[0]
    if code not in _NUMBERS or (dtype.state is not None and dtype.state[1] == ">"):
        raise CorruptFile("is damaged: it has a number of an unknown type")
    (number,) = np.frombuffer(data, np.dtype(code))
    return number.item()


_NAMES: Names = {
    **dict.fromkeys(DTYPES),
    "__builtin__.set": _set,
    "_codecs.encode": _encode,
    "argparse.Namespace": _inert,
    "builtins.set": _set,
    "collections.OrderedDict": _empty_dict,
    "dnnlib.util.EasyDict": _empty_dict,
    "numpy._core.multiarray._reconstruct": _inert,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.multiarray._reconstruct": _inert,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.dtype": _inert,
    "numpy.ndarray": None,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
}
