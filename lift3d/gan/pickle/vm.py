"""A pickle VM that calls nothing.

A pickle is a program for a stack machine, and Python's own machine imports and calls whatever the program
names. This one builds plain values; ``names`` holds what stands in for the names in a pickle, and refuses
others. Protocols 2 to 5. Time and memory are bounded by a ``Budget`` in proportion to the file; byte
strings stay views of it. Errors are predicates ("is damaged: ..."); ``load.py`` puts the file's name before
them.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import no_type_check

from lift3d.errors import CorruptFile

_BYTES_PER_OPERATION = 256  # what one operation leaves behind, at most on average
_FREE_BYTES = 100_000_000  # for operations, on top of the file's size
_FREE_TEXT = 16_000_000  # bytes; NVLabs files carry 40 kB of source text per network
_MAX_INTEGER = 64  # bytes
_MAX_KEY = 1 << 32  # for integers; larger ones can be made to collide
_MAX_NAME = 256  # bytes


def _bomb(what: str) -> CorruptFile:
    return CorruptFile(
        f"is a pickle bomb: it builds far more {what} than a GAN has; get the GAN from elsewhere"
    )


def damaged(problem: str) -> CorruptFile:
    """The error for a file that contradicts itself."""
    return CorruptFile(f"is damaged: {problem}; get the file again from a source that you trust")


class Budget:
    """What one file may still cost; the VMs of nested pickles share it."""

    def __init__(self, file_size: int) -> None:
        self.operations = (_FREE_BYTES + file_size) // _BYTES_PER_OPERATION
        self.text = _FREE_TEXT

    def copy(self, n_bytes: int) -> None:
        """Pays for a copy, which a file can ask for again and again."""
        self.operations -= n_bytes // _BYTES_PER_OPERATION
        if self.operations < 0:
            raise _bomb("copies")


@dataclass
class Inert:
    """Stands for an object that is not rebuilt: what the file says about it."""

    arguments: tuple
    state: object = None


@dataclass(frozen=True)
class Name:
    """An accepted global, not imported; ``build`` stands in for calling it (None: it cannot be)."""

    name: str
    build: Callable[..., object] | None


@no_type_check  # there are no shapes here, and its methods run for every operation
@dataclass
class PickleVM:
    """Runs the pickle that starts at ``at``; ``persistent`` turns references to outside of it into values."""

    data: memoryview
    names: Mapping[str, Callable[..., object] | None]
    budget: Budget
    persistent: Callable[[object], object] | None = None
    at: int = 0
    stack: list = field(default_factory=list)
    below: list[list] = field(default_factory=list)  # the stacks under the open marks
    memo: dict[int, object] = field(default_factory=dict)

    def run(self) -> object:
        """The value that the pickle describes; ``at`` ends up behind it."""
        try:
            while (code := self.take(1)[0]) != pickle.STOP[0]:
                self.budget.operations -= 1
                if self.budget.operations < 0:
                    raise _bomb("objects")
                if code in _VALUES:
                    value = _VALUES[code](self)
                    self.stack.append(value)
                elif code in _EFFECTS:
                    _EFFECTS[code](self)
                else:
                    raise damaged(f"pickle operation {code:#04x} is in no GAN file")
            return self.pop(1)[0]
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise damaged(f"its pickle makes no sense at byte {self.at}") from error

    def take(self, n: int) -> memoryview:
        """The next n bytes."""
        piece = self.data[self.at : self.at + n]
        if n < 0 or len(piece) < n:
            raise CorruptFile(
                "is truncated: its pickle goes on behind the end of the file; get the file again"
            )
        self.at += n
        return piece

    def number(self, layout: str) -> int | float:
        """The next number, in a layout of ``struct``."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def integer(self, n: int) -> int:
        """The next n bytes as a signed integer."""
        if n > _MAX_INTEGER:
            raise damaged(f"it has an integer of {n} bytes")
        return int.from_bytes(self.take(n), "little", signed=True)

    def text(self, n: int, encoding: str = "utf-8") -> str:
        """The next n bytes as text."""
        self.budget.text -= n
        if self.budget.text < 0:
            raise _bomb("text")
        return str(self.take(n), encoding, "surrogatepass")

    def line(self) -> str:
        """Text up to the next line break, which ends names in protocols 2 and 3."""
        text = self.text(bytes(self.data[self.at : self.at + _MAX_NAME]).index(b"\n"))
        self.take(1)
        return text

    def pop(self, n: int) -> list:
        """The n topmost values, the lowest first."""
        if len(self.stack) < n:
            raise damaged("its pickle takes more values than it has")
        values = self.stack[-n:]
        del self.stack[-n:]
        return values

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

    def find(self, name: str) -> Name:
        """An accepted global."""
        return Name(name, self.names[name])

    def call(self, function: object, arguments: object) -> object:
        """What the stand-in for an accepted global makes of the arguments."""
        if not isinstance(function, Name) or function.build is None or type(arguments) is not tuple:
            raise damaged("its pickle calls something that is no function")
        return function.build(*arguments)

    def extend(self, values: list) -> None:
        """Adds to the list, set or dict (keys and values in turns) on top of the stack."""
        target = self.stack[-1]
        if type(target) is list:
            target.extend(values)
        elif type(target) is set:
            target.update(map(key, values))
        elif type(target) is dict and len(values) % 2 == 0:
            target.update(zip(map(key, values[::2]), values[1::2]))
        else:
            raise damaged("its pickle fills something that is no container")

    def build(self, state: object) -> None:
        """Gives the value on top of the stack its state. That of a dict (``_metadata``) is ignored."""
        target = self.stack[-1]
        if isinstance(target, Inert):
            target.state = state
        elif not isinstance(target, dict):
            raise damaged("its pickle gives a state to something that has none")


def key(value: object) -> str | int:
    """A dict key: text or a small integer. (Deep tuples overflow the C stack when they are hashed.)"""
    if type(value) is str or (type(value) is int and abs(value) < _MAX_KEY):
        return value
    raise damaged("it has a key that is neither a text nor a small integer")


_Operations = dict[int, Callable[[PickleVM], object]]

# What operations do to the VM.
_EFFECTS: _Operations = {
    pickle.PROTO[0]: lambda m: m.take(1),
    pickle.FRAME[0]: lambda m: m.take(8),
    pickle.MARK[0]: lambda m: m.mark(),
    pickle.POP[0]: lambda m: m.pop(1),
    pickle.POP_MARK[0]: lambda m: m.group(),
    pickle.MEMOIZE[0]: lambda m: m.remember(len(m.memo)),
    pickle.BINPUT[0]: lambda m: m.remember(m.number("<B")),
    pickle.LONG_BINPUT[0]: lambda m: m.remember(m.number("<I")),
    pickle.APPEND[0]: lambda m: m.extend(m.pop(1)),
    pickle.APPENDS[0]: lambda m: m.extend(m.group()),
    pickle.SETITEM[0]: lambda m: m.extend(m.pop(2)),
    pickle.SETITEMS[0]: lambda m: m.extend(m.group()),
    pickle.ADDITEMS[0]: lambda m: m.extend(m.group()),
    pickle.BUILD[0]: lambda m: m.build(*m.pop(1)),
}
# What operations put on top of the stack.
_VALUES: _Operations = {
    pickle.BINGET[0]: lambda m: m.memo[m.number("<B")],
    pickle.LONG_BINGET[0]: lambda m: m.memo[m.number("<I")],
    pickle.NONE[0]: lambda m: None,
    pickle.NEWTRUE[0]: lambda m: True,
    pickle.NEWFALSE[0]: lambda m: False,
    pickle.EMPTY_TUPLE[0]: lambda m: (),
    pickle.EMPTY_LIST[0]: lambda m: [],
    pickle.EMPTY_DICT[0]: lambda m: {},
    pickle.EMPTY_SET[0]: lambda m: set(),
    pickle.BININT[0]: lambda m: m.number("<i"),
    pickle.BININT1[0]: lambda m: m.number("<B"),
    pickle.BININT2[0]: lambda m: m.number("<H"),
    pickle.BINFLOAT[0]: lambda m: m.number(">d"),
    pickle.LONG1[0]: lambda m: m.integer(m.number("<B")),
    pickle.LONG4[0]: lambda m: m.integer(m.number("<i")),
    pickle.SHORT_BINBYTES[0]: lambda m: m.take(m.number("<B")),
    pickle.BINBYTES[0]: lambda m: m.take(m.number("<I")),
    pickle.BINBYTES8[0]: lambda m: m.take(m.number("<Q")),
    pickle.BYTEARRAY8[0]: lambda m: m.take(m.number("<Q")),
    pickle.SHORT_BINUNICODE[0]: lambda m: m.text(m.number("<B")),
    pickle.BINUNICODE[0]: lambda m: m.text(m.number("<I")),
    pickle.BINUNICODE8[0]: lambda m: m.text(m.number("<Q")),
    pickle.SHORT_BINSTRING[0]: lambda m: m.text(m.number("<B"), "latin-1"),
    pickle.BINSTRING[0]: lambda m: m.text(m.number("<i"), "latin-1"),
    pickle.TUPLE[0]: lambda m: tuple(m.group()),
    pickle.TUPLE1[0]: lambda m: tuple(m.pop(1)),
    pickle.TUPLE2[0]: lambda m: tuple(m.pop(2)),
    pickle.TUPLE3[0]: lambda m: tuple(m.pop(3)),
    pickle.FROZENSET[0]: lambda m: frozenset(map(key, m.group())),
    pickle.GLOBAL[0]: lambda m: m.find(f"{m.line()}.{m.line()}"),
    pickle.STACK_GLOBAL[0]: lambda m: m.find("{:s}.{:s}".format(*m.pop(2))),
    pickle.REDUCE[0]: lambda m: m.call(*m.pop(2)),
    pickle.NEWOBJ[0]: lambda m: m.call(*m.pop(2)),
    pickle.BINPERSID[0]: lambda m: m.persistent(*m.pop(1)),
}
