"""StyleGAN2 in plain PyTorch: the published arithmetic, the NVLabs names of modules and tensors.

Symbols: z latent, c condition (one-hot), w intermediate latent, ws one w per layer ("n l w_dim"), r
resolution of a block. Images are ``n 3 h w``, nominally in [-1, 1], not clamped. Networks keep their weights
channels-last; a tensor's device and dtype decide.
"""

from collections.abc import Iterator
from math import sqrt
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lift3d.errors import ConfigError
from lift3d.gan import ops
from lift3d.gan.config import DiscriminatorConfig, GeneratorConfig
from lift3d.gan.config import channels_for as channels_for
from lift3d.gan.generator import StyleGenerator
from lift3d.gan.mapping import FullyConnected, MappingNetwork
from lift3d.gan.ops import SQRT2, normal

NoiseMode = Literal["random", "const", "none"]


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution (``up``: to twice the size) + noise + bias, sqrt(2) * leaky ReLU, clamp."""

    def __init__(self, config: GeneratorConfig, n_in: int, n_out: int, resolution: int, up: bool) -> None:
        super().__init__()
        self.affine = FullyConnected(config.w_dim, n_in, bias=1.0)
        self.weight = nn.Parameter(normal(n_out, n_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(n_out))
        if config.noise:
            self.noise_strength = nn.Parameter(torch.zeros([]))
            self.register_buffer("noise_const", normal(resolution, resolution))
        self.up, self.noise, self.clamp, self.resolution = up, config.noise, config.conv_clamp, resolution
        self.eps = config.demodulation_eps * (n_in * 9 if config.demodulation_eps_per_input else 1)

    def forward(
        self,
        x: Float[Tensor, "n i h w"],
        w: Float[Tensor, "n w_dim"],
        noise_mode: NoiseMode,
        rng: torch.Generator | None = None,
        gain: float = 1.0,
    ) -> Float[Tensor, "n o h2 w2"]:
        x = ops.modulated_conv2d(x, self.weight, self.affine(w), up=self.up, gain=SQRT2 * gain, eps=self.eps)
        x = x + (self.bias * (SQRT2 * gain))[:, None, None]
        if self.noise and noise_mode != "none":
            x = x + self._noise(x, noise_mode, rng) * (self.noise_strength * (SQRT2 * gain))
        return ops.leaky_relu(x, gain, self.clamp)

    def _noise(self, x: Tensor, mode: NoiseMode, rng: torch.Generator | None) -> Tensor:
        if mode == "const":
            return self.noise_const
        return torch.randn(len(x), 1, *x.shape[2:], dtype=x.dtype, device=x.device, generator=rng)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation, + bias."""

    def __init__(self, config: GeneratorConfig, n_in: int) -> None:
        super().__init__()
        self.affine = FullyConnected(config.w_dim, n_in, bias=1.0)
        self.weight = nn.Parameter(normal(config.image_channels, n_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.image_channels))
        self.clamp = config.conv_clamp

    def forward(self, x: Float[Tensor, "n i h w"], w: Float[Tensor, "n w_dim"]) -> Float[Tensor, "n 3 h w"]:
        style = self.affine(w) / sqrt(x.shape[1])
        x = ops.modulated_conv2d(x, self.weight, style, demodulate=False) + self.bias[:, None, None]
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class SynthesisBlock(nn.Module):
    """``const`` or ``conv0``, then ``conv1``, and ``torgb`` where the architecture has one."""

    def __init__(self, config: GeneratorConfig, i: int) -> None:
        super().__init__()
        width, resolution, last = config.channels[i], 4 << i, i == len(config.channels) - 1
        if i == 0:
            self.const = nn.Parameter(normal(width, 4, 4))
        else:
            self.conv0 = SynthesisLayer(config, config.channels[i - 1], width, resolution, up=True)
            if config.architecture == "resnet":
                self.skip = Conv2d(
                    config.channels[i - 1], width, 1, bias=False, activate=False, resample="up"
                )
        self.conv1 = SynthesisLayer(config, width, width, resolution, up=False)
        self.has_torgb = last or config.architecture == "skip"
        if self.has_torgb:
            self.torgb = ToRGB(config, width)
        self.first, self.residual = i == 0, i > 0 and config.architecture == "resnet"

    def forward(
        self,
        x: Float[Tensor, "n i h w"] | None,
        image: Float[Tensor, "n 3 h w"] | None,
        ws: Float[Tensor, "n k w_dim"],
        noise_mode: NoiseMode,
        rng: torch.Generator | None,
    ) -> tuple[Float[Tensor, "n o h2 w2"], Float[Tensor, "n 3 h2 w2"] | None]:
        """Features and image so far; ws starts with this block's first convolution."""
        *w_convs, w_rgb = ws.unbind(dim=1)
        if self.first:
            x = self.const.expand(len(ws), -1, -1, -1).contiguous(memory_format=torch.channels_last)
            x = self.conv1(x, w_convs[0], noise_mode, rng)
        elif self.residual:
            shortcut = self.skip(x, gain=sqrt(0.5))
            x = self.conv0(x, w_convs[0], noise_mode, rng)
            x = shortcut + self.conv1(x, w_convs[1], noise_mode, rng, gain=sqrt(0.5))
        else:
            x = self.conv0(x, w_convs[0], noise_mode, rng)
            x = self.conv1(x, w_convs[1], noise_mode, rng)
        if not self.has_torgb:
            return x, image
        rgb = self.torgb(x, w_rgb)
        return x, rgb if image is None else ops.upsample(image) + rgb


class SynthesisNetwork(nn.Module):
    """ws -> image by ``b4``, ``b8``, ...; a block's image layer shares its w with the next block's conv0."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        for i in range(len(config.channels)):
            self.add_module(f"b{4 << i}", SynthesisBlock(config, i))

    def forward(
        self,
        ws: Float[Tensor, "n l w_dim"],
        noise_mode: NoiseMode = "random",
        rng: torch.Generator | None = None,
    ) -> Float[Tensor, "n 3 h w"]:
        """noise_mode "random" draws from ``rng`` (None: PyTorch's own), "const" takes the stored maps."""
        if noise_mode not in ("random", "const", "none"):
            raise ConfigError(f"noise_mode is {noise_mode!r}, expected 'random', 'const' or 'none'")
        if ws.shape[1] != self.config.n_ws:
            raise ConfigError(f"ws has {ws.shape[1]} layers, this generator has {self.config.n_ws}")
        x = image = None
        for i, block in enumerate(self.children()):
            start, stop = (0, 2) if i == 0 else (2 * i - 1, 2 * i + 2)
            x, image = block(x, image, ws[:, start:stop], noise_mode, rng)
        return image


class Generator(StyleGenerator):
    """z -> image, as ``synthesis(broadcast(mapping(z)))``."""

    family = "StyleGAN2"

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config, SynthesisNetwork(config))

    def draw(self, ws: Float[Tensor, "n l w_dim"]) -> Float[Tensor, "n 3 h w"]:
        """The images of ws with the stored noise maps."""
        return self.synthesis(ws, noise_mode="const")

    def affines(self) -> list[FullyConnected]:
        """What turns w into styles, layer by layer."""
        return [m.affine for m in self.synthesis.modules() if isinstance(m, SynthesisLayer | ToRGB)]

    def forward(
        self,
        z: Float[Tensor, "n z"],
        c: Float[Tensor, "n c"] | None = None,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise_mode: NoiseMode = "random",
        rng: torch.Generator | None = None,
    ) -> Float[Tensor, "n 3 h w"]:
        return self.synthesis(self.ws(z, c, psi, cutoff), noise_mode, rng)


class Conv2d(nn.Module):
    """Convolution, weights scaled by 1 / sqrt(fan in) at run time; FIR-filtered "up" or "down" by 2."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: int,
        bias: bool = True,
        activate: bool = True,
        resample: Literal["up", "down"] | None = None,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(n_out, n_in, size, size))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.activate, self.resample, self.clamp = activate, resample, clamp

    def forward(self, x: Float[Tensor, "n i h w"], gain: float = 1.0) -> Float[Tensor, "n o h2 w2"]:
        size = self.weight.shape[-1]
        total = gain * SQRT2 if self.activate else gain
        weight = self.weight * (total / sqrt(self.weight[0].numel()))
        bias = None if self.bias is None else self.bias * total
        if self.resample == "down" and size == 1:
            x = F.conv2d(ops.downsample(x), weight, bias)
        elif self.resample == "down":
            x = F.conv2d(ops.blur(x, padding=2), weight, bias, stride=2)
        else:
            x = F.conv2d(x, weight, bias, padding=size // 2)
        if self.resample == "up":
            x = ops.upsample(x)
        return ops.leaky_relu(x, gain, self.clamp) if self.activate else x


class DiscriminatorBlock(nn.Module):
    """r -> r / 2: ``conv0``, ``conv1``; ``fromrgb`` where an image enters, ``skip`` if residual."""

    def __init__(self, config: DiscriminatorConfig, i: int) -> None:
        super().__init__()
        width, narrower, clamp = config.channels[i], config.channels[i - 1], config.conv_clamp
        self.takes_image = i == len(config.channels) - 1 or config.architecture == "skip"
        self.residual, self.passes_image = config.architecture == "resnet", config.architecture == "skip"
        if self.takes_image:
            self.fromrgb = Conv2d(config.image_channels, width, 1, clamp=clamp)
        self.conv0 = Conv2d(width, width, 3, clamp=clamp)
        self.conv1 = Conv2d(width, narrower, 3, resample="down", clamp=clamp)
        if self.residual:
            self.skip = Conv2d(width, narrower, 1, bias=False, activate=False, resample="down")

    def forward(
        self, x: Float[Tensor, "n i h w"] | None, image: Float[Tensor, "n 3 h w"] | None
    ) -> tuple[Float[Tensor, "n o h/2 w/2"], Float[Tensor, "n 3 h/2 w/2"] | None]:
        if self.takes_image:
            entering = self.fromrgb(image)
            x = entering if x is None else x + entering
            image = ops.downsample(image) if self.passes_image else None
        if self.residual:
            return self.skip(x, gain=sqrt(0.5)) + self.conv1(self.conv0(x), gain=sqrt(0.5)), image
        return self.conv1(self.conv0(x)), image


class DiscriminatorEpilogue(nn.Module):
    """Minibatch statistics, ``conv``, ``fc``, ``out`` at 4x4; a condition is projected onto the output."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        width = config.channels[0]
        self.config = config
        if config.architecture == "skip":
            self.fromrgb = Conv2d(config.image_channels, width, 1)
        self.conv = Conv2d(width + config.mbstd_features, width, 3, clamp=config.conv_clamp)
        self.fc = FullyConnected(width * 16, width, activate=True)
        self.out = FullyConnected(width, config.condition_features or 1)

    def forward(
        self,
        x: Float[Tensor, "n i 4 4"],
        image: Float[Tensor, "n 3 4 4"] | None,
        cmap: Float[Tensor, "n m"] | None,
    ) -> Float[Tensor, "n 1"]:
        if self.config.architecture == "skip":
            x = x + self.fromrgb(image)
        if self.config.mbstd_features:
            x = ops.minibatch_std(x, self.config.mbstd_group_size, self.config.mbstd_features)
        x = self.out(self.fc(self.conv(x).flatten(1)))
        return x if cmap is None else (x * cmap).sum(dim=1, keepdim=True) / sqrt(cmap.shape[1])


class Discriminator(nn.Module):
    """Image -> logit (large: real). Depends on the batch through the minibatch statistics."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        for i in range(len(config.channels) - 1, 0, -1):
            self.add_module(f"b{4 << i}", DiscriminatorBlock(config, i))
        self.b4 = DiscriminatorEpilogue(config)
        if config.c_dim > 0:
            self.mapping = MappingNetwork(
                0,
                config.c_dim,
                config.condition_features,
                config.n_mapping_layers,
                config.mapping_lr,
                average=False,
            )
        self.to(memory_format=torch.channels_last)

    def forward(
        self, images: Float[Tensor, "n 3 h w"], c: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, "n 1"]:
        self._check_batch(len(images))
        for outputs in self._blocks(images):
            x, image = outputs
        return self.b4(x, image, self.mapping(None, c) if self.config.c_dim > 0 else None)

    def features(self, images: Float[Tensor, "n 3 h w"], n_blocks: int = 4) -> list[Float[Tensor, "n _ _ _"]]:
        """Outputs of the first ``n_blocks`` blocks (or all), r = h/2, h/4, ...; no more is computed."""
        outputs = []
        for x, _ in self._blocks(images):
            outputs.append(x)
            if len(outputs) == n_blocks:
                break
        return outputs

    def _blocks(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
        x, image = None, images.contiguous(memory_format=torch.channels_last)
        for i in range(len(self.config.channels) - 1, 0, -1):
            x, image = getattr(self, f"b{4 << i}")(x, image)
            yield x, image

    def _check_batch(self, n: int) -> None:
        size = self.config.mbstd_group_size
        if self.config.mbstd_features and size and n > size and n % size:
            raise ConfigError(f"the batch has {n} images, expected at most {size} or a multiple of {size}")
