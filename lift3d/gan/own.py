"""Generators of one's own: any ``torch.nn.Module`` that is ``Liftable``, given as such or by the name of a
function that makes it, ``package.module:function``.

Files of lifted models hold StyleGAN2 and StyleGAN3 only. Of another generator they hold that name, and w_avg,
by which it is recognized; code is never run because a file says so (``generator_of``).
"""

import importlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from lift3d.errors import CheckpointError, ConfigError
from lift3d.gan.files.load import LoadedGan
from lift3d.gan.generator import StyleGenerator
from lift3d.gan.kinds import describe_generator

KIND = "own"  # of its description in a file
TRUSTED = "LIFT3D_GENERATOR"  # environment variable: the name of the function that may run
MEMBERS = ("z_dim", "w_dim", "h_dim", "resolution", "w_avg", "to_w", "to_image", "offset", "styles")
DIGITS = 4  # of w_avg in files
TOLERANCE = 0.02  # of the largest number of w_avg: machines differ in the last digits


def is_name(text: str) -> bool:
    """Whether this is package.module:function, and no file."""
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text) is not None and not Path(text).exists()


def as_gan(generator: nn.Module, source: str = "") -> LoadedGan:
    """A generator of one's own as what presets lift; ``ConfigError`` says what is missing or does not fit.

    Without a discriminator, images are compared by the generator's own ``features``, or as
    ``train.features`` says.
    """
    source = source or f"the generator of class {type(generator).__name__}"
    missing = [name for name in MEMBERS if not hasattr(generator, name)]
    if not isinstance(generator, nn.Module) or missing:
        lack = f"has no {', '.join(missing)}" if missing else "is no torch.nn.Module"
        raise ConfigError(f"{source} {lack}: docs/own-category.md lists what lifting asks of a generator")
    generator.requires_grad_(False).eval()
    with torch.no_grad():
        w = generator.to_w(torch.zeros(1, generator.z_dim).to(generator.w_avg))
        image, step = generator.to_image(w), generator.offset(w.new_zeros(1, generator.h_dim))
    side, width = generator.resolution, generator.w_dim
    for what, found, expected in (
        ("w_avg", generator.w_avg, (width,)),
        ("to_w(z)", w, (1, width)),
        ("to_image(w)", image, (1, 3, side, side)),
        ("offset(step)", step, (1, width)),
    ):
        if tuple(found.shape) != expected:
            raise ConfigError(f"{source}: {what} has the shape {tuple(found.shape)}, expected {expected}")
    return LoadedGan(generator, None, generator.w_avg, KIND, source, "not stated")


def import_generator(name: str) -> LoadedGan:
    """What the function package.module:function makes, called without arguments. Modules of the current
    folder are found, too. ``ConfigError`` where there is no such function.
    """
    module, _, function = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        make = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{name}: {error}; it must be installed, or lie in the current folder or on PYTHONPATH"
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(make):
        raise ConfigError(f"{name}: {module} has no function {function}, expected package.module:function")
    generator = make()
    gan = as_gan(generator, name)
    generator.made_by = name
    return gan


def describe(generator: nn.Module) -> dict:
    """What the file of a lifted model says of its generator."""
    if isinstance(generator, StyleGenerator):
        return describe_generator(generator)
    mean = [round(float(x), DIGITS) for x in generator.w_avg]
    return {"kind": KIND, "made_by": getattr(generator, "made_by", ""), "w_avg": mean}


def generator_of(about: Mapping[str, object], path: str | Path, given: nn.Module | None) -> nn.Module | None:
    """The generator that a file's description names; None where the file holds it. ``given``, or what the
    named function makes if the environment variable ``LIFT3D_GENERATOR`` says the same name.

    Raises ``ConfigError`` where it must be given or trusted first, ``CheckpointError`` for another generator.
    """
    if about.get("kind") != KIND:
        if given is not None:
            raise ConfigError(f"{path} holds its generator: leave yours out")
        return None
    name = about.get("made_by")
    if given is None:
        if not isinstance(name, str) or not is_name(name):
            raise ConfigError(
                f"{path} was lifted from a generator that is not in the file: pass it, "
                "lift3d.load(path, generator=...)"
            )
        if os.environ.get(TRUSTED) != name:
            raise ConfigError(
                f"{path} was lifted from the generator that {name} makes, which is code and not in the file: "
                f"set {TRUSTED}={name} in the environment if you trust it, or pass the generator, "
                "lift3d.load(path, generator=...)"
            )
        given = import_generator(name).generator
    gan, mean = as_gan(given), about.get("w_avg")
    numbers = isinstance(mean, list) and all(isinstance(x, int | float) for x in mean)
    then = torch.tensor(mean, dtype=torch.float64) if numbers else torch.zeros(0)
    now = gan.w_avg.detach().cpu().double()
    if then.shape != now.shape or (then - now).abs().max() > TOLERANCE * now.abs().max() + 10**-DIGITS:
        raise CheckpointError(
            f"{path} was lifted from another generator than {gan.source}: its w_avg differs"
        )
    return given
