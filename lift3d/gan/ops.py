"""The arithmetic of StyleGAN2 as pure functions.

Conventions: images and features are ``n c h w``; s is a style (one factor per sample and input channel);
weights are ``out in kh kw`` and cross-correlated, never flipped. The FIR filter is f = outer([1, 3, 3, 1],
[1, 3, 3, 1]) / 64 everywhere. Fast on a CPU with channels-last features: there a depthwise convolution beats
chained average pooling by 3-5x and slicing by 5-20x. Everything can be differentiated twice (R1).
"""

from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

FIR_TAPS = (1.0, 3.0, 3.0, 1.0)


def normal(*shape: int, divisor: float = 1.0) -> Tensor:
    """N(0, 1 / divisor^2); none are drawn under ``torch.device("meta")``, where only shapes count."""
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_().div_(divisor)


def fir_filter(like: Tensor) -> Float[Tensor, "4 4"]:
    """f, with the dtype and device of ``like``; sums to 1."""
    taps = torch.tensor(FIR_TAPS, dtype=like.dtype, device=like.device)
    return torch.outer(taps, taps) / taps.sum() ** 2


def blur(
    x: Float[Tensor, "n c h w"], padding: int, stride: int = 1, gain: float = 1.0
) -> Float[Tensor, "n c h2 w2"]:
    """x zero-padded on all four sides, filtered with gain * f, every ``stride``-th sample kept."""
    channels = x.shape[1]
    kernel = (fir_filter(x) * gain).repeat(channels, 1, 1, 1)
    return F.conv2d(x, kernel, stride=stride, padding=padding, groups=channels)


def downsample(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h/2 w/2"]:
    """Half the size, low-passed with f."""
    return blur(x, padding=1, stride=2)


def upsample(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2*h 2*w"]:
    """Twice the size: zeros inserted, then 4 f. Bilinear interpolation whose surroundings are zero."""
    grown = F.interpolate(F.pad(x, [1, 1, 1, 1]), scale_factor=2, mode="bilinear", align_corners=False)
    return grown[:, :, 2:-2, 2:-2]


def upsample_reference(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2*h 2*w"]:
    """Readable twin of ``upsample``."""
    n, c, h, w = x.shape
    spread = x.new_zeros(n, c, 2 * h, 2 * w)
    spread[:, :, ::2, ::2] = x
    kernel = (4 * fir_filter(x)).repeat(c, 1, 1, 1)
    return F.conv2d(F.pad(spread, [2, 1, 2, 1]), kernel, groups=c)


def normalize_second_moment(x: Float[Tensor, "n d"], eps: float = 1e-8) -> Float[Tensor, "n d"]:
    """x / sqrt(mean(x^2) + eps): "PixelNorm"."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


def conv_up(x: Float[Tensor, "n i h w"], weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "n o 2*h 2*w"]:
    """Transposed 3x3 convolution with stride 2, low-passed with 4 f."""
    transposed = weight.transpose(0, 1).contiguous(memory_format=torch.channels_last)
    return blur(F.conv_transpose2d(x, transposed, stride=2), padding=1, gain=4.0)


def modulated_conv2d(
    x: Float[Tensor, "n i h w"],
    weight: Float[Tensor, "o i k k"],
    style: Float[Tensor, "n i"],
    demodulate: bool = True,
    up: bool = False,
    gain: float | Float[Tensor, ""] = 1.0,
    eps: float = 1e-8,
    padding: int | None = None,
) -> Float[Tensor, "n o h2 w2"]:
    """gain * x convolved with weight * s, per sample; ``demodulate`` brings every filter of every sample to
    unit norm.

    k is odd; ``padding`` None keeps the size; ``up`` doubles it (k = 3). A convolution is linear in its input
    and in its filters, so the style may scale the input and the norm the output: one shared filter bank
    instead of one per sample.
    """
    if weight.shape[-1] == 1 and not demodulate and not up:
        return _mix_channels(x, weight[:, :, 0, 0] * gain * style.unsqueeze(1))
    x = x * style[:, :, None, None]
    padding = weight.shape[-1] // 2 if padding is None else padding
    y = conv_up(x, weight) if up else F.conv2d(x, weight, padding=padding)
    if demodulate:
        return y * (filter_norms(weight, style, eps) * gain)[:, :, None, None]
    return y * gain


def filter_norms(
    weight: Float[Tensor, "o i k k"], style: Float[Tensor, "n i"], eps: float = 1e-8
) -> Float[Tensor, "n o"]:
    """1 / sqrt(sum over i, k, k of (weight * s)^2 + eps)."""
    return (style.square() @ weight.square().sum(dim=(2, 3)).T + eps).rsqrt()


def _mix_channels(x: Float[Tensor, "n i h w"], weight: Float[Tensor, "n o i"]) -> Float[Tensor, "n o h w"]:
    """A 1x1 convolution with one matrix per sample."""
    n, _, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(n, h * w, -1)
    return (pixels @ weight.transpose(1, 2)).reshape(n, h, w, -1).permute(0, 3, 1, 2)


def modulated_conv2d_reference(
    x: Float[Tensor, "n i h w"],
    weight: Float[Tensor, "o i k k"],
    style: Float[Tensor, "n i"],
    demodulate: bool = True,
    up: bool = False,
    gain: float | Float[Tensor, ""] = 1.0,
    eps: float = 1e-8,
    padding: int | None = None,
) -> Float[Tensor, "n o h2 w2"]:
    """Readable twin of ``modulated_conv2d``: modulate, demodulate, convolve, one sample after the other."""
    outputs = []
    padding = weight.shape[-1] // 2 if padding is None else padding
    for sample, s in zip(x, style, strict=True):
        w = weight * s[None, :, None, None]
        if demodulate:
            w = w / (w.square().sum(dim=(1, 2, 3), keepdim=True) + eps).sqrt()
        if up:
            y = F.conv_transpose2d(sample[None], w.transpose(0, 1), stride=2)
            y = blur(y, padding=1, gain=4.0)
        else:
            y = F.conv2d(sample[None], w, padding=padding)
        outputs.append(y * gain)
    return torch.cat(outputs)


def leaky_relu(x: Tensor, gain: float = 1.0, clamp: float | None = None) -> Tensor:
    """Slope 0.2 below zero, in place, then +-clamp * gain. The usual factor sqrt(2) * gain is already in x.

    leaky_relu(a x) = a leaky_relu(x) for a > 0, so callers fold the factor into weights instead of spending a
    pass.
    """
    x = F.leaky_relu_(x, 0.2)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def minibatch_std(
    x: Float[Tensor, "n c h w"], group_size: int | None, n_features: int = 1
) -> Float[Tensor, "n c_out h w"]:
    """Appends, per feature group of channels, the mean over c, h, w of the standard deviation across a group
    of samples.

    Sample i belongs to group i modulo n / group_size; ``group_size`` None means the whole batch, as does a
    batch smaller than it; otherwise n must be a multiple of it.
    """
    n, c, h, w = x.shape
    size = n if group_size is None else min(group_size, n)
    grouped = x.reshape(size, -1, n_features, c // n_features, h, w)
    variance = (grouped - grouped.mean(dim=0)).square().mean(dim=0)
    spread = (variance + 1e-8).sqrt().mean(dim=(2, 3, 4))
    columns = spread.repeat(size, 1)[:, :, None, None].expand(-1, -1, h, w)
    return torch.cat([x, columns], dim=1)


SQRT2 = sqrt(2.0)
