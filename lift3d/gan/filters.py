"""Low-pass filters and the filtered leaky ReLU of alias-free generators (Karras et al. 2021, appendix C).

Features are ``n c h w``. A filter is a tensor of taps: [t] for a separable one, [t t] for a radial one, None
for none; all are symmetric, so filtering and correlating are one. Fast on a CPU with channels-last features,
where a transposed depthwise convolution beats one over inserted zeros by 5-10x.
"""

from math import pi

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Taps = Float[Tensor, " t"] | Float[Tensor, "t t"]


def lowpass(taps: int, cutoff: float, width: float, rate: int, radial: bool = False) -> Taps | None:
    """Kaiser-windowed low-pass filter, sum 1; None for a single tap.

    ``cutoff`` and ``width`` (of the transition band) are frequencies, ``rate`` samples per unit. Separable:
    sinc (eq. 7), radial: jinc (eq. 8), each times the window of the same attenuation.
    """
    if taps == 1:
        return None
    x = torch.from_numpy((np.arange(taps) - (taps - 1) / 2) / rate)
    window = torch.from_numpy(np.kaiser(taps, kaiser_beta(taps, 2 * width / rate)))
    if radial:
        r = torch.hypot(x[:, None], x).clamp_min(1e-12)  # 0 for an odd number of taps
        f = torch.special.bessel_j1(2 * pi * cutoff * r) / (pi * r) * torch.outer(window, window)
    else:
        f = torch.special.sinc(2 * cutoff * x) * window
    return (f / f.sum()).float()


def kaiser_beta(taps: int, width: float) -> float:
    """Shape of the window whose attenuation ``taps`` reach over a transition of ``width`` (1: half the rate);
    Kaiser's fit, eq. 6 of the appendix.
    """
    attenuation = 2.285 * (taps - 1) * pi * width + 7.95  # dB
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    return 0.0


def filtered_leaky_relu(
    x: Float[Tensor, "n c h w"],
    up_filter: Float[Tensor, " u"] | None,
    down_filter: Float[Tensor, " d"] | Float[Tensor, "d d"] | None,
    up: int,
    down: int,
    padding: tuple[int, int],
    clamp: float | None,
    slope: float = 0.2,
) -> Float[Tensor, "n c h2 w2"]:
    """x upsampled, padded (below 0: cropped), rectified with ``slope`` below zero and clamped, downsampled.

    x already has its bias and its factor sqrt(2), with which the leaky ReLU commutes. A factor of 1 has no
    filter.
    """
    x = _upsample(x, up_filter, up, padding)
    if slope != 1.0:
        x = F.leaky_relu_(x, slope)
    if clamp is not None:
        x = F.hardtanh(x, -clamp, clamp, inplace=not x.requires_grad)  # clamp takes 4 passes back
    if down_filter is None:
        return x
    for kernel, stride in _kernels(down_filter, x, down):
        x = F.conv2d(x, kernel, stride=stride, groups=x.shape[1])
    return x


def filtered_leaky_relu_reference(
    x: Float[Tensor, "n c h w"],
    up_filter: Float[Tensor, " u"] | None,
    down_filter: Float[Tensor, " d"] | Float[Tensor, "d d"] | None,
    up: int,
    down: int,
    padding: tuple[int, int],
    clamp: float | None,
    slope: float = 0.2,
) -> Float[Tensor, "n c h2 w2"]:
    """Readable twin of ``filtered_leaky_relu``: zeros between samples, zeros around, and every filter as one
    square of taps, at every sample.
    """
    n, c, h, w = x.shape
    spread = x.new_zeros(n, c, h * up, w * up)
    spread[:, :, ::up, ::up] = x
    x = _correlate(F.pad(spread, [*padding, *padding]), up_filter, float(up**2))
    x = F.leaky_relu(x, slope)
    if clamp is not None:
        x = x.clamp(-clamp, clamp)
    return _correlate(x, down_filter)[:, :, ::down, ::down]


def _upsample(x: Tensor, taps: Taps | None, up: int, padding: tuple[int, int]) -> Tensor:
    """A copy with zeros between and around its samples, filtered: a transposed convolution cut to measure."""
    if taps is None:
        return F.pad(x, [*padding, *padding])
    n, (before, after) = len(taps), padding
    surplus = (n - 1 - before, n - up - after)  # samples of a full transposed convolution to cut off
    both = max(min(surplus), 0)
    for kernel, stride in _kernels(taps * up, x, up):
        cut = [both if step > 1 else 0 for step in stride]
        x = F.conv_transpose2d(x, kernel, stride=stride, padding=cut, groups=x.shape[1])
    rest = [both - number for number in surplus]
    return F.pad(x, rest * 2) if any(rest) else x


def _kernels(taps: Taps, x: Tensor, stride: int) -> list[tuple[Tensor, tuple[int, int]]]:
    """Depthwise kernels of a filter, one after the other, and the stride of each."""
    bank = taps.to(x).expand(x.shape[1], 1, *taps.shape)
    if taps.ndim == 2:
        return [(bank, (stride, stride))]
    return [(bank.unsqueeze(3), (stride, 1)), (bank.unsqueeze(2), (1, stride))]


def _correlate(x: Tensor, taps: Taps | None, gain: float = 1.0) -> Tensor:
    """Every channel filtered, where the filter lies inside."""
    if taps is None:
        return x * gain
    taps = taps.to(x)
    square = torch.outer(taps, taps) if taps.ndim == 1 else taps
    return F.conv2d(x, (square * gain).expand(x.shape[1], 1, -1, -1), groups=x.shape[1])
