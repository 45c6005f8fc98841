"""Curves go where their points are."""

import math

import numpy as np
import pytest

from lift3d.plots import curves

BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


def where(picture: np.ndarray, color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of one color, left of the legend."""
    y, x = np.nonzero((picture == color).all(-1))
    return y[x < 480], x[x < 480]


def test_curves_go_where_the_points_are() -> None:
    size = (640, 360)
    rising = curves({"a": [(float(i), float(i)) for i in range(11)]}, size)
    assert rising.shape == (360, 640, 3) and rising.dtype == np.uint8
    y, x = where(rising, BLUE)
    assert np.corrcoef(x, y)[0, 1] < -0.999  # rows run downwards
    two = curves({"a": [(0, 3.0), (10, 3.0)], "b": [(0, 1.0), (10, 1.0)]}, size)
    y, x = where(two, BLUE)
    assert np.ptp(y) <= 2 and np.ptp(x) > 350
    assert where(two, ORANGE)[0].mean() > y.mean() + 200


def test_log_axis_makes_exponentials_straight() -> None:
    curve = [(float(i), 10.0 ** (-i / 5)) for i in range(21)]
    y, x = where(curves({"a": curve}, log_y=True), BLUE)
    assert np.corrcoef(x, y)[0, 1] > 0.999
    y, x = where(curves({"a": curve}), BLUE)
    assert np.corrcoef(x, y)[0, 1] < 0.95


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_break_the_curve(bad: float) -> None:
    curve = [(float(i), bad if 4 <= i <= 6 else 1.0 + i % 2) for i in range(11)]
    _, x = where(curves({"a": curve}), BLUE)
    assert np.diff(np.unique(x)).max() > 100
    holes = [(x, -1.0 if y != y else y) for x, y in curve]
    if bad != bad:
        assert np.array_equal(curves({"a": curve}, log_y=True), curves({"a": holes}, log_y=True))


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    "series",
    [
        {},
        {"a": []},
        {"a": [(5.0, 0.0)]},
        {"a": [(5, -2.0), (5, math.nan)]},
        {"a": [(0, 1e-6), (1, 3e-6)], "b": [(9e8, 1e9)]},
    ],
    ids=["nothing", "empty", "zero", "negative", "extreme"],
)
def test_odd_series_are_drawn(series: dict, log_y: bool) -> None:
    picture = curves(series, (200, 120), "title", log_y)
    assert picture.shape == (120, 200, 3) and picture.min() < 100
    assert np.array_equal(picture, curves(series, (200, 120), "title", log_y))
