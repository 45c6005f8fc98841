"""Reads pickles without executing them.

A pickle is a program for a stack machine, and Python's own machine calls whatever the program names. This one builds plain
values; for the few names that StyleGAN2 files of NVLabs and rosinality contain, it calls functions of this module, which make
inert records. Nothing is imported and no other name is accepted. Protocols 2 to 5.
It uses neither Python's unpickler nor ``torch.load``: the first sizes its memo by a number in the file; the second grows storages
to whatever shape a tensor claims, inflates archives, and before PyTorch 2.6 executed code in spite of ``weights_only``.
Time and memory are bounded by a ``Budget`` in proportion to the file, and byte strings stay views of the file.
Errors are predicates ("is damaged: ..."); ``load.py`` puts the file's name before them.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from lift3d.errors import CheckpointError, CorruptFile
from lift3d.gan.storages import DTYPES, Storage, StoredTensor

_BYTES_PER_OPERATION = 256  # what one operation leaves behind, at most on average
_FREE_BYTES = 100_000_000  # for operations, on top of the file's size
_FREE_TEXT = 16_000_000  # bytes; NVLabs files carry 40 kB of source text per network
_MAX_INTEGER = 64  # bytes
_MAX_KEY = 1 << 32  # for integers; larger ones can be made to collide
_MAX_NAME = 256  # bytes
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Budget:
    """What one file may still cost; the machines of nested pickles share it."""

    def __init__(self, file_size: int) -> None:
        self.operations = (_FREE_BYTES + file_size) // _BYTES_PER_OPERATION
        self.text = _FREE_TEXT


@dataclass
class Inert:
    """Stands for an object that is not rebuilt: what the file says about it."""

    arguments: tuple
    state: object = None


@dataclass(frozen=True)
class Persistent:
    """An NVLabs module: the name of its class and its attributes. The source text beside them is ignored."""

    class_name: str
    state: dict[str, object]


@dataclass(frozen=True)
class Name:
    """An accepted global, not imported; ``build`` stands in for calling it (None: the file may only mention it)."""

    name: str
    build: Callable[..., object] | None


Names = Mapping[str, Callable[..., object] | None]


class Machine:
    """Runs the pickle that starts at ``at``; ``storage`` turns the persistent ids of PyTorch's files into storages."""

    def __init__(
        self,
        data: memoryview,
        names: Names,
        budget: Budget,
        storage: Callable[[object], Storage] | None = None,
        at: int = 0,
    ) -> None:
        self.data, self.names, self.budget, self.storage, self.at = data, names, budget, storage, at
        self.stack: list = []
        self.below: list[list] = []  # the stacks under the open marks
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        """The value that the pickle describes; ``at`` ends up behind it."""
        try:
            while (code := self.take(1)[0]) != pickle.STOP[0]:
                self.budget.operations -= 1
                if self.budget.operations < 0:
                    raise CorruptFile("is a pickle bomb: it builds far more objects than a GAN has")
                if code not in _OPERATIONS:
                    raise CorruptFile(f"is damaged: pickle operation {code:#04x} is in no GAN file")
                _OPERATIONS[code](self)
            return self.pop(1)[0]
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CorruptFile(f"is damaged: its pickle makes no sense at byte {self.at}") from error

    def take(self, n: int) -> memoryview:
        """The next n bytes."""
        piece = self.data[self.at : self.at + n]
        if n < 0 or len(piece) < n:
            raise CorruptFile("is truncated: its pickle goes on behind the end of the file; get the file again")
        self.at += n
        return piece

    def number(self, layout: str) -> int | float:
        """The next number, in a layout of ``struct``."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def integer(self, n: int) -> int:
        """The next n bytes as a signed integer."""
        if n > _MAX_INTEGER:
            raise CorruptFile(f"is damaged: it has an integer of {n} bytes")
        return int.from_bytes(self.take(n), "little", signed=True)

    def text(self, n: int, encoding: str = "utf-8") -> str:
        """The next n bytes as text."""
        self.budget.text -= n
        if self.budget.text < 0:
            raise CorruptFile("is a pickle bomb: it holds far more text than a GAN has")
        return str(self.take(n), encoding, "surrogatepass")

    def line(self) -> str:
        """Text up to the next line break, which ends names in protocols 2 and 3."""
        text = self.text(bytes(self.data[self.at : self.at + _MAX_NAME]).index(b"\n"))
        self.take(1)
        return text

    def pop(self, n: int) -> list:
        """The n topmost values, the lowest first."""
        if len(self.stack) < n:
            raise CorruptFile("is damaged: its pickle takes more values than it has")
        values = self.stack[-n:]
        del self.stack[-n:]
        return values

    def push(self, value: object) -> None:
        """Puts a value on top."""
        self.stack.append(value)

    def mark(self) -> None:
        """Opens a group of values."""
        self.below.append(self.stack)
        self.stack = []

    def group(self) -> list:
        """The values since the last mark, which is closed."""
        values, self.stack = self.stack, self.below.pop()
        return values

    def remember(self, index: int) -> None:
        """Puts the topmost value into the memo."""
        self.memo[index] = self.stack[-1]

    def find(self, module: str, name: str) -> Name:
        """A global, if it is one of the accepted ones."""
        full = f"{module:s}.{name:s}"
        if full not in self.names:
            raise _refusal(full)
        return Name(full, self.names[full])

    def call(self, function: object, arguments: object) -> object:
        """What the stand-in for an accepted global makes of the arguments."""
        if not isinstance(function, Name) or function.build is None or type(arguments) is not tuple:
            raise CorruptFile("is damaged: its pickle calls something that is no function")
        return function.build(*arguments)

    def extend(self, values: list) -> None:
        """Adds to the list, set or dict (keys and values in turns) on top of the stack."""
        target = self.stack[-1]
        if type(target) is list:
            target.extend(values)
        elif type(target) is set:
            target.update(map(_key, values))
        elif type(target) is dict and len(values) % 2 == 0:
            target.update(zip(map(_key, values[::2]), values[1::2]))
        else:
            raise CorruptFile("is damaged: its pickle fills something that is no container")

    def build(self, state: object) -> None:
        """Gives the value on top of the stack its state; that of a dict (a state_dict's _metadata) is ignored."""
        target = self.stack[-1]
        if isinstance(target, Inert):
            target.state = state
        elif isinstance(target, np.dtype) and state[1] == ">":
            raise CorruptFile("is damaged: its numbers are big-endian")
        elif not isinstance(target, (np.dtype, dict)):
            raise CorruptFile("is damaged: its pickle gives a state to something that has none")


def _key(key: object) -> str | int:
    """A dict key: text or a small integer. (Deep tuples overflow the C stack when they are hashed.)"""
    if type(key) is str or (type(key) is int and abs(key) < _MAX_KEY):
        return key
    raise CorruptFile("is damaged: it has a key that is neither a text nor a small integer")


def _refusal(name: str) -> CheckpointError | CorruptFile:
    """Why a file that asks for this global is not read, and what to do."""
    shown = name[:100] if name.isprintable() else ascii(name[:100])
    if name in ("dnnlib.tflib.network.Network", "tfutil.Network"):
        return CheckpointError(
            "is a TensorFlow pickle: convert it with `python legacy.py --source=IN.pkl --dest=OUT.pkl` of stylegan2-ada-pytorch "
            "or stylegan3 (needs no TensorFlow, takes StyleGAN2 only) and give OUT.pkl"
        )
    if name.startswith(("torch.nn.", "torchvision.")):
        return CheckpointError(
            f"is a whole network saved as Python object ({shown}), such as a classifier: give a StyleGAN2 checkpoint that holds "
            "a state_dict"
        )
    return CorruptFile(
        f"asks for {shown}, which no StyleGAN2 checkpoint needs, and nothing in it was executed: get the file from another "
        "source, or save only the state_dict of its networks"
    )


def _operations() -> dict[int, Callable[[Machine], object]]:
    """What the machine does at each operation code."""
    effects: dict[bytes, Callable[[Machine], object]] = {
        pickle.PROTO: lambda m: m.take(1),
        pickle.FRAME: lambda m: m.take(8),
        pickle.MARK: lambda m: m.mark(),
        pickle.POP: lambda m: m.pop(1),
        pickle.POP_MARK: lambda m: m.group(),
        pickle.MEMOIZE: lambda m: m.remember(len(m.memo)),
        pickle.BINPUT: lambda m: m.remember(m.number("<B")),
        pickle.LONG_BINPUT: lambda m: m.remember(m.number("<I")),
        pickle.APPEND: lambda m: m.extend(m.pop(1)),
        pickle.APPENDS: lambda m: m.extend(m.group()),
        pickle.SETITEM: lambda m: m.extend(m.pop(2)),
        pickle.SETITEMS: lambda m: m.extend(m.group()),
        pickle.ADDITEMS: lambda m: m.extend(m.group()),
        pickle.BUILD: lambda m: m.build(*m.pop(1)),
    }
    values: dict[bytes, Callable[[Machine], object]] = {
        pickle.BINGET: lambda m: m.memo[m.number("<B")],
        pickle.LONG_BINGET: lambda m: m.memo[m.number("<I")],
        pickle.NONE: lambda m: None,
        pickle.NEWTRUE: lambda m: True,
        pickle.NEWFALSE: lambda m: False,
        pickle.EMPTY_TUPLE: lambda m: (),
        pickle.EMPTY_LIST: lambda m: [],
        pickle.EMPTY_DICT: lambda m: {},
        pickle.EMPTY_SET: lambda m: set(),
        pickle.BININT: lambda m: m.number("<i"),
        pickle.BININT1: lambda m: m.number("<B"),
        pickle.BININT2: lambda m: m.number("<H"),
        pickle.BINFLOAT: lambda m: m.number(">d"),
        pickle.LONG1: lambda m: m.integer(m.number("<B")),
        pickle.LONG4: lambda m: m.integer(m.number("<i")),
        pickle.SHORT_BINBYTES: lambda m: m.take(m.number("<B")),
        pickle.BINBYTES: lambda m: m.take(m.number("<I")),
        pickle.BINBYTES8: lambda m: m.take(m.number("<Q")),
        pickle.BYTEARRAY8: lambda m: m.take(m.number("<Q")),
        pickle.SHORT_BINUNICODE: lambda m: m.text(m.number("<B")),
        pickle.BINUNICODE: lambda m: m.text(m.number("<I")),
        pickle.BINUNICODE8: lambda m: m.text(m.number("<Q")),
        pickle.SHORT_BINSTRING: lambda m: m.text(m.number("<B"), "latin-1"),
        pickle.BINSTRING: lambda m: m.text(m.number("<i"), "latin-1"),
        pickle.TUPLE: lambda m: tuple(m.group()),
        pickle.TUPLE1: lambda m: tuple(m.pop(1)),
        pickle.TUPLE2: lambda m: tuple(m.pop(2)),
        pickle.TUPLE3: lambda m: tuple(m.pop(3)),
        pickle.FROZENSET: lambda m: frozenset(map(_key, m.group())),
        pickle.GLOBAL: lambda m: m.find(m.line(), m.line()),
        pickle.STACK_GLOBAL: lambda m: m.find(*m.pop(2)),
        pickle.REDUCE: lambda m: m.call(*m.pop(2)),
        pickle.NEWOBJ: lambda m: m.call(*m.pop(2)),
        pickle.BINPERSID: lambda m: m.storage(*m.pop(1)),
    }
    pushes = {code[0]: lambda m, value=value: m.push(value(m)) for code, value in values.items()}
    return {code[0]: effect for code, effect in effects.items()} | pushes


_OPERATIONS = _operations()


# --- stand-ins for the accepted names ------------------------------------------------------------------------------------


def _inert(*arguments: object) -> Inert:
    return Inert(arguments)


def _empty_dict() -> dict:
    return {}


def _set(items: list) -> set:
    return set(map(_key, items))


def _persistent(meta: dict) -> Persistent:
    class_name, state = meta["class_name"], meta["state"]
    if meta["type"] != "class" or meta["version"] != 6 or type(class_name) is not str or type(state) is not dict:
        raise CheckpointError("has modules of an unknown version of torch_utils.persistence, expected version 6")
    return Persistent(class_name, state)


def _tensor(
    storage: Storage, offset: int, shape: tuple, strides: tuple, _gradient: bool, hooks: dict, _metadata: object = None
) -> StoredTensor:
    if not isinstance(storage, Storage) or type(shape) is not tuple or type(strides) is not tuple or hooks:
        raise CorruptFile("is damaged: a tensor is not described as one")
    return StoredTensor(storage, offset, shape, strides)


def _parameter(data: StoredTensor, _gradient: bool, hooks: dict) -> StoredTensor:
    if not isinstance(data, StoredTensor) or hooks:
        raise CorruptFile("is damaged: a parameter is not described as one")
    return data


def _dtype(code: str, *_flags: object) -> np.dtype:
    if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
        raise CorruptFile("is damaged: it has numbers of an unknown type")
    return np.dtype(code)


def _scalar(dtype: np.dtype, data: bytes | memoryview) -> float | int | bool:
    if not isinstance(dtype, np.dtype):
        raise CorruptFile("is damaged: a number is not described as one")
    (number,) = np.frombuffer(data, dtype)
    return number.item()


def _encode(text: str, encoding: str) -> bytes:
    return text.encode({"latin1": "latin1"}[encoding])


_TENSOR_NAMES: Names = {
    **dict.fromkeys(DTYPES),
    "collections.OrderedDict": _empty_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
_ALL_NAMES: Names = {
    **_TENSOR_NAMES,
    "_codecs.encode": _encode,
    "__builtin__.set": _set,
    "builtins.set": _set,
    "argparse.Namespace": _inert,
    "dnnlib.util.EasyDict": _empty_dict,
    "numpy.dtype": _dtype,
    "numpy.ndarray": None,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.multiarray._reconstruct": _inert,
    "numpy._core.multiarray._reconstruct": _inert,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
}


# --- files -----------------------------------------------------------------------------------------------------------------


def unpickle(
    data: memoryview, budget: Budget, storage: Callable[[object], Storage] | None = None
) -> object:
    """The value in a pickle; the tensors of NVLabs files carry their numbers in nested files, other ones ask ``storage``."""
    nested = {"torch.storage._load_from_bytes": lambda blob: _nested_storage(memoryview(blob), budget)}
    return Machine(data, _ALL_NAMES | nested, budget, storage).run()


def unpickle_legacy(data: memoryview, budget: Budget) -> object:
    """The value in a file of PyTorch before 1.6 (or ``_use_new_zipfile_serialization=False``).

    Four pickles (magic number, version, system, value with persistent ids) and one with the order of storages, then for
    each storage an eight-byte count and its numbers.
    """
    return _legacy(data, budget, _ALL_NAMES)


def _nested_storage(data: memoryview, budget: Budget) -> Storage:
    value = _legacy(data, budget, dict.fromkeys(DTYPES))
    if not isinstance(value, Storage):
        raise CorruptFile("is damaged: a tensor's numbers are not a storage")
    return value


def _legacy(data: memoryview, budget: Budget, names: Names) -> object:
    at = 0

    def following(names: Names, storage: Callable[[object], Storage] | None = None) -> object:
        nonlocal at
        machine = Machine(data, names, budget, storage, at)
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
        dtype, key, count = storage_identity(identity)
        known = storages.setdefault(key, Storage(dtype, count, lambda: numbers[key]))
        if (known.dtype, known.count) != (dtype, count):
            raise CorruptFile("is damaged: it describes one storage in two ways")
        return known

    value, order = following(names, storage), following({})
    if type(order) is not list or len(order) != len(storages) or {_key(key) for key in order} != set(storages):
        raise CorruptFile("is damaged: the storages it lists are not those it uses")
    for key in order:
        size = storages[key].count * storages[key].dtype.itemsize
        reader = Machine(data, {}, budget, at=at)
        if reader.number("<q") != storages[key].count:
            raise CorruptFile("is damaged: a storage is not as long as announced")
        numbers[key], at = reader.take(size), reader.at
    return value


def storage_identity(identity: object) -> tuple[torch.dtype, str, int]:
    """dtype, key and number of elements in the persistent id ("storage", type, key, device, count[, None])."""
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage" or any(identity[5:]):
        raise CorruptFile("is damaged: a storage is not described as one")
    kind, key, count = identity[1], identity[2], identity[4]
    if not isinstance(kind, Name) or kind.name not in DTYPES or type(key) is not str or type(count) is not int or count < 0:
        raise CorruptFile("is damaged: a storage is not described as one")
    return DTYPES[kind.name], key, count
