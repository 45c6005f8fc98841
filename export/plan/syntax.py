"""The one way to write a plan of views or lights: ``KIND:ARGUMENT,OPTION=NUMBER,...``.

A number alone stands for the kind "random": ``8`` is ``random:8``. Angles are degrees, lengths world units.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lift3d.errors import ConfigError
from lift3d.settings import shown

AT_MOST = 10_000  # views, or lights, of a sample
_OPTIONS = re.compile(r"((?:,[a-z_]+=[^,=]*)*)$")  # a file's name may hold commas


@dataclass(frozen=True)
class Phrase:
    """A plan as it was written."""

    what: str  # "views" or "lights", for messages
    kind: str
    argument: str
    options: dict[str, float]

    def count(self) -> int:
        """The argument as a number of views or lights."""
        if not (re.fullmatch("[0-9]{1,5}", self.argument) and 1 <= int(self.argument) <= AT_MOST):
            raise ConfigError(f"{self._name} is {shown(self.argument)}, expected a number, 1 to {AT_MOST:,}")
        return int(self.argument)

    def grid(self) -> tuple[int, int]:
        """The argument as columns and rows."""
        found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", self.argument)
        columns, rows = map(int, found.groups()) if found else (0, 0)
        if not 1 <= columns * rows <= AT_MOST:
            raise ConfigError(
                f"{self._name} is {shown(self.argument)}, expected COLUMNSxROWS such as 5x3, not more "
                f"than {AT_MOST:,}"
            )
        return columns, rows

    @property
    def _name(self) -> str:
        return self.what if self.kind == "random" else f"{self.what}: {self.kind}"


def parse(what: str, text: str, kinds: Mapping[str, tuple[str, ...]]) -> Phrase:
    """The parts of a plan; ``kinds`` has the options that each kind takes. ``ConfigError`` for what is none.

    The argument is left to the kind."""
    split = _OPTIONS.search(text)
    head, tail = text[: split.start()], split[1]
    kind, colon, argument = head.partition(":")
    if re.fullmatch(r"[+-]?[0-9]+", head):
        kind, colon, argument = "random", ":", head
    if kind not in kinds or not colon:
        known = ", ".join(f"{name}:…" for name in kinds)
        raise ConfigError(f"{what} are {shown(text)}, expected a number, or one of {known}")
    options = {}
    for part in tail.split(",")[1:]:
        name, _, value = part.partition("=")
        if name not in kinds[kind]:
            known = ", ".join(f"{known}=" for known in kinds[kind]) or "none"
            raise ConfigError(f"{what}: {kind} has no option {name}=, its options are {known}")
        options[name] = number(f"{what}: {name}", value)
    return Phrase(what, kind, argument, options)


def digest(array: NDArray) -> str:
    """What tells numbers of one's own from others, in a plan's text."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number within a range, from text or a file. ``ConfigError`` names it otherwise."""
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        found = None
    if found is None or not math.isfinite(found) or not low <= found <= high:
        limits = "" if low == -math.inf and high == math.inf else f" from {low:g} to {high:g}"
        raise ConfigError(f"{name} is {shown(value)}, expected a number{limits}")
    return found


def written(head: str, **options: tuple[float | None, float | None]) -> str:
    """A plan's text; ``options`` are (value, default), and those that differ are said."""
    said = [f",{name}={value:.9g}" for name, (value, default) in options.items() if value != default]
    return head + "".join(said)
