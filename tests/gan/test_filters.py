"""Low-pass filters against SciPy's, and the filtered leaky ReLU against its readable twin."""

import numpy as np
import pytest
import scipy.signal
import scipy.special
import torch

from lift3d.gan.filters import (
    filtered_leaky_relu,
    filtered_leaky_relu_reference,
    kaiser_beta,
    lowpass,
)

SETTINGS = [(12, 2.0, 12.0, 32), (24, 3.4, 9.3, 64), (5, 3.0, 8.0, 32), (12, 16.0, 7.4, 64), (6, 2.0, 0.1, 8)]


@pytest.mark.parametrize(("taps", "cutoff", "width", "rate"), SETTINGS)
def test_separable_filters_are_scipys(taps: int, cutoff: float, width: float, rate: int) -> None:
    expected = scipy.signal.firwin(taps, cutoff, width=width, fs=rate)
    assert np.allclose(lowpass(taps, cutoff, width, rate), expected, atol=1e-7)


@pytest.mark.parametrize(("taps", "cutoff", "width", "rate"), SETTINGS)
def test_radial_filters_are_windowed_jincs(taps: int, cutoff: float, width: float, rate: int) -> None:
    f = lowpass(taps, cutoff, width, rate, radial=True).double().numpy()
    x = (np.arange(taps) - (taps - 1) / 2) / rate
    r = np.maximum(np.hypot(*np.meshgrid(x, x)), 1e-9)
    beta = scipy.signal.kaiser_beta(scipy.signal.kaiser_atten(taps, 2 * width / rate))
    window = scipy.signal.get_window(("kaiser", beta), taps, fftbins=False)
    expected = scipy.special.j1(2 * np.pi * cutoff * r) / r * np.outer(window, window)
    assert np.allclose(f, expected / expected.sum(), atol=1e-7)
    assert np.array_equal(f, f.T) and np.allclose(f, np.rot90(f), atol=1e-8)


def test_windows_and_single_taps() -> None:
    for taps, width in ((12, 0.5), (12, 0.1), (3, 0.01), (40, 0.9)):
        expected = scipy.signal.kaiser_beta(scipy.signal.kaiser_atten(taps, width))
        assert kaiser_beta(taps, width) == pytest.approx(expected, rel=1e-12)
    assert lowpass(1, 2.0, 1.0, 16) is None


@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize(
    ("up", "down", "padding"),
    [(2, 2, (9, 8)), (2, 2, (11, 10)), (4, 2, (-6, -9)), (2, 4, (30, 31)), (1, 2, (3, -2)),
     (2, 1, (-11, -12)), (3, 3, (0, 5)), (1, 1, (-2, -1)), (1, 1, (0, 0))],
)  # fmt: skip
def test_the_fast_path_is_the_readable_one(
    up: int, down: int, padding: tuple[int, int], radial: bool
) -> None:
    x = torch.randn(2, 3, 20, 18, dtype=torch.float64)
    up_filter = lowpass(6 * up if up > 1 else 1, 2.0, 12.0, 32)
    down_filter = lowpass(5 * down if down > 1 else 1, 2.0, 12.0, 32, radial)
    for clamp, slope in ((None, 0.2), (0.7, 0.2), (0.7, 1.0)):
        settings = (up_filter, down_filter, up, down, padding, clamp, slope)
        before = x.clone().requires_grad_(True)
        fast, slow = filtered_leaky_relu(before, *settings), filtered_leaky_relu_reference(x, *settings)
        assert fast.shape == slow.shape and torch.allclose(fast, slow, atol=1e-12)
        assert torch.equal(before, x)
        direction = torch.randn_like(slow)
        (slope_fast,) = torch.autograd.grad((fast * direction).sum(), before)
        probe = x.clone().requires_grad_(True)
        (slope_slow,) = torch.autograd.grad(
            (filtered_leaky_relu_reference(probe, *settings) * direction).sum(), probe
        )
        assert torch.allclose(slope_fast, slope_slow, atol=1e-12)


def test_a_band_limited_signal_passes_unchanged() -> None:
    """Up and down without a nonlinearity: the identity inside, for what lies below the cutoff."""
    t = (torch.arange(64, dtype=torch.float64) + 0.5) / 32  # rate 32, frequency 2
    x = (torch.sin(2 * torch.pi * 2 * t) + 0.3).expand(1, 1, 64, 64)
    f = lowpass(24, 8.0, 12.0, 64)
    y = filtered_leaky_relu(x, f, f, 2, 2, (23, 22), None, 1.0)  # the same size, as in a layer
    assert y.shape == x.shape
    assert torch.allclose(y[:, :, 12:-12, 12:-12], x[:, :, 12:-12, 12:-12], atol=2e-3)
