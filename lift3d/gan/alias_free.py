"""The design of an alias-free generator: from a few settings to the numbers of every layer.

Source: Karras et al., "Alias-Free Generative Adversarial Networks" (StyleGAN3), 2021, section 3.2 and
appendices C and F. Frequencies and rates are in cycles and samples per image side: s sampling rate, f_c
cutoff, f_t least stopband, f_h half width of the transition band. A layer's canvas is wider than its image by
``margin`` samples on every side, so that what enters from outside has no border.
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np

from lift3d.errors import ConfigError
from lift3d.gan.config import MAX_RESOLUTION, check_common, check_number, check_positive

_MAX_FACTOR = 16  # between the rates of one layer


@dataclass(frozen=True)
class Band:
    """A signal between layers."""

    channels: int
    size: int  # samples per side of the canvas
    rate: int  # s, samples per image side
    cutoff: float  # f_c
    half_width: float  # f_h


@dataclass(frozen=True)
class LayerDesign:
    """One layer: modulated convolution at the rate of its input, nonlinearity at ``rate``, filtered on both
    ways.
    """

    name: str
    input: Band
    output: Band
    conv_size: int
    is_image: bool  # the last one: linear, without filters
    is_critical: bool  # its band reaches up to half its rate
    rate: int  # at which the nonlinearity acts
    up: int  # from the input's rate to it
    down: int  # from there to the output's rate
    up_taps: int  # 1: no filter
    down_taps: int
    radial: bool  # the downsampling filter has circular symmetry
    padding: tuple[int, int]  # zeros before and after a row at ``rate``; below 0: samples left out


@no_type_check  # it checks its own values, which may come from files
@dataclass(frozen=True)
class AliasFreeConfig:
    """An alias-free generator's settings. The defaults are the published ones of configuration T; R has
    ``conv_size`` 1, ``radial`` filters and twice the channels.
    """

    channels: tuple[int, ...]  # width of every layer but the image layer; the first is also the input's
    resolution: int = 256  # pixels per side, a power of two
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0  # 0: unconditional
    n_mapping_layers: int = 2
    mapping_lr: float = 0.01  # learning-rate multiplier inside the mapping network
    n_critical: int = 2  # last layers whose cutoff is half the resolution
    first_cutoff: float = 2.0  # f_c of the input
    first_stopband: float = 2**2.1  # f_t of the input
    last_stopband_rel: float = 2**0.3  # f_t of the image over its f_c
    margin: int = 10
    conv_size: int = 3
    filter_size: int = 6  # taps of a filter per sample of the lower rate
    oversampling: int = 2  # of the nonlinearities
    radial: bool = False  # circular downsampling filters, except in critical layers
    conv_clamp: float | None = 256.0  # activations are clamped to +- this
    output_scale: float = 0.25
    image_channels: int = 3

    def __post_init__(self) -> None:
        check_common(self)
        for name in ("z_dim", "w_dim", "filter_size"):
            check_number(name, getattr(self, name), 1, 32 if name == "filter_size" else 1 << 16)
        check_number("a number of layers", len(self.channels), 2, 64)
        check_number("n_critical", self.n_critical, 1, len(self.channels) - 1)
        check_number("resolution", self.resolution, 8, MAX_RESOLUTION)
        check_number("margin", self.margin, 0, 256)
        check_number("oversampling", self.oversampling, 1, 8)
        for name in ("first_cutoff", "first_stopband", "last_stopband_rel", "output_scale"):
            check_positive(name, getattr(self, name))
        if self.resolution & (self.resolution - 1):
            raise ConfigError(f"resolution is {self.resolution}, expected a power of two")
        if self.conv_size not in (1, 3, 5, 7) or type(self.radial) is not bool:
            raise ConfigError("conv_size or radial is unusable, expected 1, 3, 5 or 7 and true or false")
        _check_bands(self)

    @property
    def n_ws(self) -> int:
        """One w for the input, one per layer."""
        return len(self.channels) + 2


def bands(config: AliasFreeConfig) -> tuple[Band, ...]:
    """The output of every layer; the first is that of the input, too. Eq. 6 of appendix C: cutoffs and
    stopbands grow geometrically until the first critical layer.
    """
    n, last_cutoff = len(config.channels), config.resolution / 2
    share = np.minimum(np.arange(n + 1) / (n - config.n_critical), 1)
    last_stopband = last_cutoff * config.last_stopband_rel
    cutoffs = config.first_cutoff * (last_cutoff / config.first_cutoff) ** share
    stopbands = config.first_stopband * (last_stopband / config.first_stopband) ** share
    rates = np.exp2(np.ceil(np.log2(np.minimum(2 * stopbands, config.resolution))))
    half_widths = np.maximum(stopbands, rates / 2) - cutoffs
    sizes = [int(rate) + 2 * config.margin for rate in rates[:-2]] + [config.resolution] * 2
    widths = (*config.channels, config.image_channels)
    return tuple(
        Band(width, size, int(rate), float(cutoff), float(half_width))
        for width, size, rate, cutoff, half_width in zip(
            widths, sizes, rates, cutoffs, half_widths, strict=True
        )
    )


def layer_designs(config: AliasFreeConfig) -> tuple[LayerDesign, ...]:
    """All layers, the image layer last."""
    outputs, n = bands(config), len(config.channels)
    return tuple(_layer(config, i, outputs[max(i - 1, 0)], outputs[i]) for i in range(n + 1))


def alias_free_channels(
    resolution: int, base: int = 32768, maximum: int = 512, n_layers: int = 14
) -> tuple[int, ...]:
    """The published rule for ``channels``: min(base / (2 f_c), maximum), rounded."""
    first, n_critical = AliasFreeConfig.first_cutoff, AliasFreeConfig.n_critical
    cutoffs = first * (resolution / 2 / first) ** np.minimum(np.arange(n_layers) / (n_layers - n_critical), 1)
    return tuple(int(width) for width in np.rint(np.minimum(base / 2 / cutoffs, maximum)))


def small_alias_free_config(
    resolution: int, base: int, maximum: int, **settings: int | float
) -> AliasFreeConfig:
    """Configuration T for any size: two layers an octave between the input's cutoff and the image's, so at
    256 pixels the published 14, which are also the most; margins of at most an eighth of the side.

    Activations are not clamped, which only half precision needs and takes a quarter of the time on a CPU.
    """
    if resolution < 16 or resolution & (resolution - 1):
        raise ConfigError(
            f"resolution is {resolution}, expected a power of two of at least 16 for a StyleGAN3"
        )
    n_layers = min(2 * (resolution.bit_length() - 3) + 2, 14)
    return AliasFreeConfig(
        alias_free_channels(resolution, base, maximum, n_layers),
        resolution,
        margin=min(resolution // 8, 10),
        conv_clamp=None,
        **settings,
    )


def _layer(config: AliasFreeConfig, i: int, before: Band, after: Band) -> LayerDesign:
    n = len(config.channels)
    is_image, is_critical = i == n, i >= n - config.n_critical
    rate = max(before.rate, after.rate) * (1 if is_image else config.oversampling)
    up, down = rate // before.rate, rate // after.rate
    up_taps, down_taps = (
        config.filter_size * factor if factor > 1 and not is_image else 1 for factor in (up, down)
    )
    conv_size = 1 if is_image else config.conv_size
    # What the output needs before downsampling, less what upsampling makes of the convolution's output.
    total = (after.size - 1) * down + 1 - (before.size + conv_size - 1) * up + up_taps + down_taps - 2
    first = (total + up) // 2  # samples lie in the middle of their cells (appendix C.3)
    return LayerDesign(
        f"L{i}_{after.size}_{after.channels}",
        before,
        after,
        conv_size,
        is_image,
        is_critical,
        rate,
        up,
        down,
        up_taps,
        down_taps,
        config.radial and not is_critical,
        (first, total - first),
    )


def _check_bands(config: AliasFreeConfig) -> None:
    """Refuses settings whose layers do not fit together."""
    n = len(config.channels)
    with np.errstate(all="ignore"):
        highest = config.resolution / 2 / config.first_cutoff, config.first_stopband / config.resolution
        usable = 1 <= highest[0] <= MAX_RESOLUTION and highest[1] <= 1 and 0.5 <= config.first_stopband
        if config.last_stopband_rel > 16:
            raise ConfigError(f"last_stopband_rel is {config.last_stopband_rel}, expected at most 16")
        if not usable:
            raise ConfigError(
                f"first_cutoff {config.first_cutoff} and first_stopband {config.first_stopband} do not suit "
                f"a resolution of {config.resolution}"
            )
        outputs = bands(config)
    if outputs[-1].rate != config.resolution or outputs[n - 1].rate != config.resolution:
        raise ConfigError(
            f"last_stopband_rel is {config.last_stopband_rel}: the last layers end below the resolution"
        )
    for layer in layer_designs(config):
        if max(layer.up, layer.down) > _MAX_FACTOR or layer.rate > 8 * MAX_RESOLUTION:
            raise ConfigError(f"{layer.name} changes its rate by more than {_MAX_FACTOR}")
        if layer.rate != layer.up * layer.input.rate or layer.rate != layer.down * layer.output.rate:
            raise ConfigError(f"{layer.name} has rates that are not multiples of each other")
        for taps, cutoff in ((layer.up_taps, layer.input.cutoff), (layer.down_taps, layer.output.cutoff)):
            if taps > 1 and not cutoff < layer.rate / 2:
                raise ConfigError(
                    f"{layer.name} has a cutoff of {cutoff} at a rate of {layer.rate}, expected less than "
                    "half of it"
                )
