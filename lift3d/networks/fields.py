"""The two conditional fields of GAN2X: ``SDFField`` F_s and ``MaterialField`` F_m (method.md, section 1).

Points are [b, p, 3] in the world frame, one code [b, c] per object. The code enters every hidden layer as a
learned bias that starts at zero, so an untrained field is the same for all objects. F_s is an analytic
ellipsoid plus a learned residual that starts at zero: the convex prior of the exploration step is exact,
whatever the width of the network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lift3d.networks import softplus_mlp
from lift3d.networks.encoding import encode, encoded_size, pull_back
from lift3d.networks.packed import PackedSoftplus, linear
from lift3d.networks.softplus_mlp import SoftplusMLP, blocks, padded
from lift3d.scene.shading import Material
from lift3d.scene.surface import Surface

SHININESS_RANGE = (4.0, 100.0)  # Table 4


def ellipsoid_sdf(points: Float[Tensor, "*s 3"], radii: Float[Tensor, "3"]) -> Float[Tensor, "*s 1"]:
    """Signed distance to an axis-aligned ellipsoid, exact to first order at its surface.

    For a sphere it is exact everywhere but within 1e-5 of the center, where rounding is guarded.
    """
    k0 = (points / radii).square().sum(-1, keepdim=True).add(1e-12).sqrt()
    k1 = (points / radii.square()).square().sum(-1, keepdim=True).add(1e-12).sqrt()
    return k0 * (k0 - 1.0) / k1


def ellipsoid_gradient(points: Float[Tensor, "*s 3"], radii: Float[Tensor, "3"]) -> Float[Tensor, "*s 3"]:
    """Spatial gradient of ``ellipsoid_sdf``."""
    a, b = points / radii, points / radii.square()
    k0 = a.square().sum(-1, keepdim=True).add(1e-12).sqrt()
    k1 = b.square().sum(-1, keepdim=True).add(1e-12).sqrt()
    along_k0, along_k1 = a / radii / k0, b / radii.square() / k1
    return ((2.0 * k0 - 1.0) * along_k0 - k0 * (k0 - 1.0) / k1 * along_k1) / k1


class ConditionalMLP(nn.Module):
    """Hidden layers with weight norm and a bias from the code; layer ``skip`` sees the input again."""

    def __init__(
        self, n_in: int, n_hidden: int, n_layers: int, n_code: int, skip: int | None, act: nn.Module
    ) -> None:
        super().__init__()
        self.skip, self.act = skip, act
        sizes = [n_in] + [n_hidden] * n_layers
        self.layers = nn.ModuleList(
            weight_norm(_linear(sizes[i] + (n_in if i == skip else 0), n_hidden)) for i in range(n_layers)
        )
        self.biases = nn.Linear(n_code, n_hidden * n_layers)
        nn.init.zeros_(self.biases.weight)
        nn.init.zeros_(self.biases.bias)

    def forward(self, x: Float[Tensor, "b p i"], code: Float[Tensor, "b c"]) -> Float[Tensor, "b p h"]:
        h = x
        for i, (weight, bias) in enumerate(zip(*self.folded(code), strict=True)):
            h = self.act(F.linear(torch.cat((h, x), -1) if i == self.skip else h, weight) + bias[:, None])
        return h

    def folded(
        self, code: Float[Tensor, "b c"]
    ) -> tuple[tuple[Float[Tensor, "h _"], ...], tuple[Float[Tensor, "b h"], ...]]:
        """Weights with their norms in them, and every layer's bias of each code."""
        biases = self.biases(code).chunk(len(self.layers), -1)
        biases = tuple(layer.bias + bias for layer, bias in zip(self.layers, biases, strict=True))
        return tuple(layer.weight for layer in self.layers), biases


def _linear(n_in: int, n_out: int) -> nn.Linear:
    """A layer that keeps the scale of what passes through it and its rectifier (He et al. 2015)."""
    layer = nn.Linear(n_in, n_out)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


class SDFField(nn.Module):
    """F_s: point, code -> signed distance and feature."""

    def __init__(
        self,
        n_hidden: int,
        n_layers: int,
        n_frequencies: int,
        n_code: int,
        radii: tuple[float, float, float],
        beta: float = 100.0,
    ) -> None:
        super().__init__()
        self.n_frequencies, self.beta = n_frequencies, beta
        self.register_buffer("radii", torch.tensor(radii))
        skip = n_layers // 2
        n_in = encoded_size(n_frequencies)
        self.body = ConditionalMLP(n_in, n_hidden, n_layers, n_code, skip, nn.Softplus(beta=beta))
        self.head = nn.Linear(n_hidden, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        points: Float[Tensor, "b p 3"],
        code: Float[Tensor, "b c"],
        open_bands: float | Float[Tensor, ""] = 1.0,
    ) -> tuple[Float[Tensor, "b p 1"], Float[Tensor, "b p h"]]:
        """Signed distances and the last hidden layer; ``open_bands`` as in encoding.py."""
        feature = self.body(encode(points, self.n_frequencies, open_bands), code)
        return ellipsoid_sdf(points, self.radii) + self.head(feature), feature

    def of(self, code: Float[Tensor, "b c"], open_bands: float | Float[Tensor, ""] = 1.0) -> "CodedSDF":
        """The fast twin of ``forward`` for given codes."""
        mlp = SoftplusMLP(*self.body.folded(code), self.head.weight[0], self.body.skip)
        return CodedSDF(self, open_bands, softplus_mlp.unit_sharpness(mlp, self.beta))


@dataclass(frozen=True)
class CodedSDF:
    """F_s for given codes: norms and codes are folded into its parameters once."""

    field: SDFField
    open_bands: float | Float[Tensor, ""]
    mlp: SoftplusMLP  # its hidden layers are beta times those of the field

    @cached_property
    def _packed(self) -> PackedSoftplus:
        return PackedSoftplus(self.mlp)

    def __call__(
        self, points: Float[Tensor, "b p 3"]
    ) -> tuple[Float[Tensor, "b p 1"], Float[Tensor, "b p h"]]:
        """Signed distance and feature; differentiable as often as one likes."""
        v, h = softplus_mlp.value(self.mlp, encode(points, self.field.n_frequencies, self.open_bands))
        return self._distance(points, v), h / self.field.beta

    def distance(self, points: Float[Tensor, "b p 3"]) -> Float[Tensor, "b p 1"]:
        """Signed distance alone, not differentiable."""
        encoded = encode(points, self.field.n_frequencies, self.open_bands)
        return self._distance(points, self._packed.value(encoded))

    def with_gradient(
        self, points: Float[Tensor, "b p 3"]
    ) -> tuple[Float[Tensor, "b p 1"], Float[Tensor, "b p h"], Float[Tensor, "b p 3"]]:
        """Signed distance, feature and spatial gradient; differentiable once, unless gradients are off."""
        encoded = encode(points, self.field.n_frequencies, self.open_bands)
        if torch.is_grad_enabled():
            v, h, g = softplus_mlp.value_and_gradient(self.mlp, encoded)
        else:
            v, h, g = self._packed.value_and_gradient(encoded)
        gradient = ellipsoid_gradient(points, self.field.radii) + pull_back(
            encoded, g, self.field.n_frequencies
        )
        return self._distance(points, v), h / self.field.beta, gradient

    def _distance(self, points: Float[Tensor, "b p 3"], v: Float[Tensor, "b p"]) -> Float[Tensor, "b p 1"]:
        return ellipsoid_sdf(points, self.field.radii) + (v[..., None] + self.field.head.bias)


class MaterialField(nn.Module):
    """F_m: point, unit normal, feature of F_s, code -> albedo, specular intensity, Phong exponent."""

    def __init__(self, n_hidden: int, n_layers: int, n_frequencies: int, n_feature: int, n_code: int) -> None:
        super().__init__()
        self.n_frequencies = n_frequencies
        self.body = ConditionalMLP(
            encoded_size(n_frequencies) + 3 + n_feature, n_hidden, n_layers, n_code, None, nn.ReLU()
        )
        self.head = nn.Linear(n_hidden, 5)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias[3] = -1.7  # a specularity of 0.15; from near 0 it would not rise

    def forward(
        self,
        points: Float[Tensor, "b p 3"],
        normal: Float[Tensor, "b p 3"],
        feature: Float[Tensor, "b p f"],
        code: Float[Tensor, "b c"],
    ) -> Material:
        """Material of surface points. All bands are open: a crude shape needs its texture."""
        x = torch.cat((encode(points, self.n_frequencies), normal, feature), -1)
        return self._material(self.body(x, code))

    def of(self, code: Float[Tensor, "b c"]) -> Callable[[Tensor, Tensor, Tensor], Material]:
        """The fast twin of ``forward`` for given codes: the same of points, normals and features."""
        weights, biases = self.body.folded(code)
        if not torch.is_grad_enabled():
            return self._packed(weights, biases)

        def evaluate(
            points: Float[Tensor, "b p 3"], normal: Float[Tensor, "b p 3"], feature: Float[Tensor, "b p f"]
        ) -> Material:
            x = torch.cat((encode(points, self.n_frequencies), normal), -1)
            near, far = weights[0].split((x.shape[-1], feature.shape[-1]), 1)
            hidden = []
            for own, of_shape in zip(blocks(x), blocks(feature), strict=True):
                h = F.linear(padded(of_shape), far).add_(F.linear(padded(own), near))
                h = h.add_(biases[0][:, None]).relu_()
                for weight, bias in zip(weights[1:], biases[1:], strict=True):
                    h = F.linear(h, weight).add_(bias[:, None]).relu_()
                hidden.append(h[:, : own.shape[1]])
            return self._material(torch.cat(hidden, 1))

        return evaluate

    def _packed(
        self, weights: tuple[Float[Tensor, "h _"], ...], biases: tuple[Float[Tensor, "b h"], ...]
    ) -> Callable[[Tensor, Tensor, Tensor], Material]:
        """``of`` where gradients are off."""
        layers = [linear(w, b, relu=True) for w, b in zip(weights, biases, strict=True)]

        def evaluate(
            points: Float[Tensor, "b p 3"], normal: Float[Tensor, "b p 3"], feature: Float[Tensor, "b p f"]
        ) -> Material:
            x = padded(torch.cat((encode(points, self.n_frequencies), normal, feature), -1))
            h = x.flatten(0, 1)
            for layer in layers:
                h = layer(h)
            return self._material(h.unflatten(0, x.shape[:2])[:, : points.shape[1]])

        return evaluate

    def _material(self, h: Float[Tensor, "b p h"]) -> Material:
        raw = torch.sigmoid(self.head(h))
        low, high = SHININESS_RANGE
        return Material(raw[..., :3], raw[..., 3:4], low + (high - low) * raw[..., 4:5])


def condition(
    shape: SDFField,
    material: MaterialField,
    code: Float[Tensor, "b c"],
    open_bands: float | Float[Tensor, ""] = 1.0,
    mirror: Float[Tensor, " b"] | None = None,
) -> Surface:
    """The surface of each code; ``mirror`` is +1 or -1 per object: -1 reflects shape and material at x = 0.

    F_m sees points and normals where the network has learned them, so its material moves with the shape.
    """
    flip = _flip(code, mirror)
    sdf, reflectance = shape.of(code, open_bands), material.of(code)

    def sdf_gradient(points: Float[Tensor, "b p 3"]) -> tuple[Tensor, Tensor, Tensor]:
        distance, feature, gradient = sdf.with_gradient(points * flip)
        return distance, feature, gradient * flip

    return Surface(
        lambda x: sdf(x * flip),
        lambda x, n, feature: reflectance(x * flip, n * flip, feature),
        sdf_gradient,
        lambda x: sdf.distance(x * flip),
    )


def condition_reference(
    shape: SDFField,
    material: MaterialField,
    code: Float[Tensor, "b c"],
    open_bands: float | Float[Tensor, ""] = 1.0,
    mirror: Float[Tensor, " b"] | None = None,
) -> Surface:
    """Readable twin of ``condition``, by the fields' own ``forward`` and automatic differentiation."""
    flip = _flip(code, mirror)
    return Surface(
        lambda x: shape(x * flip, code, open_bands),
        lambda x, n, feature: material(x * flip, n * flip, feature, code),
    )


def _flip(code: Float[Tensor, "b c"], mirror: Float[Tensor, " b"] | None) -> Float[Tensor, "b 1 3"]:
    """The factors of coordinates that mirror some objects at x = 0."""
    flip = code.new_ones(len(code), 1, 3)
    return flip if mirror is None else torch.cat((mirror[:, None, None], flip[..., 1:]), -1)
