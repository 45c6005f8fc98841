"""Distances along rays. ``t`` is always the distance from the ray's origin; samples are the last axis.

Coarse: stratified between entry and exit of the unit sphere. Fine: drawn from the piecewise-constant density
of coarse weights by inverting its cumulative distribution. Random numbers are drawn on the CPU, from a CPU
generator.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def stratified(
    near: Float[Tensor, "*r"], far: Float[Tensor, "*r"], n: int, generator: torch.Generator | None
) -> Float[Tensor, "*r n"]:
    """One sample in each of n equal bins; bin centers where ``generator`` is None."""
    shape = (*near.shape, n)
    if generator is None:
        jitter = near.new_full(shape, 0.5)
    else:
        jitter = torch.rand(shape, generator=generator).to(near)
    return near[..., None] + (far - near)[..., None] * (torch.arange(n, device=near.device) + jitter) / n


def from_weights(
    t: Float[Tensor, "*r m"], weights: Float[Tensor, "*r k"], n: int, generator: torch.Generator | None
) -> Float[Tensor, "*r n"]:
    """n sorted samples; interval [t_i, t_{i+1}] gets them with probability ``weights_i`` / sum (k = m - 1).

    Inside an interval the density is uniform. Quantiles are stratified and jittered; midpoints where
    ``generator`` is None. Every weight is raised by 1e-5: where all are zero, every interval is as probable
    as the others.
    """
    pdf = weights + 1e-5
    cdf = torch.cumsum(pdf / pdf.sum(-1, keepdim=True), -1)
    cdf = torch.cat((torch.zeros_like(cdf[..., :1]), cdf), -1)
    zeros, ones = torch.zeros_like(t[..., 0]), torch.ones_like(t[..., 0])
    u = stratified(zeros, ones, n, generator)
    right = torch.searchsorted(cdf, u.contiguous(), right=True).clamp(1, t.shape[-1] - 1)
    c0, c1 = cdf.gather(-1, right - 1), cdf.gather(-1, right)
    t0, t1 = t.gather(-1, right - 1), t.gather(-1, right)
    return t0 + ((u - c0) / (c1 - c0).clamp_min(1e-9)).clamp_max(1.0) * (t1 - t0)


def interpolated(
    t: Float[Tensor, "*r m"], values: Float[Tensor, "*r m"], at: Float[Tensor, "*r k"]
) -> Float[Tensor, "*r k"]:
    """Values at other distances, linear between the samples (t sorted), and beyond them as on the outermost
    interval.
    """
    right = torch.searchsorted(t, at.contiguous()).clamp(1, t.shape[-1] - 1)
    t0, t1, v0, v1 = (x.gather(-1, i) for x in (t, values) for i in (right - 1, right))
    return v0 + (v1 - v0) * (at - t0) / (t1 - t0).clamp_min(1e-9)


def taken(values: Float[Tensor, "b r c"], index: Int64[Tensor, "b p"]) -> Float[Tensor, "b p c"]:
    """Rows of values, by their indices."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def listed(chosen: Bool[Tensor, "b k"]) -> Int64[Tensor, "b p"]:
    """Indices of what is chosen in each row, in order; p is the largest count of a row, or 1 if that is 0.

    A row with fewer is filled up with indices of what is not chosen.
    """
    count = max(1, int(chosen.sum(-1).max()))
    return torch.argsort(chosen.to(torch.uint8), dim=-1, descending=True, stable=True)[:, :count]
