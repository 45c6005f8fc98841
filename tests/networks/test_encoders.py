"""Encoders against the supplement's tables, written out, and the ranges of their heads."""

import math

import pytest
import torch
from torch import nn

from lift3d.errors import ConfigError
from lift3d.networks.encoders import (
    LightEncoder,
    RangedEncoder,
    ResBlock,
    ViewEncoder,
    WholeConv2d,
    image_encoder,
    pose_light_encoder,
)
from lift3d.scene.cameras import placed

# Tables 1 and 2 as printed, at 256; each row is (layer, output size).
TABLE_1 = [
    ("Conv(3, 16, 4, 2, 1) + ReLU", 128),
    ("Conv(16, 32, 4, 2, 1) + ReLU", 64),
    ("Conv(32, 64, 4, 2, 1) + ReLU", 32),
    ("Conv(64, 128, 4, 2, 1) + ReLU", 16),
    ("Conv(128, 256, 4, 2, 1) + ReLU", 8),
    ("Conv(256, 512, 4, 2, 1) + ReLU", 4),
    ("Conv(512, 512, 4, 1, 0) + ReLU", 1),
    ("Conv(512, 6, 1, 1, 0) + Tanh", 1),
]
TABLE_2 = [
    ("Conv(3, 16, 4, 2, 1) + ReLU", 128),
    ("ResBlock(16, 32)", 64),
    ("ResBlock(32, 64)", 32),
    ("ResBlock(64, 128)", 16),
    ("ResBlock(128, 256)", 8),
    ("ResBlock(256, 512)", 4),
    ("Conv(512, 1024, 4, 1, 0) + ReLU", 1),
    ("Conv(1024, 512, 1, 1, 0)", 1),
]
# 128: the second layer is removed, the first one's output channels increase from 16 to 32; 64: once more.
FIRST = {256: (3, 16), 128: (3, 32), 64: (3, 64)}
DROPPED = {256: 0, 128: 1, 64: 2}


def table_at(table, size):
    first = (f"Conv({FIRST[size][0]}, {FIRST[size][1]}, 4, 2, 1) + ReLU", size // 2)
    return [first, *table[1 + DROPPED[size] :]]


def describe(layer):
    """A layer in the tables' notation."""
    if isinstance(layer, torch.nn.Conv2d):
        assert layer.bias is not None and layer.groups == 1 and layer.dilation == (1, 1)
        k, s, p = layer.kernel_size, layer.stride, layer.padding
        assert k[0] == k[1] and s[0] == s[1] and p[0] == p[1]
        return f"Conv({layer.in_channels}, {layer.out_channels}, {k[0]}, {s[0]}, {p[0]})"
    if isinstance(layer, ResBlock):
        return f"ResBlock({layer.residual[1].in_channels}, {layer.residual[1].out_channels})"
    if isinstance(layer, torch.nn.Sequential):
        return " + ".join(describe(part) for part in layer)
    return {"AvgPool2d": "Avg_pool(2)"}.get(type(layer).__name__, type(layer).__name__)


def walk(net, size):
    """Rows of (layer, output size) of a network applied to an image."""
    x, rows = torch.zeros(1, 3, size, size), []
    for layer in net:
        x = layer(x)
        assert x.shape[2] == x.shape[3]
        rows.append((describe(layer), x.shape[2]))
    return rows


@pytest.mark.parametrize("size", [64, 128, 256])
def test_table_1(size):
    net = pose_light_encoder(size, 6)
    assert walk(net, size) == table_at(TABLE_1, size)
    assert [name for name, _ in net.named_children()][-3:] == ["conv_4", "conv_1", "out"]


@pytest.mark.parametrize("size", [64, 128, 256])
def test_table_2(size):
    net = image_encoder(size)
    assert walk(net, size) == table_at(TABLE_2, size)
    blocks = [f"block_{r}" for r in (64, 32, 16, 8, 4) if r < size // 2]
    assert [name for name, _ in net.named_children()] == [f"conv_{size // 2}", *blocks, "conv_1", "out"]


def test_table_3():
    block = ResBlock(16, 32)
    assert describe(block.residual) == "ReLU + Conv(16, 32, 3, 2, 1) + ReLU + Conv(32, 32, 3, 1, 1)"
    assert describe(block.identity) == "Avg_pool(2) + Conv(16, 32, 1, 1, 0)"
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    assert torch.equal(block(x), block.residual(x) + block.identity(x))
    assert torch.equal(x, before)  # the residual path's ReLU must not reach the identity path


def n_parameters(net):
    return sum(p.numel() for p in net.parameters())


def conv(i, o, k):
    return o * (i * k * k + 1)


def test_parameter_counts():
    pyramid = conv(3, 16, 4) + sum(conv(c, 2 * c, 4) for c in (16, 32, 64, 128, 256))
    table_1 = pyramid + conv(512, 512, 4) + conv(512, 6, 1)
    block = lambda c: conv(c, 2 * c, 3) + conv(2 * c, 2 * c, 3) + conv(c, 2 * c, 1)  # noqa: E731
    blocks = sum(map(block, (16, 32, 64, 128, 256)))
    table_2 = conv(3, 16, 4) + blocks + conv(512, 1024, 4) + conv(1024, 512, 1)
    assert n_parameters(pose_light_encoder(256, 6)) == table_1
    assert n_parameters(image_encoder(256)) == table_2
    light = table_1 - conv(512, 6, 1) + conv(512, 4, 1)
    assert 40e6 < table_1 + light + 2 * table_2 < 42e6  # method.md: 41 M together


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_width_scales_everything_but_the_output(size):
    images = torch.zeros(2, 3, size, size)
    for width in (0.25, 0.001):
        assert image_encoder(size, width=width)(images).shape == (2, 512)
        assert pose_light_encoder(size, 5, width)(images).shape == (2, 5)
    narrow, full = (image_encoder(size, width=w).conv_1[0] for w in (0.25, 1.0))
    assert (full.in_channels, full.out_channels) == (512, 1024)
    assert (narrow.in_channels, narrow.out_channels) == (128, 256)


def test_memory_format_changes_no_value():
    torch.manual_seed(0)
    net, images = image_encoder(32, width=0.25), torch.randn(3, 3, 32, 32)
    assert net.conv_1[0].weight.is_contiguous(memory_format=torch.channels_last)
    plain = torch.nn.Sequential(*net.children())
    for p in plain.parameters():
        p.data = p.data.contiguous()
    torch.testing.assert_close(net(images), plain(images).flatten(1))


def test_smaller_images_are_enlarged():
    net, images = image_encoder(32, width=0.1), torch.rand(2, 3, 16, 16)
    large = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(net(images), net(large))


def test_errors():
    for size in (4, 96, 2048):
        with pytest.raises(ConfigError, match=f"image size is {size}, expected a power of 2 in 8..1024"):
            image_encoder(size)
    with pytest.raises(ConfigError, match="width is 0.0, expected a factor > 0"):
        pose_light_encoder(64, 6, 0.0)
    with pytest.raises(ConfigError, match=r"got images of shape \(3, 128, 128\), expected \(3, 64, 64\)"):
        image_encoder(64, width=0.1)(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ConfigError, match=r"outputs are \(-1.0,\), expected numbers >= 0"):
        RangedEncoder(8, 0.01, (0.0,), (-1.0,), 1)


def test_views_about_a_pivot_go_to_the_network_and_back():
    encoder = ViewEncoder(8, 0.05, (0.5, 1.0, 0.3), pivot=(0.0, 0.1, 0.5))
    tanh = torch.rand(5, 6, generator=torch.Generator().manual_seed(0)) - 0.5
    view = encoder.from_tanh(tanh)
    plain = ViewEncoder(8, 0.05, (0.5, 1.0, 0.3)).from_tanh(tanh)
    torch.testing.assert_close(view, placed(plain, encoder.pivot))
    tanh[:, 5] = 0.0  # t_z has no range
    torch.testing.assert_close(encoder.to_tanh(view), tanh, atol=1e-6, rtol=0)


def test_view_scale_by_hand():
    encoder = ViewEncoder(8, 0.01)
    ones = encoder.from_tanh(torch.ones(6))
    torch.testing.assert_close(ones, torch.tensor([math.radians(60)] * 3 + [0.1, 0.1, 0.0]))
    assert torch.equal(encoder.from_tanh(-torch.ones(6)), -ones)
    assert torch.equal(encoder.to_tanh(torch.full((6,), 9.0)), torch.tensor([1.0, 1, 1, 1, 1, 0]))
    assert torch.equal(encoder.to_tanh(torch.full((6,), -9.0)), -torch.tensor([1.0, 1, 1, 1, 1, 0]))
    assert ViewEncoder(8, 0.01, translation=(0.1, 0.1, 0.2)).from_tanh(torch.ones(6))[5] == 0.2


@pytest.mark.parametrize(("negative", "k"), [(0.0, 4), (0.6, 5)])
def test_light_scale_by_hand(negative, k):
    encoder = LightEncoder(8, 0.01, direction=(1.0, 0.8), negative=negative)
    high, low = encoder.from_tanh(torch.ones(k)), encoder.from_tanh(-torch.ones(k))
    torch.testing.assert_close(high, torch.tensor([1.0, 1.0, 1.0, 0.8, negative]))
    torch.testing.assert_close(low, torch.tensor([0.0, 0.0, -1.0, -0.8, 0.0]))
    assert torch.equal(encoder.to_tanh(torch.full((5,), 9.0)), torch.ones(k))


@pytest.mark.parametrize(
    "encoder",
    [ViewEncoder(16, 0.05), LightEncoder(16, 0.05), LightEncoder(16, 0.05, (1.0, 0.8), 0.6)],
    ids=["view", "light4", "light5"],
)
def test_outputs_are_in_range_and_round_trip(encoder):
    rng = torch.Generator().manual_seed(0)
    images = 50 * torch.randn(6, 3, 16, 16, generator=rng)
    tanh = encoder.tanh(images)
    assert tanh.abs().max() <= 1 and tanh.abs().max() > 0.1
    value = encoder(images)
    assert torch.equal(value, encoder.from_tanh(tanh))
    assert value.shape == (6, 6 if isinstance(encoder, ViewEncoder) else 5)
    back = encoder.to_tanh(value)
    if isinstance(encoder, ViewEncoder):
        assert (back[:, 5] == 0).all()
        back, tanh = back[:, :5], tanh[:, :5]
    torch.testing.assert_close(back, tanh, atol=1e-5, rtol=0)
    assert not any("range" in key for key in encoder.state_dict())


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    encoder = ViewEncoder(16, 0.25)
    encoder(torch.randn(4, 3, 16, 16))[:, :5].square().sum().backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, name


def test_a_convolution_of_the_whole_image_is_a_convolution():
    layer = WholeConv2d(6, 5, 4)
    for memory in (torch.contiguous_format, torch.channels_last):
        layer, x = layer.to(memory_format=memory), torch.randn(3, 6, 4, 4).contiguous(memory_format=memory)
        found = []
        for twin in (layer, nn.Conv2d.forward):
            x = x.detach().requires_grad_(True)
            y = twin(x) if twin is layer else twin(layer, x)
            found.append([y, *torch.autograd.grad(y.square().sum(), (x, layer.weight, layer.bias))])
        for fast, readable in zip(*found, strict=True):
            torch.testing.assert_close(fast, readable)
