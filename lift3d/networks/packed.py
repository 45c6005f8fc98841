"""Networks at inference: parameters laid out for the processor once, nothing kept for a backward pass.

Rows are those of b objects, one object after the other, equally many of each.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lift3d.networks.softplus_mlp import LIMIT, SoftplusMLP, blocks, padded, softplus_

Linear = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n h"]]
_PACKS = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear_reference(weight: Float[Tensor, "h d"], bias: Float[Tensor, "b h"], relu: bool = False) -> Linear:
    """x -> W x + b, or the positive part of it, for rows x: the readable twin of ``linear``."""

    def evaluate(x: Float[Tensor, "n d"]) -> Float[Tensor, "n h"]:
        z = F.linear(x, weight)
        z.view(len(bias), -1, len(weight)).add_(bias[:, None])
        return z.relu_() if relu else z

    return evaluate


def linear(weight: Float[Tensor, "h d"], bias: Float[Tensor, "b h"], relu: bool = False) -> Linear:
    """``linear_reference`` at twice its speed in single precision on CPUs: by oneDNN, which gets the weight
    in a layout of its own. For every number of rows it writes and keeps a program: see ``padded``.
    """
    if not (_PACKS and weight.device.type == "cpu" and weight.dtype == torch.float32):
        return linear_reference(weight, bias, relu)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    if len(bias) == 1:
        own, after = bias[0].contiguous(), "relu" if relu else "none"
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, own, after, [], "")

    def evaluate(x: Float[Tensor, "n d"]) -> Float[Tensor, "n h"]:
        z = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        z.view(len(bias), -1, len(weight)).add_(bias[:, None])
        return z.relu_() if relu else z

    return evaluate


def _unbiased(weight: Float[Tensor, "h d"]) -> Linear:
    return linear(weight, weight.new_zeros(1, len(weight)))


class PackedSoftplus:
    """A ``SoftplusMLP`` at inference: the fast twin of ``value`` and ``value_and_gradient_reference``."""

    @torch.no_grad()
    def __init__(self, mlp: SoftplusMLP) -> None:
        self.head, self.skip = mlp.head, mlp.skip
        carried = list(mlp.weights)
        if self.skip is not None:
            weight = carried[self.skip]
            n_carried = len(mlp.head) if self.skip else weight.shape[1] // 2
            carried[self.skip], seen = weight[:, :n_carried], weight[:, n_carried:]
            self.seen, self.seen_back = _unbiased(seen), _unbiased(seen.T)
        self.layers = [linear(w, b) for w, b in zip(carried, mlp.biases, strict=True)]
        self.back = [_unbiased(w.T) for w in carried]

    @torch.no_grad()
    def value(self, x: Float[Tensor, "b p e"]) -> Float[Tensor, "b p"]:
        """The output v."""
        parts = []
        for part in blocks(x):
            filled = padded(part)
            h = x = filled.flatten(0, 1)
            for i in range(len(self.layers)):
                h = F.softplus(self._layer(i, h, x), threshold=LIMIT)
            parts.append((h @ self.head).view(filled.shape[:2])[:, : part.shape[1]])
        return torch.cat(parts, 1)

    @torch.no_grad()
    def value_and_gradient(
        self, x: Float[Tensor, "b p e"]
    ) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b p h"], Float[Tensor, "b p e"]]:
        """v, the last hidden layer, and the gradient of v with respect to x."""
        parts = []
        for part in blocks(x):
            filled = padded(part)
            h, slopes = self._forward(filled.flatten(0, 1))
            found = h @ self.head, h, self._backward(slopes)
            parts.append([y.unflatten(0, filled.shape[:2])[:, : part.shape[1]] for y in found])
        return tuple(torch.cat(some, 1) for some in zip(*parts, strict=True))

    def _forward(self, x: Float[Tensor, "n e"]) -> tuple[Float[Tensor, "n h"], list[Float[Tensor, "n h"]]]:
        """The last hidden layer and the derivatives of all softpluses."""
        h, slopes = x, []
        for i in range(len(self.layers)):
            h, slope = softplus_(self._layer(i, h, x))
            slopes.append(slope)
        return h, slopes

    def _layer(self, i: int, h: Float[Tensor, "n d"], x: Float[Tensor, "n e"]) -> Float[Tensor, "n h"]:
        """What layer i gives to its softplus."""
        z = self.layers[i](h)
        return z.add_(self.seen(x)) if i == self.skip else z

    def _backward(self, slopes: list[Float[Tensor, "n h"]]) -> Float[Tensor, "n e"]:
        """dv/dx. ``slopes`` is used up."""
        carried, seen = self.head, 0.0
        for i in reversed(range(len(slopes))):
            u = slopes[i].mul_(carried)
            carried = self.back[i](u)
            if i == self.skip:
                seen = self.seen_back(u)
        return carried + seen
