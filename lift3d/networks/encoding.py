"""Positional encoding with a window that opens coarse to fine.

``x -> (x, sin 2^k pi x, cos 2^k pi x)`` for k = 0..n-1 (Mildenhall et al. 2020, eq. 4).
``open_bands`` is the fraction of bands that is open, lowest first; a half-open band is weighted by the cosine
window of Nerfies (Park et al. 2021, eq. 8). The raw coordinates are always there.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def encoded_size(n_frequencies: int, n_inputs: int = 3) -> int:
    """Number of channels of ``encode``."""
    return n_inputs * (1 + 2 * n_frequencies)


def window(n_frequencies: int, open_bands: float | Float[Tensor, ""]) -> Float[Tensor, " n"]:
    """Weights of the bands in [0, 1] for a fraction of open bands in [0, 1], on its device if it has one."""
    bands = torch.arange(n_frequencies, device=getattr(open_bands, "device", None))
    position = (open_bands * n_frequencies - bands).clamp(0, 1)
    return (1 - torch.cos(math.pi * position)) / 2


def encode(
    x: Float[Tensor, "*s d"], n_frequencies: int, open_bands: float | Float[Tensor, ""] = 1.0
) -> Float[Tensor, "*s e"]:
    """Encoding of coordinates; raw coordinates first, then all sines, then all cosines, band by band."""
    if n_frequencies == 0:
        return x
    scales = math.pi * 2.0 ** torch.arange(n_frequencies, device=x.device, dtype=x.dtype)
    weights = window(n_frequencies, open_bands).to(x)
    angles = (x[..., None, :] * scales[:, None]).flatten(-2)
    weights = weights.repeat_interleave(x.shape[-1])
    return torch.cat((x, angles.sin() * weights, angles.cos() * weights), -1)


def pull_back(
    encoded: Float[Tensor, "*s e"], cotangent: Float[Tensor, "*s e"], n_frequencies: int
) -> Float[Tensor, "*s d"]:
    """The cotangent of the coordinates, from the encoding itself and the cotangent of it: J^T cotangent.

    The derivative of one half of a band is the other half, times the band's scale.
    """
    n_inputs = encoded.shape[-1] // (1 + 2 * n_frequencies)
    if n_frequencies == 0:
        return cotangent
    sizes = (n_inputs, n_inputs * n_frequencies, n_inputs * n_frequencies)
    raw, of_sin, of_cos = cotangent.split(sizes, -1)
    _, sin, cos = encoded.split(sizes, -1)
    scales = math.pi * 2.0 ** torch.arange(n_frequencies, device=encoded.device, dtype=encoded.dtype)
    bands = (cos * of_sin - sin * of_cos).unflatten(-1, (n_frequencies, n_inputs))
    return raw + (bands * scales[:, None]).sum(-2)
