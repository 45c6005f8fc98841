"""Faster matrix products are as exact, and a matter of the block alone that asks for them."""

import pytest
import torch

from lift3d.networks import products
from lift3d.networks.products import fast_products


def settings() -> tuple[bool, str | None]:
    """Of the GPU, and of the CPU where it has one."""
    return torch.backends.cuda.matmul.allow_tf32, getattr(products._CPU, "fp32_precision", None)


@pytest.mark.parametrize("shape", [(2048, 256, 256), (2048, 27, 256), (3, 5, 7)])
def test_products_are_as_exact_as_single_precision(shape: tuple[int, int, int]) -> None:
    n, d, h = shape
    rng = torch.Generator().manual_seed(0)
    x, w, q = (torch.randn(*s, generator=rng) for s in ((n, d), (h, d), (n, h)))
    with fast_products():
        found = x @ w.T, q @ w, q.T @ x
    wanted = x.double() @ w.double().T, q.double() @ w.double(), q.double().T @ x.double()
    for single, exact in zip(found, wanted, strict=True):
        assert (single - exact).norm() < 1e-6 * exact.norm()


def test_settings_are_those_of_before_afterwards() -> None:
    before = settings()
    with fast_products():
        assert torch.backends.cuda.matmul.allow_tf32
        inside = settings()
        with fast_products():
            assert settings() == inside
        assert settings() == inside
    assert settings() == before
    with pytest.raises(ZeroDivisionError), fast_products():
        1 / 0  # noqa: B018
    assert settings() == before


def test_a_processor_that_rounds_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those with tiles of bfloat16 would, here by a product that rounds."""
    product = torch.Tensor.__matmul__

    def rounding(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (
            product(a, b) if a.dtype == torch.float64 else product(a.bfloat16().float(), b.bfloat16().float())
        )

    products._onednn_is_exact.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "__matmul__", rounding)
        assert not products._onednn_is_exact()
    before = settings()
    with fast_products():
        assert settings()[1] == before[1]
    products._onednn_is_exact.cache_clear()
