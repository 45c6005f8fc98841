"""A category of one's own: a preset from a TOML file (docs/own-category.md).

The file names the preset it starts from, ``base``, and a ``name`` of its own; every other key and table
replaces the setting of the same name in ``config.Preset``. Units are those of the settings.
"""

import json
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from lift3d.config.presets import PRESETS, get_preset, with_profile
from lift3d.config.schema import Preset, Schedule, from_plain
from lift3d.errors import ConfigError
from lift3d.networks.encoders import LightEncoder, ViewEncoder

TOLERANCE = 2e-4  # of priors against what the encoders reach: numbers are written with four decimals
FRACTIONS = ("p_original", "jitter", "cooldown")  # settings from 0 to 1 in tables of others
OPTIONAL = ("n_surface_pixels",)  # counts of what may be left out


def open_preset(name: str, profile: str = "full") -> Preset:
    """The preset called ``name``, or the category in the file ``name``, if that ends in .toml."""
    return with_profile(read_category(name), profile) if name.endswith(".toml") else get_preset(name, profile)


def read_category(path: str | Path) -> Preset:
    """The preset in a TOML file. ``ConfigError`` names the key that is unknown, missing, of another type or
    out of range.
    """
    if not Path(path).is_file():
        raise ConfigError(f"there is no file {path}; give a preset ({', '.join(PRESETS)}) or a .toml file")
    try:
        given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # also of text that is not UTF-8
        raise ConfigError(f"{path} is not TOML: {error}") from error
    base = given.pop("base", None)
    if not isinstance(base, str) or base not in PRESETS:
        raise ConfigError(f"{path}: base is {base!r}, expected one of {', '.join(PRESETS)}")
    name = given.get("name")
    if not isinstance(name, str) or not name or name in PRESETS:
        raise ConfigError(f"{path}: name is {name!r}, expected one of your own, other than a preset's")
    try:
        preset = from_plain(Preset, _merged(json.loads(PRESETS[base].to_json()), given), str(path))
        problem = next((text for text in _problems(preset) if text), None)
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
    if problem:
        raise ConfigError(f"{path}: {problem}")
    return preset


def _merged(base: object, given: object) -> object:
    """``base`` with the values of ``given``, table by table; each [[instance]] starts from the base's."""
    if isinstance(base, dict) and isinstance(given, dict):
        return base | {key: _merged(base.get(key), value) for key, value in given.items()}
    tables = isinstance(given, list) and all(isinstance(item, dict) for item in given)
    if tables and given and isinstance(base, list) and base and isinstance(base[0], dict):
        return [_merged(base[min(i, len(base) - 1)], item) for i, item in enumerate(given)]
    return given


@dataclass(frozen=True)
class _Range:
    """Numbers that a setting may have."""

    low: int | float
    high: int | float = float("inf")

    def problem(self, name: str, value: int | float | tuple[float, ...]) -> str | None:
        """What is wrong with a setting, if anything."""
        values = value if isinstance(value, tuple) else (value,)
        if all(self.low <= v <= self.high for v in values):  # false for NaN
            return None
        limit = f"from {self.low:g} to {self.high:g}" if self.high < float("inf") else f">= {self.low:g}"
        return f"{name} is {value}, expected {'numbers' if isinstance(value, tuple) else 'a number'} {limit}"


def _problems(preset: Preset) -> list[str | None]:
    """What is wrong with values of the right type; None for what is not."""
    unit, positive, count = _Range(0, 1), _Range(1e-9, 1e9), _Range(1)
    found = [
        _Range(0.05, 0.98).problem("radii", preset.radii),
        unit.problem("truncation", preset.truncation),
        _Range(0, 0.45).problem("bars", preset.bars),
        positive.problem("encoder_width", preset.encoder_width),
        _Range(0.01, 3.15).problem("view_range", preset.view_range),
        positive.problem("light_range", preset.light_range),
        unit.problem("negative_range", preset.negative_range),
        _Range(0, 10).problem("view_prior.std", preset.view_prior.std),
        count.problem("sampling.n_coarse", preset.sampling.n_coarse),
        _Range(0).problem("sampling.n_fine", preset.sampling.n_fine),
        count.problem("n_code", preset.n_code),
        _Range(0).problem("n_unlabeled", preset.n_unlabeled),
    ]
    if preset.background is not None:
        found.append(unit.problem("background", preset.background))
    if preset.masks not in ("none", "background", "files", "auto"):
        found.append(f"masks is {preset.masks!r}, expected none, background, files or auto")
    if preset.masks in ("files", "auto") and preset.weights.mask == 0:
        found.append(f"masks is {preset.masks!r}, but weights.mask is 0: set it to 0.2, or masks to 'none'")
    if preset.masks == "background" and preset.background is None:
        found.append("masks is 'background', which needs background, a gray from 0 to 1")
    if preset.n_unlabeled and preset.background is None:
        found.append(f"n_unlabeled is {preset.n_unlabeled}, which needs background, a gray from 0 to 1")
    tables = {"weights": _Range(0, 1e9), "rates": positive, "batch": count, "shape": count, "material": count}
    for table, bounds in tables.items():
        for key, value in vars(getattr(preset, table)).items():
            if value is not None:
                limits = unit if key in FRACTIONS else _Range(0) if key in OPTIONAL else bounds
                found.append(limits.problem(f"{table}.{key}", value))
    named = [("joint", preset.joint), *((f"instance[{i}]", s) for i, s in enumerate(preset.instance))]
    found += [text for name, s in named if s is not None for text in _schedule_problems(name, s, preset)]
    return [*found, *_prior_problems(preset)]


def _schedule_problems(name: str, schedule: Schedule, preset: Preset) -> list[str | None]:
    found = [
        _Range(1).problem(f"{name}.{f.name}", getattr(schedule, f.name))
        for f in fields(Schedule)
        if f.type is int and f.name not in ("size", "latent")
    ]
    found += [_Range(0, 1e9 if preset.n_unlabeled else 0).problem(f"{name}.latent", schedule.latent)]
    found += [_Range(0, 1).problem(f"{name}.open_bands", schedule.open_bands)]
    found += [
        _Range(0, 1e9).problem(f"{name}.{key}", getattr(schedule, key))
        for key in ("smooth_albedo", "smooth_specular")
    ]
    if not preset.batch.patch <= schedule.size <= preset.size:
        found.append(
            f"{name}.size is {schedule.size}, expected a number from batch.patch ({preset.batch.patch}) to "
            f"size ({preset.size})"
        )
    if name == "joint" and schedule.size != preset.size:
        found.append(f"joint.size is {schedule.size}, expected size, {preset.size}")
    return found


def _prior_problems(preset: Preset) -> list[str | None]:
    """Views and lights that the encoders could never name."""
    found: list[str | None] = []
    views = ViewEncoder(preset.size, 1e-6)  # raises for a size that no encoder has
    lights = LightEncoder(preset.size, 1e-6, preset.light_range, preset.negative_range)
    view, light = preset.view_prior, preset.light_prior
    for sign in (-1, 1):
        ends = [m + sign * (limit if std else 0.0) for m, std, limit in zip(view.mean, view.std, view.limit)]
        end = torch.tensor(ends)
        if not torch.allclose(views.from_tanh(views.to_tanh(end)), end, atol=TOLERANCE):
            reach = [round(v, 4) for v in views.range.scale.tolist()]
            found.append(f"view_prior reaches {ends}, but mean +- limit must stay within +- {reach}")
    for i in range(2):
        diffuse = light.diffuse[i]
        end = torch.tensor(
            [
                light.level[i] - light.coupling * light.diffuse[1 - i],
                diffuse,
                light.l_x[i],
                light.l_y[i],
                light.negative[i],
            ]
        )
        if not torch.allclose(lights.from_tanh(lights.to_tanh(end)), end, atol=TOLERANCE):
            values = [round(v, 4) for v in end.tolist()]
            found.append(
                f"light_prior reaches (k_a, k_d, l_x, l_y, k_n) = {values}; k_a and k_d must stay within 0 "
                "and 1, l_x and l_y within +- light_range, k_n within 0 and negative_range"
            )
    return found
