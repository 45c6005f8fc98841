"""Kinds of generators, and how the description of a network is stored: its settings as JSON, and ``kind``."""

from dataclasses import Field, asdict, fields
from math import inf
from pathlib import Path
from typing import TypeVar

from torch import nn

from lift3d.checkpoint import listed
from lift3d.errors import CheckpointError, ConfigError
from lift3d.gan.alias_free import AliasFreeConfig
from lift3d.gan.config import DiscriminatorConfig, GeneratorConfig
from lift3d.gan.generator import StyleGenerator
from lift3d.gan.stylegan2 import Generator
from lift3d.gan.stylegan3 import AliasFreeGenerator

AnyGeneratorConfig = GeneratorConfig | AliasFreeConfig
Config = TypeVar("Config", GeneratorConfig, AliasFreeConfig, DiscriminatorConfig)

_KINDS = {"stylegan2": (GeneratorConfig, Generator), "stylegan3": (AliasFreeConfig, AliasFreeGenerator)}


def build_generator(config: AnyGeneratorConfig) -> StyleGenerator:
    """A new generator with these settings."""
    return next(network for settings, network in _KINDS.values() if type(config) is settings)(config)


def describe_generator(generator: nn.Module) -> dict:
    """Its kind and settings, which ``generator_config`` and ``new_generator`` read."""
    for kind, (_, network) in _KINDS.items():
        if type(generator) is network:
            return {"kind": kind, **asdict(generator.config)}
    raise ConfigError(
        f"the generator is of class {type(generator).__name__}, which files cannot hold: they hold "
        "StyleGAN2 and StyleGAN3"
    )


def generator_config(values: dict, path: str | Path) -> AnyGeneratorConfig:
    """The settings in a description; one without ``kind`` is of StyleGAN2. ``path`` is for errors."""
    kind = values.get("kind", "stylegan2")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise CheckpointError(
            f"{path}: the generator's kind is {ascii(kind)[:40]}, expected one of {', '.join(_KINDS)}; was "
            "it written by another version?"
        )
    return config_from(_KINDS[kind][0], {k: v for k, v in values.items() if k != "kind"}, path)


def new_generator(values: dict, path: str | Path) -> StyleGenerator:
    """A generator as described, its weights random."""
    return build_generator(generator_config(values, path))


def config_from(kind: type[Config], values: dict, path: str | Path) -> Config:
    """A config from its JSON form; unknown and missing keys are errors."""
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown or not isinstance(values.get("channels"), list):
        problem = f"unknown {listed(sorted(unknown))}" if unknown else "no 'channels'"
        raise CheckpointError(f"{path}: {kind.__name__} has {problem}; was it written by another version?")
    floats = {f.name: _as_float(values[f.name]) for f in fields(kind) if f.name in values and _takes_float(f)}
    return kind(**{**values, **floats, "channels": tuple(values["channels"])})


def _takes_float(f: Field) -> bool:
    return f.type in (float, float | None)


def _as_float(value: object) -> object:
    """JSON writes whole numbers of any length without a point; the longest are none that a range allows."""
    if type(value) is not int:
        return value
    return float(value) if abs(value) < 2**1023 else inf
