"""The networks against an independent, slow implementation of the published arithmetic; the fast operations
against their readable twins.
"""

from dataclasses import replace
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from gan_files import scrambled
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.gan.config import DiscriminatorConfig, GeneratorConfig, channels_for
from lift3d.gan.latents import mean_w, sample_images, sample_w, sample_z
from lift3d.gan.ops import (
    minibatch_std,
    modulated_conv2d,
    modulated_conv2d_reference,
    upsample,
    upsample_reference,
)
from lift3d.gan.stylegan2 import Discriminator, Generator

G = GeneratorConfig((6, 5, 4), z_dim=5, w_dim=7, n_mapping_layers=3)
D = DiscriminatorConfig((6, 5, 4), n_mapping_layers=2)
ARCHITECTURES = ("skip", "resnet", "orig")


# --- a second opinion --------------------------------------------------------------------------------------


def lrelu(x: Tensor, gain: float = 1.0, clamp: float | None = None) -> Tensor:
    x = torch.where(x < 0, 0.2 * x, x) * sqrt(2) * gain
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def fir(x: Tensor, pad: tuple[int, int], up: int = 1, down: int = 1, gain: float = 1.0) -> Tensor:
    """Zeros inserted, zeros around (before, after), filtered, every ``down``-th kept."""
    n, c, h, w = x.shape
    if up == 2:
        spread = x.new_zeros(n, c, h, 2, w, 2)
        spread[:, :, :, 0, :, 0] = x
        x = spread.reshape(n, c, 2 * h, 2 * w)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    x = F.pad(x, (*pad, *pad))
    rows = sum(taps[i] * x[:, :, i : x.shape[2] - 3 + i] for i in range(4))
    both = sum(taps[i] * rows[:, :, :, i : rows.shape[3] - 3 + i] for i in range(4))
    return gain * both[:, :, ::down, ::down]


class Naive:
    """Both networks from their state dicts alone."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.s, self.config = network.state_dict(), network.config
        self.clamp = self.config.conv_clamp

    def linear(self, name: str, x: Tensor, lr: float = 1.0) -> Tensor:
        weight = self.s[f"{name}.weight"]
        return x @ weight.T * (lr / sqrt(weight.shape[1])) + self.s[f"{name}.bias"] * lr

    def mapping(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        unit = lambda x: x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()  # noqa: E731
        parts = [] if z is None else [unit(z)]
        if c is not None:
            parts.append(unit(self.linear("mapping.embed", c)))
        x = torch.cat(parts, dim=1)
        for i in range(self.config.n_mapping_layers):
            x = lrelu(self.linear(f"mapping.fc{i}", x, self.config.mapping_lr))
        return x

    def modulated(
        self, name: str, x: Tensor, w: Tensor, up: bool, demodulate: bool, eps: float = 1e-8
    ) -> Tensor:
        style, weight = self.linear(f"{name}.affine", w), self.s[f"{name}.weight"]
        if not demodulate:
            style = style / sqrt(weight.shape[1])
        outputs = []
        for i in range(len(x)):
            kernel = weight * style[i][None, :, None, None]
            if demodulate:
                kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + eps).sqrt()
            if up:
                spread = F.pad(x.new_zeros(1, x.shape[1], 2 * x.shape[2] - 1, 2 * x.shape[3] - 1), (2,) * 4)
                spread[:, :, 2:-2:2, 2:-2:2] = x[i]
                outputs.append(fir(F.conv2d(spread, kernel.flip(2, 3)), (1, 1), gain=4))
            else:
                outputs.append(F.conv2d(x[i : i + 1], kernel, padding=weight.shape[-1] // 2))
        return torch.cat(outputs)

    def layer(
        self, name: str, x: Tensor, w: Tensor, noise: str, up: bool = False, gain: float = 1.0
    ) -> Tensor:
        eps = 1e-8
        if self.config.demodulation_eps_per_input:
            eps *= self.s[f"{name}.weight"][0].numel()
        x = self.modulated(name, x, w, up, True, eps)
        if noise == "const" and self.config.noise:
            x = x + self.s[f"{name}.noise_const"] * self.s[f"{name}.noise_strength"]
        return lrelu(x + self.s[f"{name}.bias"][:, None, None], gain, self.clamp)

    def synthesis(self, ws: Tensor, noise: str) -> Tensor:
        kind, last = self.config.architecture, len(self.config.channels) - 1
        x, image, k = self.s["synthesis.b4.const"].expand(len(ws), -1, -1, -1), None, 0
        for i in range(last + 1):
            block, gain = f"synthesis.b{4 << i}", sqrt(0.5) if kind == "resnet" and i > 0 else 1.0
            if i > 0:
                if kind == "resnet":
                    weight = self.s[f"{block}.skip.weight"]
                    y = fir(F.conv2d(x, weight / sqrt(weight.shape[1])), (2, 1), up=2, gain=4) * gain
                x = self.layer(f"{block}.conv0", x, ws[:, k], noise, up=True)
                k += 1
            x = self.layer(f"{block}.conv1", x, ws[:, k], noise, gain=gain)
            k += 1
            if kind == "resnet" and i > 0:
                x = x + y
            if image is not None:
                image = fir(image, (2, 1), up=2, gain=4)
            if i == last or kind == "skip":
                rgb = self.modulated(f"{block}.torgb", x, ws[:, k], False, False)
                rgb = rgb + self.s[f"{block}.torgb.bias"][:, None, None]
                rgb = rgb if self.clamp is None else rgb.clamp(-self.clamp, self.clamp)
                image = rgb if image is None else image + rgb
        return image

    def conv(self, name: str, x: Tensor, down: bool = False, gain: float = 1.0, clamp: bool = True) -> Tensor:
        weight = self.s[f"{name}.weight"]
        size = weight.shape[-1]
        if down:
            x = fir(x, (2, 2)) if size == 3 else fir(x, (1, 1), down=2)
        padding = 0 if down else size // 2
        x = F.conv2d(
            x, weight / sqrt(weight[0].numel()), padding=padding, stride=2 if down and size == 3 else 1
        )
        if f"{name}.bias" not in self.s:
            return x * gain
        return lrelu(x + self.s[f"{name}.bias"][:, None, None], gain, self.clamp if clamp else None)

    def logits(self, image: Tensor, c: Tensor | None) -> Tensor:
        kind, last = self.config.architecture, len(self.config.channels) - 1
        x = None
        for i in range(last, 0, -1):
            block = f"b{4 << i}"
            if x is None or kind == "skip":
                y = self.conv(f"{block}.fromrgb", image)
                x = y if x is None else x + y
                image = fir(image, (1, 1), down=2)
            if kind == "resnet":
                y = self.conv(f"{block}.skip", x, down=True, gain=sqrt(0.5))
                x = self.conv(f"{block}.conv1", self.conv(f"{block}.conv0", x), down=True, gain=sqrt(0.5)) + y
            else:
                x = self.conv(f"{block}.conv1", self.conv(f"{block}.conv0", x), down=True)
        if kind == "skip":
            x = x + self.conv("b4.fromrgb", image, clamp=False)
        x = naive_statistics(x, self.config.mbstd_group_size, self.config.mbstd_features)
        x = self.linear("b4.out", lrelu(self.linear("b4.fc", self.conv("b4.conv", x).flatten(1))))
        if c is None:
            return x
        condition = self.mapping(None, c)
        return (x * condition).sum(dim=1, keepdim=True) / sqrt(condition.shape[1])


def naive_statistics(x: Tensor, group_size: int | None, n_features: int) -> Tensor:
    """Sample n is in group n modulo the number of groups."""
    n, c = x.shape[:2]
    size = n if group_size is None else min(group_size, n)
    extra = x.new_zeros(n, n_features, *x.shape[2:])
    for i in range(n):
        group = x[i % (n // size) :: n // size]
        for f in range(n_features):
            part = group[:, f * (c // n_features) : (f + 1) * (c // n_features)]
            extra[i, f] = (part.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
    return torch.cat([x, extra], dim=1)


def close(actual: Tensor, expected: Tensor) -> bool:
    actual, expected = actual.detach(), expected.detach()
    return float((actual - expected).abs().max()) <= 1e-10 * float(expected.abs().max())


# --- networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clamp", [None, 0.5])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("c_dim", [0, 3])
def test_generator_follows_the_published_arithmetic(
    architecture: str, clamp: float | None, c_dim: int
) -> None:
    settings = {"architecture": architecture, "conv_clamp": clamp, "c_dim": c_dim}
    g = scrambled(Generator(replace(G, **settings, demodulation_eps_per_input=c_dim > 0))).double()
    naive, z = Naive(g), torch.randn(3, 5, dtype=torch.float64)
    c = torch.eye(3, dtype=torch.float64) if c_dim else None
    w = naive.mapping(z, c)
    assert close(g.mapping(z, c), w)
    ws = g.ws(z, c, psi=0.5, cutoff=2)
    average = g.mapping.w_avg
    assert close(ws[:, :2], (average + 0.5 * (w - average))[:, None]) and close(ws[:, 2:], w[:, None])
    ws = torch.randn(3, g.config.n_ws, 7, dtype=torch.float64)
    for noise in ("const", "none"):
        assert close(g.synthesis(ws, noise), naive.synthesis(ws, noise))


@pytest.mark.parametrize("clamp", [None, 0.5])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("c_dim", [0, 3])
def test_discriminator_follows_the_published_arithmetic(
    architecture: str, clamp: float | None, c_dim: int
) -> None:
    settings = {"architecture": architecture, "conv_clamp": clamp, "c_dim": c_dim}
    d = scrambled(Discriminator(replace(D, **settings, mbstd_group_size=2, mbstd_features=2))).double()
    images = torch.randn(6, 3, 16, 16, dtype=torch.float64)
    c = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 2, 1, 0]] if c_dim else None
    assert close(d(images, c), Naive(d).logits(images, c))


def test_random_noise_differs_by_sample_and_follows_its_generator() -> None:
    g = scrambled(Generator(G))
    ws = torch.randn(1, g.config.n_ws, 7).expand(2, -1, -1)
    images = g.synthesis(ws, rng=torch.Generator().manual_seed(3))
    assert not torch.equal(images[0], images[1])
    assert torch.equal(images, g.synthesis(ws, rng=torch.Generator().manual_seed(3)))


def test_mapping_in_two_parts_is_the_mapping() -> None:
    mapping = scrambled(Generator(replace(G, c_dim=2))).mapping
    z, c = torch.randn(4, 5), torch.eye(2)[[0, 1, 1, 0]]
    w = mapping(z, c)
    for k in range(6):
        h = mapping.hidden(z, k, c)
        assert torch.equal(mapping.tail(h, k), w)
        assert h.shape == (4, 7 if k < 3 else 12)
    assert torch.equal(mapping.hidden(z, 0, c), w) and torch.equal(mapping.tail(w, 0), w)
    assert torch.allclose(mapping.hidden(z, 3, c)[:, :5].square().mean(dim=1), torch.ones(4), atol=1e-5)


def test_features_are_what_the_blocks_put_out() -> None:
    d = scrambled(Discriminator(D))
    images = torch.randn(2, 3, 16, 16)
    features = d.features(images)
    assert [tuple(f.shape[1:]) for f in features] == [(5, 8, 8), (6, 4, 4)]
    assert torch.equal(d.b4(features[-1], None, None), d(images))
    assert torch.equal(d.features(images, 1)[0], features[0])


def test_priors() -> None:
    g = scrambled(Generator(G))
    z = sample_z(g, 3, 5)
    assert torch.equal(z, torch.randn(3, 5, generator=torch.Generator().manual_seed(5)))
    average = g.mapping.w_avg
    assert torch.allclose(sample_w(g, 3, 5, psi=0.25), average + 0.25 * (g.mapping(z) - average), atol=1e-6)
    assert torch.allclose(mean_w(g, 8, 5), g.mapping(sample_z(g, 8, 5)).mean(dim=0))
    images = sample_images(g, 50 * z, psi=1.0)
    assert torch.equal(images, g(50 * z, noise_mode="const").clamp(-1, 1)) and images.abs().max() <= 1


# --- operations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize(("size", "up"), [(1, False), (3, False), (3, True)])
def test_modulated_convolution_equals_its_twin_and_so_do_its_gradients(
    size: int, up: bool, demodulate: bool
) -> None:
    x, weight, style = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 4, 5), (4, 3, size, size), (2, 3))
    )
    outputs, slopes = [], []
    for convolve in (modulated_conv2d, modulated_conv2d_reference):
        y = convolve(x, weight, style, demodulate=demodulate, up=up, gain=0.7, eps=0.01)
        outputs.append(y)
        slopes.append(torch.autograd.grad(y.square().sum(), (x, weight, style)))
    assert outputs[0].shape == (2, 4, 8, 10) if up else (2, 4, 4, 5)
    assert close(*outputs)
    assert all(close(a, b) for a, b in zip(*slopes, strict=True))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 1, 1, 1), (1, 2, 5, 3)])
def test_upsampling_equals_its_twin(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    assert close(upsample(x), upsample_reference(x))
    assert close(upsample(x), fir(x, (2, 1), up=2, gain=4))


@pytest.mark.parametrize(
    ("n", "size", "features"), [(6, 2, 1), (6, 3, 2), (4, None, 2), (3, 4, 1), (1, 4, 4)]
)
def test_minibatch_statistics_equal_their_definition(n: int, size: int | None, features: int) -> None:
    x = torch.randn(n, 4, 3, 3, dtype=torch.float64)
    assert close(minibatch_std(x, size, features), naive_statistics(x, size, features))


# --- refusals ----------------------------------------------------------------------------------------------


def test_wrong_inputs_are_refused() -> None:
    g, d = Generator(replace(G, c_dim=3)), Discriminator(D)
    with pytest.raises(
        ConfigError, match="c is None, but this network is conditional: pass 3 numbers per sample"
    ):
        g(torch.zeros(1, 5))
    with pytest.raises(ConfigError, match="ws has 5 layers, this generator has 6"):
        g.synthesis(torch.zeros(1, 5, 7))
    with pytest.raises(ConfigError, match="the batch has 6 images, expected at most 4 or a multiple of 4"):
        d(torch.zeros(6, 3, 16, 16))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"channels": (4,)}, "channels has 1 widths, expected one for each r = 4, 8, ..., <= 2048"),
        ({"channels": (4, 0)}, "a width in channels is 0, expected a whole number from 1 to 65536"),
        ({"z_dim": 0}, "z_dim is 0, expected a whole number from 1"),
        ({"w_dim": 2.0}, "w_dim is 2.0, expected a whole number"),
        ({"n_mapping_layers": 65}, "n_mapping_layers is 65, expected a whole number from 1 to 64"),
        ({"mapping_lr": 0.0}, "mapping_lr is 0.0, expected a positive number"),
        ({"conv_clamp": -1.0}, "conv_clamp is -1.0, expected a positive number"),
        ({"architecture": "other"}, "architecture is 'other', expected 'skip', 'resnet' or 'orig'"),
        ({"demodulation_eps": float("inf")}, "demodulation_eps is inf, expected a positive number"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        replace(G, **settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mbstd_group_size": 0}, "mbstd_group_size is 0, expected a whole number from 1"),
        ({"mbstd_features": -1}, "mbstd_features is -1, expected a whole number from 0"),
        ({"cmap_dim": "x"}, "cmap_dim is 'x', expected a whole number"),
    ],
)
def test_wrong_discriminator_settings_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        replace(D, **settings)


def test_published_widths() -> None:
    assert channels_for(1024, 32768, 512) == (512, 512, 512, 512, 512, 256, 128, 64, 32)
    for resolution in (4, 12, 0):
        with pytest.raises(ConfigError, match=f"resolution is {resolution}, expected a power of two"):
            channels_for(resolution, 32768, 512)
