"""The four convolutional encoders: E_v (view), E_l (light), E_I (shape code) and E_w (GAN encoder).

Images are [n, 3, size, size] in [-1, 1]. Architectures: Tables 1 to 3 of the GAN2X supplement. The tables
are for 256 pixels; halving the size drops the second layer and doubles the first one's channels (the
supplement, for 128; we continue below). Hence a layer that puts out r x r pixels has 2048 / r channels.
``width`` multiplies the channels between input and output.

E_v and E_l end in a tanh, which an affine map takes to physical units; losses on predicted views and lights
are taken before that map (``tanh``, ``to_tanh``), where all components have the same range.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift3d.errors import ConfigError
from lift3d.scene.cameras import placed

MIN_SIZE, MAX_SIZE = 8, 1024  # pixels
CODE_CHANNELS = 512  # of E_I and E_w, Table 2
TRANSLATION_RANGE = (0.1, 0.1, 0.0)  # t_x, t_y, t_z where E_v's tanh is 1, world units


class ResBlock(nn.Module):
    """Table 3: halves the resolution. Residual and identity path are added; no activation after the sum."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.ReLU(), nn.Conv2d(n_in, n_out, 3, 2, 1), nn.ReLU(), nn.Conv2d(n_out, n_out, 3, 1, 1)
        )
        self.identity = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(n_in, n_out, 1))

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h//2 w//2"]:
        return self.residual(x) + self.identity(x)


class WholeConv2d(nn.Conv2d):
    """A convolution whose kernel covers the whole image; its gradients are matrix products."""

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o 1 1"]:
        return _WholeConv2d.apply(x, self.weight, self.bias)


class _WholeConv2d(torch.autograd.Function):
    """Backwards several times as fast as a convolution. Forwards it is one: what it gives of an image does
    not depend, not even by rounding, on the other images, as a matrix product would.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return nn.functional.conv2d(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(1)

        def flat(t: Tensor) -> Tensor:  # a view: channels last
            return t.permute(0, 2, 3, 1).flatten(1)

        def whole(t: Tensor) -> Tensor:
            return t.unflatten(1, (*x.shape[2:], -1)).permute(0, 3, 1, 2)

        return whole(rows @ flat(weight)), whole(rows.T @ flat(x)), rows.sum(0)


class Encoder(nn.Sequential):
    """Image -> vector. Layers carry their output's pixels in the name (``conv_128``, ``block_64``)."""

    def __init__(self, size: int, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.size = size
        for name, layer in layers.items():
            self.add_module(name, layer)
        for layer in self.modules():  # keeps the scale of features: the defaults shrink them layer by layer
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        with torch.no_grad():  # starts near 0: the middle of the range
            last = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)][-1]
            last.weight.mul_(0.05)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
        shape, expected = tuple(images.shape[1:]), (3, self.size, self.size)
        if shape[1] == shape[2] < self.size:  # training at a lower resolution
            images = nn.functional.interpolate(images, expected[1:], mode="bilinear", align_corners=False)
        elif shape != expected:
            raise ConfigError(f"the encoder got images of shape {shape}, expected {expected}; resize first")
        return super().forward(images.contiguous(memory_format=torch.channels_last)).flatten(1)


def pose_light_encoder(size: int, out_channels: int, width: float = 1.0) -> Encoder:
    """Network of E_v and E_l for images of ``size`` pixels; ends in a tanh (Table 1)."""
    n_in, layers = 3, {}
    for r, n_out in _pyramid(size, width):
        layers[f"conv_{r}"] = nn.Sequential(nn.Conv2d(n_in, n_out, 4, 2, 1), nn.ReLU())
        n_in = n_out
    layers["conv_1"] = nn.Sequential(WholeConv2d(n_in, n_in, 4), nn.ReLU())
    layers["out"] = nn.Sequential(nn.Conv2d(n_in, out_channels, 1), nn.Tanh())
    return Encoder(size, layers)


def image_encoder(size: int, out: int = CODE_CHANNELS, width: float = 1.0) -> Encoder:
    """Network of E_I and E_w for images of ``size`` pixels (Tables 2 and 3)."""
    (r, n_in), *pyramid = _pyramid(size, width)
    layers = {f"conv_{r}": nn.Sequential(nn.Conv2d(3, n_in, 4, 2, 1), nn.ReLU())}
    for r, n_out in pyramid:
        layers[f"block_{r}"] = ResBlock(n_in, n_out)
        n_in = n_out
    layers["conv_1"] = nn.Sequential(WholeConv2d(n_in, 2 * n_in, 4), nn.ReLU())
    layers["out"] = nn.Conv2d(2 * n_in, out, 1)
    return Encoder(size, layers)


class RangedEncoder(nn.Module):
    """Image -> physical quantities ``center + scale * tanh``, one for each output of the network. Quantities
    beyond these are 0.
    """

    def __init__(
        self, size: int, width: float, center: Sequence[float], scale: Sequence[float], n: int
    ) -> None:
        super().__init__()
        if min(scale) < 0:
            raise ConfigError(f"the scales of an encoder's outputs are {tuple(scale)}, expected numbers >= 0")
        self.n, self.n_outputs = n, len(scale)
        self.net = pose_light_encoder(size, self.n_outputs, width)
        self.register_buffer("center", torch.tensor(center), persistent=False)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    def forward(self, images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m n"]:
        return self.from_tanh(self.tanh(images))

    def tanh(self, images: Float[Tensor, "m 3 h w"]) -> Float[Tensor, "m k"]:
        """What the network puts out, in (-1, 1)."""
        return self.net(images)

    def from_tanh(self, tanh: Float[Tensor, "*s k"]) -> Float[Tensor, "*s n"]:
        """Network outputs -> quantities."""
        return nn.functional.pad(self.center + self.scale * tanh, (0, self.n - self.n_outputs))

    def to_tanh(self, value: Float[Tensor, "*s n"]) -> Float[Tensor, "*s k"]:
        """Quantities -> network outputs, clamped to [-1, 1]; 0 for one whose range is 0."""
        offset, reaches = value[..., : self.n_outputs] - self.center, self.scale > 0
        return torch.where(reaches, offset / torch.where(reaches, self.scale, 1.0), 0.0).clamp(-1.0, 1.0)


class ViewEncoder(RangedEncoder):
    """E_v: image -> view (pitch, yaw, roll, t_x, t_y, t_z) of cameras.py, radians and world units."""

    def __init__(
        self,
        size: int,
        width: float = 1.0,
        rotation: tuple[float, float, float] = (math.pi / 3,) * 3,
        translation: tuple[float, float, float] = TRANSLATION_RANGE,
        pivot: tuple[float, ...] = (0.0, 0.0, 0.0),
    ) -> None:
        """``rotation`` (pitch, yaw, roll in radians) and translations (world units): what a tanh of 1 stands
        for, of objects that turn about ``pivot``.
        """
        super().__init__(size, width, (0.0,) * 6, (*rotation, *translation), 6)
        self.pivot = pivot

    def from_tanh(self, tanh: Float[Tensor, "*s 6"]) -> Float[Tensor, "*s 6"]:
        """See ``RangedEncoder``."""
        return placed(super().from_tanh(tanh), self.pivot)

    def to_tanh(self, value: Float[Tensor, "*s 6"]) -> Float[Tensor, "*s 6"]:
        """See ``RangedEncoder``."""
        return super().to_tanh(placed(value, [-p for p in self.pivot]))


class LightEncoder(RangedEncoder):
    """E_l: image -> light (k_a, k_d, l_x, l_y, k_n) of lights.py.

    The network has 4 outputs, or 5 where ``negative`` > 0; without the fifth k_n is 0.
    """

    def __init__(
        self,
        size: int,
        width: float = 1.0,
        direction: tuple[float, float] = (1.0, 1.0),
        negative: float = 0.0,
    ) -> None:
        """``direction``: (l_x, l_y) at a tanh of 1. ``negative``: k_n at a tanh of 1 (it is 0 at -1)."""
        center, scale = [0.5, 0.5, 0.0, 0.0, negative / 2], [0.5, 0.5, *direction, negative / 2]
        n_outputs = 5 if negative > 0 else 4
        super().__init__(size, width, center[:n_outputs], scale[:n_outputs], 5)


def _pyramid(size: int, width: float) -> list[tuple[int, int]]:
    """(pixels, channels) of the strided layers' outputs, from size / 2 down to 4."""
    if not MIN_SIZE <= size <= MAX_SIZE or size & (size - 1):
        raise ConfigError(f"encoders: image size is {size}, expected a power of 2 in {MIN_SIZE}..{MAX_SIZE}")
    if not width > 0:
        raise ConfigError(f"encoders: width is {width}, expected a factor > 0 (1 is the paper's)")
    sizes = [size >> k for k in range(1, size.bit_length() - 2)]
    return [(r, max(1, round(width * 2048 / r))) for r in sizes]
