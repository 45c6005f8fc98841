"""The fused softplus network against its readable twins, and at the limits of single precision."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lift3d.networks import softplus_mlp
from lift3d.networks.packed import PackedSoftplus, linear, linear_reference
from lift3d.networks.products import fast_products
from lift3d.networks.softplus_mlp import SoftplusMLP

E_IN, N_HIDDEN = 9, 12


def network(n_layers: int, skip: int | None, b: int = 2, dtype: torch.dtype = torch.float64) -> SoftplusMLP:
    """Random parameters that require gradients."""
    generator = torch.Generator().manual_seed(n_layers)

    def rand(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64) / shape[-1] ** 0.5
        return values.to(dtype).requires_grad_(True)

    widths = [(N_HIDDEN if i else E_IN) + (E_IN if i == skip else 0) for i in range(n_layers)]
    biases = tuple(rand(b, N_HIDDEN) for _ in range(n_layers))
    return SoftplusMLP(tuple(rand(N_HIDDEN, w) for w in widths), biases, rand(N_HIDDEN), skip)


def inputs(b: int = 2, p: int = 7, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(b, p, E_IN, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(True)


NETWORKS = [(1, None), (1, 0), (2, 1), (4, 2), (8, 4)]


@pytest.mark.parametrize(("n_layers", "skip"), NETWORKS)
@pytest.mark.parametrize("used", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_one_pass_is_automatic_differentiation(
    n_layers: int, skip: int | None, used: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softplus_mlp, "BLOCK", 6)  # 3 points of each object at a time
    mlp, x = network(n_layers, skip), inputs()
    wanted = [x, mlp.head, *mlp.weights, *mlp.biases]
    found = []
    for twin in (softplus_mlp.value_and_gradient, softplus_mlp.value_and_gradient_reference):
        outputs = twin(mlp, x)
        generator = torch.Generator().manual_seed(3)
        loss = torch.zeros((), dtype=torch.float64)
        for output, factor in zip(outputs, used, strict=True):
            weight = torch.randn(output.shape, generator=generator, dtype=torch.float64)
            loss = loss + factor * (weight * output).sin().sum() if factor else loss
        gradients = torch.autograd.grad(loss, wanted, materialize_grads=True)
        found.append([*outputs, *gradients])
    for fast, readable in zip(*found, strict=True):
        torch.testing.assert_close(fast, readable, atol=1e-12, rtol=1e-10)


def test_one_pass_has_the_derivatives_of_finite_differences() -> None:
    mlp, x = network(3, 1), inputs(2, 2)

    def outputs(x: Tensor, head: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return softplus_mlp.value_and_gradient(SoftplusMLP(rest[:3], rest[3:], head, 1), x)

    assert torch.autograd.gradcheck(outputs, (x, mlp.head, *mlp.weights, *mlp.biases))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize(("n_layers", "skip"), NETWORKS)
def test_packed_networks_are_their_readable_twins(
    n_layers: int, skip: int | None, b: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softplus_mlp, "BLOCK", 6)
    mlp, x = network(n_layers, skip, b, dtype), inputs(b, 7, dtype)
    network_at_inference = PackedSoftplus(mlp)
    found = network_at_inference.value_and_gradient(x)
    wanted = softplus_mlp.value_and_gradient_reference(mlp, x)
    for fast, readable in zip(found, wanted, strict=True):
        torch.testing.assert_close(fast, readable.detach())
        assert not fast.requires_grad
    torch.testing.assert_close(network_at_inference.value(x), found[0])


@pytest.mark.parametrize("relu", [False, True])
def test_a_packed_layer_is_its_readable_twin(relu: bool) -> None:
    weight, bias, x = torch.randn(5, 7), torch.randn(1, 5), torch.randn(11, 7)
    wanted = linear_reference(weight, bias, relu)(x)
    torch.testing.assert_close(linear(weight, bias, relu)(x), wanted)
    assert (wanted < 0).any() != relu


@pytest.mark.parametrize("beta", [5.0, 100.0])
@pytest.mark.parametrize(("n_layers", "skip"), NETWORKS)
def test_a_sharper_softplus_is_one_of_other_parameters(n_layers: int, skip: int | None, beta: float) -> None:
    mlp, x = network(n_layers, skip), inputs()
    h = x
    for i, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        h = F.linear(torch.cat((h, x), -1) if i == skip else h, weight) + bias[:, None]
        h = F.softplus(h, beta, threshold=1e9)
    value, hidden = softplus_mlp.value(softplus_mlp.unit_sharpness(mlp, beta), x)
    torch.testing.assert_close(value, h @ mlp.head)
    torch.testing.assert_close(hidden / beta, h)


def test_single_precision_keeps_softplus_and_its_slope_everywhere() -> None:
    z = torch.cat((torch.linspace(-200, 200, 4001), torch.tensor([-1e30, 1e30, 0.0])))[None]
    value, slope = softplus_mlp.softplus_(z.clone())
    torch.testing.assert_close(value, F.softplus(z.double()).float(), atol=5e-6, rtol=1e-6)
    torch.testing.assert_close(slope, torch.sigmoid(z.double()).float(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("products", [nullcontext, fast_products])
def test_single_precision_has_the_gradients_of_double_precision(
    products: Callable[[], AbstractContextManager],
) -> None:
    """At beta = 100, where pre-activations are in the hundreds and the second derivative is sharp."""
    found = []
    for dtype in (torch.float64, torch.float32):
        mlp, x = network(8, 4, dtype=dtype), inputs(2, 500, dtype)
        with products():
            value, _, gradient = softplus_mlp.value_and_gradient(softplus_mlp.unit_sharpness(mlp, 100.0), x)
            loss = (gradient.norm(dim=-1) - 1).square().mean() + value.square().mean()
            gradients = torch.autograd.grad(loss, [*mlp.weights, *mlp.biases, mlp.head])
        found.append([g.double() for g in gradients])
    for exact, single in zip(*found, strict=True):
        assert (single - exact).norm() < 1e-4 * exact.norm()


def test_blocks_are_filled_up_to_few_numbers_of_rows() -> None:
    for b in (1, 3, 8):
        whole = softplus_mlp.BLOCK // b
        rows = {softplus_mlp.padded(torch.ones(b, p, 2)).shape[1] for p in range(1, whole + 1)}
        assert len(rows) <= 13 and whole in rows
    x = torch.rand(3, 7, 2)
    filled = softplus_mlp.padded(x)
    assert torch.equal(filled[:, :7], x) and not filled[:, 7:].any()
