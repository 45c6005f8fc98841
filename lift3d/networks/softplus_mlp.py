"""A softplus network and the gradient of its output with respect to its input, in one pass.

p points of each of b objects, e channels of input x, n hidden layers of width h. With sigma the logistic
function,

    z_i = W_i (h_{i-1}, and x again in layer ``skip``) + b_i,  h_i = log(1 + exp z_i),
    v = w . h_n,  g = dv/dx.

A bias b_i is one row per object. A network whose softplus has a sharpness beta is this one with other
parameters (``unit_sharpness``). ``value_and_gradient`` is differentiable once. Its backward pass is written
by hand, from

    u_i = dv/dz_i (known from the forward pass),  the tangent z'_i = dz_i along the cotangent of g,
    q_i = sigma_i p_i + (1 - sigma_i) u_i z'_i,   dW_i = q_i h_{i-1}^T + u_i h'_{i-1}^T

with p_i the cotangent of h_i. This is the arithmetic of differentiating v twice, without its intermediate
results. ``value_and_gradient_reference`` is the readable twin, which leaves it to automatic differentiation.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LIMIT = 40.0  # |z| beyond which softplus is linear or 0; exp(-LIMIT) is no denormal number, which are slow
BLOCK = 2048  # rows that a CPU takes at a time, so that the layers of a block stay in its caches


@dataclass(frozen=True)
class SoftplusMLP:
    """The parameters of a network for b objects."""

    weights: tuple[Float[Tensor, "h _"], ...]
    biases: tuple[Float[Tensor, "b h"], ...]
    head: Float[Tensor, " h"]
    skip: int | None


def unit_sharpness(mlp: SoftplusMLP, beta: float) -> SoftplusMLP:
    """The network with the output of ``mlp`` under softplus log(1 + exp(beta z)) / beta.

    Its hidden layers are ``beta`` times as large. Only what sees x itself, biases and head are scaled.
    """
    n_hidden = len(mlp.head)
    weights = list(mlp.weights)
    for i in {0, mlp.skip} - {None}:
        n_carried = 0 if i == 0 else n_hidden
        carried, fresh = weights[i].split((n_carried, weights[i].shape[1] - n_carried), 1)
        weights[i] = torch.cat((carried, fresh * beta), 1)
    return SoftplusMLP(tuple(weights), tuple(b * beta for b in mlp.biases), mlp.head / beta, mlp.skip)


def value(mlp: SoftplusMLP, x: Float[Tensor, "b p e"]) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b p h"]]:
    """v and h_n by plain operations; differentiable as often as one likes."""
    h = x
    for i, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        h = F.softplus(F.linear(torch.cat((h, x), -1) if i == mlp.skip else h, weight) + bias[:, None])
    return h @ mlp.head, h


def value_and_gradient_reference(
    mlp: SoftplusMLP, x: Float[Tensor, "b p e"]
) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b p h"], Float[Tensor, "b p e"]]:
    """Readable twin of ``value_and_gradient``: the gradient by automatic differentiation."""
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_(True)
        v, h = value(mlp, x)
        (g,) = torch.autograd.grad(v.sum(), x, create_graph=True)
    return v, h, g


def value_and_gradient(
    mlp: SoftplusMLP, x: Float[Tensor, "b p e"]
) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b p h"], Float[Tensor, "b p e"]]:
    """v, h_n and g; differentiable once."""
    parameters = mlp.skip, len(mlp.weights), mlp.head, *mlp.weights, *mlp.biases
    found = [
        [y[:, : part.shape[1]] for y in _ValueAndGradient.apply(padded(part), *parameters)]
        for part in blocks(x)
    ]
    return tuple(torch.cat(parts, 1) for parts in zip(*found, strict=True))


def blocks(x: Float[Tensor, "b p e"]) -> tuple[Float[Tensor, "b _ e"], ...]:
    """The points in parts of about ``BLOCK`` rows on a CPU, all at once elsewhere."""
    return x.split(max(1, BLOCK // len(x)), 1) if x.device.type == "cpu" else (x,)


def padded(x: Float[Tensor, "b p d"]) -> Float[Tensor, "b q d"]:
    """The points, filled up with zeros to one of few numbers unless they are a whole block: oneDNN writes and
    keeps a program for every number of rows. CUDA does not, and gets them as they are.
    """
    b, p, _ = x.shape
    if x.is_cuda or b * p % BLOCK == 0 or p == BLOCK // b:
        return x
    step = next((step for step in (64, 128, 256) if b * p <= step), 256 if b * p <= BLOCK else BLOCK)
    return F.pad(x, (0, 0, 0, -p % max(1, step // b)))


def softplus_(z: Float[Tensor, "n h"]) -> tuple[Float[Tensor, "n h"], Float[Tensor, "n h"]]:
    """z - log(sigma(z)) = log(1 + exp z), which takes the place of z, and its derivative sigma(z)."""
    z.clamp_min_(-LIMIT)
    slope = torch.clamp_max(z, LIMIT).sigmoid_()
    return z.sub_(slope.log()), slope


def _linear(
    weight: Float[Tensor, "h _"],
    bias: Float[Tensor, "b h"],
    h: Float[Tensor, "n d"],
    x: Float[Tensor, "n e"] | None,
) -> Float[Tensor, "n h"]:
    """Pre-activation of a layer; n = b p rows, object by object."""
    z = h @ weight[:, : h.shape[1]].T
    if x is not None:
        z.addmm_(x, weight[:, h.shape[1] :].T)
    z.view(len(bias), -1, len(weight)).add_(bias[:, None])
    return z


class _ValueAndGradient(torch.autograd.Function):
    """See the module's docstring for the symbols."""

    @staticmethod
    def forward(ctx, x, skip, n, head, *parameters):
        weights, biases = parameters[:n], parameters[n:]
        flat = x.flatten(0, 1)
        hidden, slopes, h = [], [], flat
        for i in range(n):
            h, slope = softplus_(_linear(weights[i], biases[i], h, flat if i == skip else None))
            hidden.append(h)
            slopes.append(slope)
        carried, gradient, adjoints = head, torch.zeros_like(flat), []
        for i in reversed(range(n)):
            u = slopes[i] * carried
            width = hidden[i - 1].shape[1] if i else flat.shape[1]
            carried = u @ weights[i][:, :width]
            if i == skip:
                gradient.addmm_(u, weights[i][:, width:])
            adjoints.insert(0, u)
        gradient += carried
        ctx.skip, ctx.n, ctx.objects = skip, n, len(x)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(flat, head, *weights, *hidden, *slopes, *adjoints)
        return (h @ head).view(x.shape[:2]), h.view(*x.shape[:2], -1), gradient.view_as(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_bar, h_bar, g_bar):
        n, skip = ctx.n, ctx.skip
        x, head, *saved = ctx.saved_tensors
        weights, hidden, slopes, adjoints = (saved[k * n : (k + 1) * n] for k in range(4))
        inputs = [x, *hidden[:-1]]
        p = torch.zeros_like(hidden[-1]) if h_bar is None else h_bar.reshape_as(hidden[-1])
        d_head = torch.zeros_like(head)
        if v_bar is not None:
            p = torch.addr(p, v_bar.flatten(), head)
            d_head += v_bar.flatten() @ hidden[-1]
        tangents, bends = [], []  # h'_{i-1} and (1 - sigma_i) u_i z'_i
        if g_bar is not None:
            tangents, bends, last = _tangents(g_bar.reshape_as(x), weights, slopes, adjoints, skip)
            d_head += last.sum(0)
        d_weights, d_biases, x_bar = [], [], torch.zeros_like(x)
        for i in reversed(range(n)):
            width = inputs[i].shape[1]
            q = slopes[i] * p if g_bar is None else torch.addcmul(bends[i], slopes[i], p, out=bends[i])
            parts = [(inputs[i], tangents[i] if tangents else None)]
            if i == skip:
                parts.append((x, tangents[0] if tangents else None))
                x_bar.addmm_(q, weights[i][:, width:])
            d = [q.T @ h if t is None else torch.addmm(q.T @ h, adjoints[i].T, t) for h, t in parts]
            d_weights.insert(0, torch.cat(d, 1))
            d_biases.insert(0, q.view(ctx.objects, -1, q.shape[1]).sum(1))
            p = q @ weights[i][:, :width]
        x_bar += p
        return x_bar.view(ctx.objects, -1, x.shape[1]), None, None, d_head, *d_weights, *d_biases


def _tangents(x, weights, slopes, adjoints, skip):
    """The tangents of all layers' inputs along x, the second-order terms of their q_i, and h'_n."""
    inputs, bends, h = [], [], x
    for i, (weight, slope, u) in enumerate(zip(weights, slopes, adjoints, strict=True)):
        inputs.append(h)
        z = h @ weight[:, : h.shape[1]].T
        if i == skip:
            z.addmm_(x, weight[:, h.shape[1] :].T)
        bends.append(torch.addcmul(u, slope, u, value=-1).mul_(z))
        h = z.mul_(slope)
    return inputs, bends, h
