"""The sRGB transfer curve and quantization."""

import numpy as np
import pytest

from lift3d.scene.color import linear_to_srgb, srgb_to_linear
from lift3d.scene.images import to_uint8


def test_transfer_curve_has_the_values_of_the_standard() -> None:
    linear = {0.0: 0.0, 0.02: 0.02 / 12.92, 0.5: 0.21404114, 188 / 255: 0.50288646, 1.0: 1.0}
    assert srgb_to_linear(np.array(list(linear))) == pytest.approx(list(linear.values()), abs=1e-7)
    assert linear_to_srgb(np.array(list(linear.values()))) == pytest.approx(list(linear), abs=1e-6)


def test_encoding_and_decoding_are_inverse_and_rise() -> None:
    x = np.linspace(0, 1, 2001)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(x)), x, atol=1e-7)
    np.testing.assert_allclose(srgb_to_linear(linear_to_srgb(x)), x, atol=1e-7)
    assert (np.diff(srgb_to_linear(x)) > 0).all() and (np.diff(linear_to_srgb(x)) > 0).all()


def test_both_pieces_of_the_curve_meet() -> None:
    for curve, knee in ((srgb_to_linear, 0.04045), (linear_to_srgb, 0.0031308)):
        below, above = curve(np.array([knee, np.nextafter(knee, 1)]))
        assert abs(above - below) < 5e-8  # the standard's constants are rounded


def test_single_precision_stays_single_and_values_below_zero_are_finite() -> None:
    x = np.array([-0.5, 0.25], np.float32)
    for curve in (srgb_to_linear, linear_to_srgb):
        assert curve(x).dtype == np.float32 and np.isfinite(curve(x)).all()


def test_bytes_are_nearest_and_clipped() -> None:
    levels = np.arange(256)
    assert np.array_equal(to_uint8(levels / 255), levels)
    assert np.array_equal(to_uint8((levels + 0.49) / 255), levels)
    assert np.array_equal(to_uint8(np.array([-0.2, 1.7, 0.999])), [0, 255, 255])
    assert to_uint8(np.zeros(2)).dtype == np.uint8
