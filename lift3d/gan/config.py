"""Settings of StyleGAN2 networks: everything that fixes their arithmetic except their tensors.

``channels[i]`` is the width of the block of r = 4 * 2^i, so ``channels`` fixes the resolution.
"""

import math
from dataclasses import dataclass
from typing import Literal, no_type_check

from lift3d.errors import ConfigError

Architecture = Literal["skip", "resnet", "orig"]
MAX_RESOLUTION = 2048
_MAX_WIDTH = 1 << 16
_MAX_LAYERS = 64  # of a mapping network


@no_type_check  # it checks its own values, which may come from files
@dataclass(frozen=True)
class GeneratorConfig:
    """A generator's settings."""

    channels: tuple[int, ...]  # width of the blocks r = 4, 8, ..., resolution
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0  # 0: unconditional
    n_mapping_layers: int = 8
    mapping_lr: float = 0.01  # learning-rate multiplier inside the mapping network
    architecture: Architecture = "skip"
    conv_clamp: float | None = None  # activations are clamped to +- this
    noise: bool = True  # False: layers have no noise inputs at all
    demodulation_eps: float = 1e-8
    demodulation_eps_per_input: bool = False  # rosinality: eps counts once per filter tap and input channel
    image_channels: int = 3

    def __post_init__(self) -> None:
        _check(self)
        check_number("z_dim", self.z_dim, 1)
        check_number("w_dim", self.w_dim, 1)
        check_positive("demodulation_eps", self.demodulation_eps)

    @property
    def resolution(self) -> int:
        return 4 << (len(self.channels) - 1)

    @property
    def n_ws(self) -> int:
        return 2 * len(self.channels)


@no_type_check  # it checks its own values, which may come from files
@dataclass(frozen=True)
class DiscriminatorConfig:
    """A discriminator's settings."""

    channels: tuple[int, ...]  # width of the blocks r = 4, 8, ..., resolution
    c_dim: int = 0  # 0: unconditional
    cmap_dim: int | None = (
        None  # width of the condition's embedding; None: channels[0], or 0 without a condition
    )
    n_mapping_layers: int = 8  # of the condition's mapping network
    mapping_lr: float = 0.01
    architecture: Architecture = "resnet"
    conv_clamp: float | None = None
    mbstd_group_size: int | None = 4  # None: the whole batch
    mbstd_features: int = 1  # 0: no minibatch statistics
    image_channels: int = 3

    def __post_init__(self) -> None:
        _check(self)
        check_number("mbstd_features", self.mbstd_features)
        if self.mbstd_group_size is not None:
            check_number("mbstd_group_size", self.mbstd_group_size, 1)
        if self.cmap_dim is not None:
            check_number("cmap_dim", self.cmap_dim)

    @property
    def resolution(self) -> int:
        return 4 << (len(self.channels) - 1)

    @property
    def condition_features(self) -> int:
        if self.c_dim == 0:
            return 0
        return self.channels[0] if self.cmap_dim is None else self.cmap_dim


def channels_for(resolution: int, base: int, maximum: int) -> tuple[int, ...]:
    """The published rule: min(base / r, maximum) for r = 4, 8, ..., resolution (a power of two >= 8)."""
    if resolution < 8 or resolution & (resolution - 1):
        raise ConfigError(f"resolution is {resolution}, expected a power of two of at least 8")
    return tuple(min(base // (4 << i), maximum) for i in range(resolution.bit_length() - 2))


def check_common(config: object) -> None:
    """What all networks have."""
    for width in config.channels:
        check_number("a width in channels", width, 1)
    check_number("c_dim", config.c_dim)
    check_number("image_channels", config.image_channels, 1)
    check_number("n_mapping_layers", config.n_mapping_layers, 1, _MAX_LAYERS)
    check_positive("mapping_lr", config.mapping_lr)
    if config.conv_clamp is not None:
        check_positive("conv_clamp", config.conv_clamp)


def _check(config: GeneratorConfig | DiscriminatorConfig) -> None:
    """What both networks of StyleGAN2 have."""
    channels = config.channels
    if not 2 <= len(channels) <= MAX_RESOLUTION.bit_length() - 2:
        raise ConfigError(
            f"channels has {len(channels)} widths, expected one for each r = 4, 8, ..., <= {MAX_RESOLUTION}"
        )
    check_common(config)
    if config.architecture not in ("skip", "resnet", "orig"):
        raise ConfigError(
            f"architecture is {shown(config.architecture)}, expected 'skip', 'resnet' or 'orig'"
        )


def check_number(name: str, value: object, low: int = 0, high: int = _MAX_WIDTH) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{name} is {shown(value)}, expected a whole number from {low} to {high}")


def check_positive(name: str, value: object) -> None:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ConfigError(f"{name} is {shown(value)}, expected a positive number")


def shown(value: object) -> str:
    """A value from a file for an error message, whatever it is."""
    return ascii(value)[:40] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
