"""Settings: fields of frozen dataclasses that carry their range, their unit and what they mean.

``check`` holds a configuration and the tables within it to their ranges; ``described`` lists all settings.
Ranges are closed, and those of a tuple hold for each of its numbers; None is allowed where the type says so.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field

from lift3d.errors import ConfigError

REQUIRED = MISSING  # default of a setting that must be given


@dataclass(frozen=True)
class Setting:
    """What is known of a field beside its type."""

    low: int | float | None  # None: no range
    high: int | float | None
    doc: str
    unit: str = ""
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The values in words: "0 to 1", "none, files or auto", "" where there is no limit."""
        if self.choices:
            return " or ".join((", ".join(self.choices[:-1]), self.choices[-1]))
        return "" if self.low is None else f"{_number(self.low)} to {_number(self.high)}"

    def problem(self, name: str, value: object) -> str | None:
        """What is wrong with a value, if anything."""
        if value is None or (self.low is None and not self.choices):
            return None
        if self.choices:
            return None if value in self.choices else f"{name} is {shown(value)}, expected {self.allowed}"
        values = value if isinstance(value, tuple) else (value,)
        if all(isinstance(v, int | float) and self.low <= v <= self.high for v in values):  # false for NaN
            return None
        kind = "numbers" if isinstance(value, tuple) else "a number"
        return f"{name} is {shown(value)}, expected {kind} from {self.allowed}"


def setting(default: object, *about: object) -> object:
    """A dataclass field of this default (or ``REQUIRED``); what follows are the fields of ``Setting``."""
    return field(default=default, metadata={"setting": Setting(*about)})


def check(config: object, table: str = "") -> None:
    """Raises ``ConfigError`` for the first setting of a dataclass or of its tables that is out of range."""
    for name, value, about in described(config, table):
        if problem := about.problem(name, value):
            raise ConfigError(problem)


def described(config: object, table: str = "") -> Iterator[tuple[str, object, Setting]]:
    """Full name (``joint.size``, ``instance[0].align``), value and description of every setting."""
    for f in dataclasses.fields(config):
        name, value = f"{table}.{f.name}" if table else f.name, getattr(config, f.name)
        if "setting" in f.metadata:
            yield name, value, f.metadata["setting"]
        elif dataclasses.is_dataclass(value):
            yield from described(value, name)
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                if dataclasses.is_dataclass(item):
                    yield from described(item, f"{name}[{i}]")


def shown(value: object) -> str:
    """A value as an error message quotes it, cut to one line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _number(x: int | float) -> str:
    return f"{x:,}" if isinstance(x, int) else f"{x:g}"
