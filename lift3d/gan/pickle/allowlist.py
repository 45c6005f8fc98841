"""Reads pickles without executing them: the names that are accepted, and what stands in for each.

Accepted is what StyleGAN2 files of NVLabs and rosinality contain; the stand-ins make inert records, storages
and tensors that are still unread. Nothing is imported. Neither Python's unpickler nor ``torch.load`` is used:
the first sizes its memo by a number in the file; the second grows storages to whatever shape a tensor claims,
inflates archives, and before PyTorch 2.6 could be made to execute code in spite of ``weights_only``. Errors
are predicates ("is damaged: ..."); ``load.py`` puts the file's name before them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from lift3d.errors import CheckpointError, CorruptFile
from lift3d.gan.pickle.tensors import DTYPES, Storage, StoredTensor
from lift3d.gan.pickle.vm import Budget, Inert, Name, PickleVM, damaged, key

_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_SET_ITEM = 128  # bytes
_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


class Names(dict[str, Callable[..., object] | None]):
    """Accepted globals and their stand-ins (None: not to be called). Any other is refused with a remedy."""

    def __missing__(self, name: str) -> None:
        raise _refusal(name)


@dataclass(frozen=True)
class Persistent:
    """An NVLabs module: the name of its class, and its attributes. The source text beside them is ignored."""

    class_name: str
    state: dict[str, object]


def unpickle(data: memoryview, budget: Budget, storage: Callable[[object], Storage] | None = None) -> object:
    """The value in a pickle. ``storage`` finds the numbers of tensors that are stored outside of it."""

    def unique(items: list) -> set:
        budget.copy(_SET_ITEM * len(items))
        return set(map(key, items))

    def encode(text: str, encoding: str) -> bytes:
        budget.copy(len(text))
        return text.encode({"latin1": "latin1"}[encoding])

    nested = {
        "torch.storage._load_from_bytes": lambda blob: _nested_storage(memoryview(blob), budget),
        "_codecs.encode": encode,
        "builtins.set": unique,
        "__builtin__.set": unique,
    }
    return PickleVM(data, Names(_NAMES | nested), budget, storage).run()


def unpickle_legacy(data: memoryview, budget: Budget) -> object:
    """The value in a file of PyTorch before 1.6, or of ``_use_new_zipfile_serialization=False``."""
    return _Legacy(data, budget).value(_NAMES)


class _Legacy:
    """Four pickles (magic number, version, system, the value), one with the order of storages, then those:
    an eight-byte count and the numbers of each.
    """

    def __init__(self, data: memoryview, budget: Budget) -> None:
        self.data, self.budget, self.at = data, budget, 0
        self.storages: dict[str, Storage] = {}
        self.numbers: dict[str, memoryview] = {}

    def value(self, names: Names) -> object:
        """The fourth pickle's value, whose tensors can be read."""
        if self._next(Names()) != _LEGACY_MAGIC or self._next(Names()) != _LEGACY_PROTOCOL:
            raise damaged("it does not start like a file of PyTorch")
        system = self._next(Names())
        if type(system) is not dict or system.get("little_endian") is not True:
            raise damaged("its numbers are not little-endian")
        value, order = self._next(names), self._next(Names())
        if type(order) is not list or sorted(str(key(name)) for name in order) != sorted(self.storages):
            raise damaged("the storages it lists are not those it uses")
        for name in order:
            reader = PickleVM(self.data, Names(), self.budget, at=self.at)
            storage = self.storages[name]
            if reader.number("<q") != storage.count:
                raise damaged("a storage is not as long as announced")
            self.numbers[name], self.at = reader.take(storage.count * storage.dtype.itemsize), reader.at
        return value

    def _next(self, names: Names) -> object:
        vm = PickleVM(self.data, names, self.budget, self._storage, self.at)
        value, self.at = vm.run(), vm.at
        return value

    def _storage(self, identity: object) -> Storage:
        dtype, name, count = storage_identity(identity)
        numbers = self.numbers  # not self: a cycle would keep the file's bytes
        known = self.storages.setdefault(name, Storage(dtype, count, lambda: numbers[name]))
        if (known.dtype, known.count) != (dtype, count):
            raise damaged("it describes one storage in two ways")
        return known


def _nested_storage(data: memoryview, budget: Budget) -> Storage:
    """The numbers of a tensor in an NVLabs file: a legacy file that holds nothing but one storage."""
    value = _Legacy(data, budget).value(_STORAGE_NAMES)
    if not isinstance(value, Storage):
        raise damaged("a tensor's numbers are not a storage")
    return value


def storage_identity(identity: object) -> tuple[torch.dtype, str, int]:
    """Type, name and length in the persistent id ("storage", type, name, device, length[, None])."""
    match identity:
        case ("storage", Name(kind), str(name), _, int(count), *rest):
            if kind in DTYPES and count >= 0 and not any(rest):
                return DTYPES[kind], name, count
    raise damaged("a storage is not described as one")


# --- names ------------------------------------------------------------------------------------------


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


def _persistent(meta: dict) -> Persistent:
    if meta["type"] != "class" or meta["version"] != 6:
        raise CheckpointError(
            "has modules of an unknown version of torch_utils.persistence, expected version 6"
        )
    if type(meta["class_name"]) is not str or type(meta["state"]) is not dict:
        raise damaged("a module is not described as one")
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
        raise damaged("a tensor is not described as one")
    return StoredTensor(storage, offset, shape, strides)


def _parameter(data: StoredTensor, _gradient: bool, hooks: dict) -> StoredTensor:
    if not isinstance(data, StoredTensor) or hooks:
        raise damaged("a parameter is not described as one")
    return data


def _scalar(dtype: Inert, data: bytes | memoryview) -> float | int | bool:
    """A NumPy number; its type is Inert((code, ...), (version, byte order, ...))."""
    code = dtype.arguments[0]
    if code not in _NUMBERS or (dtype.state is not None and dtype.state[1] == ">"):
        raise damaged("it has a number of an unknown type")
    (number,) = np.frombuffer(data, np.dtype(code))
    return number.item()


_STORAGE_NAMES = Names.fromkeys(DTYPES)
_NAMES = Names(
    {
        **_STORAGE_NAMES,
        "argparse.Namespace": _inert,
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
)
