"""The two conditional fields of GAN2X: ``SDFField`` F_s and ``MaterialField`` F_m (method.md, section 1).

Points are [b, p, 3] in the world frame, one code [b, c] per object. The code enters every hidden layer as a
learned bias that starts at zero, so an untrained field is the same for all objects. F_s is an analytic
ellipsoid plus a learned residual that starts at zero: the convex prior of the exploration step is exact,
whatever the width of the network.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lift3d.networks.encoding import encode, encoded_size
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
        biases = self.biases(code).chunk(len(self.layers), -1)
        for i, (layer, bias) in enumerate(zip(self.layers, biases, strict=True)):
            h = self.act(layer(torch.cat((h, x), -1) if i == self.skip else h) + bias[:, None])
        return h


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
        self.n_frequencies = n_frequencies
        self.register_buffer("radii", torch.tensor(radii))
        skip = n_layers // 2
        n_in = encoded_size(n_frequencies)
        self.body = ConditionalMLP(n_in, n_hidden, n_layers, n_code, skip, nn.Softplus(beta=beta))
        self.head = nn.Linear(n_hidden, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, points: Float[Tensor, "b p 3"], code: Float[Tensor, "b c"], open_bands: float = 1.0
    ) -> tuple[Float[Tensor, "b p 1"], Float[Tensor, "b p h"]]:
        """Signed distances and the last hidden layer; ``open_bands`` as in encoding.py."""
        feature = self.body(encode(points, self.n_frequencies, open_bands), code)
        return ellipsoid_sdf(points, self.radii) + self.head(feature), feature


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
        raw = torch.sigmoid(self.head(self.body(x, code)))
        low, high = SHININESS_RANGE
        return Material(raw[..., :3], raw[..., 3:4], low + (high - low) * raw[..., 4:5])


def condition(
    shape: SDFField,
    material: MaterialField,
    code: Float[Tensor, "b c"],
    open_bands: float = 1.0,
    mirror: Float[Tensor, " b"] | None = None,
) -> Surface:
    """The surface of each code; ``mirror`` is +1 or -1 per object: -1 reflects shape and material at x = 0.

    F_m sees points and normals where the network has learned them, so its material moves with the shape.
    """
    flip = code.new_ones(len(code), 1, 3)
    if mirror is not None:
        flip = torch.cat((mirror[:, None, None], flip[..., 1:]), -1)
    return Surface(
        lambda x: shape(x * flip, code, open_bands),
        lambda x, n, feature: material(x * flip, n * flip, feature, code),
    )
