"""Presets as TOML files: categories of one's own (docs/own-category.md), and presets written out.

A category names the preset it starts from, ``base``, and a ``name`` of its own; every other key and table
replaces the setting of the same name in ``config.Preset``. A file without ``base`` is a whole preset, as
``to_toml`` writes it; TOML has no null, so what it leaves out there is None. Units are those of the settings.
"""

import dataclasses
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

from lift3d.config.presets import PRESETS, get_preset, with_size
from lift3d.config.schema import Preset, from_plain
from lift3d.errors import ConfigError
from lift3d.settings import shown


def open_preset(name: str, profile: str = "full") -> Preset:
    """The preset called ``name``, or the category in the file ``name``, if that ends in .toml.

    Profile "quick" shrinks a preset, or the base of a category: what the file says stays.
    """
    return read_category(name, profile) if name.endswith(".toml") else get_preset(name, profile)


def read_category(path: str | Path, profile: str = "full") -> Preset:
    """The preset in a TOML file. ``ConfigError`` names the key that is unknown, missing, of another type or
    out of range.
    """
    given = _read(path)
    base = given.pop("base", None)
    if base is not None and (not isinstance(base, str) or base not in PRESETS):
        raise ConfigError(f"{path}: base is {shown(base)}, expected one of {', '.join(PRESETS)}")
    name = given.get("name")
    if not isinstance(name, str) or not name or (base is not None and name in PRESETS):
        raise ConfigError(f"{path}: name is {shown(name)}, expected one of your own, other than a preset's")
    try:
        if base is not None:
            start, size = get_preset(base, profile), given.get("size")
            if type(size) is int:  # schedules need not repeat it
                start = with_size(start, size)
            return from_plain(Preset, _merged(json.loads(start.to_json()), given), str(path))
        preset = from_plain(Preset, {"joint": None} | given, str(path))
    except ConfigError as error:
        hint = '; or start from a preset: base = "demo"' if not base and "is missing" in str(error) else ""
        place = "" if str(error).startswith(str(path)) else f"{path}: "
        raise ConfigError(f"{place}{error}{hint}") from error
    if profile != "full":
        raise ConfigError(
            f"{path} has no base and says every number itself, so profile {profile!r} would change nothing: "
            "leave the profile out"
        )
    return preset


def to_toml(config: object) -> str:
    """A preset, or another dataclass of settings, as TOML, with what each setting means; ``read_category``
    gives a preset back.
    """
    return "\n".join(_lines(config, "")).lstrip() + "\n"


def _read(path: str | Path) -> dict[str, object]:
    """What a TOML file says."""
    if not Path(path).is_file():
        raise ConfigError(f"there is no file {path}; give a preset ({', '.join(PRESETS)}) or a .toml file")
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply, expected tables of settings") from error
    except ValueError as error:  # also of text that is not UTF-8
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _merged(base: object, given: object) -> object:
    """``base`` with the values of ``given``, table by table; each [[instance]] starts from the base's."""
    if isinstance(base, dict) and isinstance(given, dict):
        return base | {key: _merged(base.get(key), value) for key, value in given.items()}
    tables = isinstance(given, list) and all(isinstance(item, dict) for item in given)
    if tables and given and isinstance(base, list) and base and isinstance(base[0], dict):
        return [_merged(base[min(i, len(base) - 1)], item) for i, item in enumerate(given)]
    return given


def _lines(config: object, table: str) -> Iterator[str]:
    """Settings of a dataclass, then its tables."""
    values = {f: getattr(config, f.name) for f in dataclasses.fields(config)}
    tables = {f: v for f, v in values.items() if dataclasses.is_dataclass(v) or _is_array_of_tables(v)}
    for f, value in values.items():
        if value is not None and f not in tables:
            about = f.metadata.get("setting")
            unit = f", {about.unit}" if about and about.unit else ""
            yield f"{f.name} = {_value(value)}" + (f"  # {about.doc}{unit}" if about else "")
    for f, value in tables.items():
        name = f"{table}.{f.name}" if table else f.name
        for item in value if isinstance(value, tuple) else (value,):
            yield f"\n[[{name}]]" if isinstance(value, tuple) else f"\n[{name}]"
            yield from _lines(item, name)


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and dataclasses.is_dataclass(value[0])


def _value(value: object) -> str:
    """A value as TOML writes it. Strings are JSON's, but for DEL, which TOML wants escaped."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
