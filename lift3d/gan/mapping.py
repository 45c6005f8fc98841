"""z, c -> w: the mapping network that StyleGAN2 and StyleGAN3 share, and its layers.

Symbols: z latent, c condition (one-hot), w intermediate latent, h a state inside the network. Names of
modules and tensors are NVLabs'.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lift3d.errors import ConfigError
from lift3d.gan.ops import SQRT2, leaky_relu, normal, normalize_second_moment


class FullyConnected(nn.Module):
    """Linear layer, weights scaled by lr / sqrt(in) at run time; perhaps sqrt(2) * leaky ReLU."""

    def __init__(
        self, n_in: int, n_out: int, activate: bool = False, lr: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(n_out, n_in, divisor=lr))
        self.bias = nn.Parameter(torch.full((n_out,), bias))
        self.activate, self.lr = activate, lr

    def forward(self, x: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
        gain = self.lr * (SQRT2 if self.activate else 1.0)
        x = F.linear(x, self.weight * (gain / sqrt(x.shape[1])), self.bias * gain)
        return leaky_relu(x) if self.activate else x


class MappingNetwork(nn.Module):
    """z, c -> w: normalization, then ``fc0``, ...; ``w_avg`` is the mean of w (not in discriminators)."""

    def __init__(
        self, z_dim: int, c_dim: int, w_dim: int, n_layers: int, lr: float = 0.01, average: bool = True
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim, self.n_layers = z_dim, c_dim, w_dim, n_layers
        if c_dim > 0:
            self.embed = FullyConnected(c_dim, w_dim)
        n_in = z_dim + (w_dim if c_dim > 0 else 0)
        for i in range(n_layers):
            self.add_module(f"fc{i}", FullyConnected(n_in if i == 0 else w_dim, w_dim, activate=True, lr=lr))
        if average:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self, z: Float[Tensor, "n z"] | None, c: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, "n w_dim"]:
        """w; z is None only if z_dim is 0, c only if c_dim is 0."""
        return self.tail(self.hidden(z, self.n_layers, c), self.n_layers)

    def hidden(
        self, z: Float[Tensor, "n z"] | None, k: int, c: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, "n h"]:
        """The state that the last k fully connected layers read (all of them where there are fewer)."""
        inputs = []
        if self.z_dim > 0:
            inputs.append(normalize_second_moment(z))
        if self.c_dim > 0:
            if c is None:
                raise ConfigError(
                    f"c is None, but this network is conditional: pass {self.c_dim} numbers per sample"
                )
            inputs.append(normalize_second_moment(self.embed(c)))
        return self._layers(torch.cat(inputs, dim=1), 0, self._first_of_last(k))

    def tail(self, h: Float[Tensor, "n h"], k: int) -> Float[Tensor, "n w_dim"]:
        """The last k fully connected layers: ``tail(hidden(z, k), k)`` is w."""
        return self._layers(h, self._first_of_last(k), self.n_layers)

    def width_before(self, k: int) -> int:
        """Width of what the last k fully connected layers read."""
        return getattr(self, f"fc{self._first_of_last(k)}").weight.shape[1]

    def _first_of_last(self, k: int) -> int:
        return max(self.n_layers - k, 0)

    def _layers(self, x: Tensor, start: int, stop: int) -> Tensor:
        for i in range(start, stop):
            x = getattr(self, f"fc{i}")(x)
        return x
