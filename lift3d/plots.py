"""Plots of curves and histograms, by matplotlib, as pictures (pictures.py)."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

DPI = 100
COLORS = tuple(  # Okabe and Ito's, which the color-blind can tell apart
    f"#{c}" for c in "0072b2 d55e00 009e73 cc79a7 e69f00 56b4e9 000000".split()
)
_LIGHTS = ("#d5553e", "#2e9e5b", "#2f6fc0")  # red, green and blue


def curves(
    series: Mapping[str, Sequence[tuple[float | int, float | int]]],
    size: tuple[int, int] = (640, 360),
    title: str = "",
    log_y: bool = False,
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Named curves of (x, y) points on shared axes, ``size`` = (width, height) pixels, with a legend.

    A value that is not finite (or not positive, with ``log_y``) breaks its curve."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((size[0] / DPI, size[1] / DPI), dpi=DPI, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot(title=title)
    axes.set_prop_cycle(color=COLORS)
    axes.grid(color="0.92")
    for name, points in series.items():
        x, y = np.array(points, float).reshape(-1, 2).T
        drawable = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not log_y))
        axes.plot(x, np.where(drawable, y, np.nan), label=name, marker="." if len(x) == 1 else None)
    if log_y:
        axes.set_yscale("log")
    if series:
        axes.legend(loc="upper right")
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def histograms(
    panels: Mapping[str, Mapping[str, Float[np.ndarray, " _"]]], size: tuple[int, int] = (300, 220)
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Histograms, three panels a row of ``size`` = (width, height) pixels each, by title; within a panel the
    named values share bins and axes, with a legend unless the only name is ""."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    shape = (columns * size[0] / DPI, rows * size[1] / DPI)
    figure = Figure(shape, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for i, (title, values) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_yticks([])
        together = np.concatenate(list(values.values()))
        bins = np.histogram_bin_edges(together, 24) if len(together) else np.array([0.0, 1.0])
        for (name, some), color in zip(values.items(), _LIGHTS if len(values) == 3 else COLORS):
            axes.hist(some, bins, label=name, color=color, histtype="step" if len(values) > 1 else "bar")
        if any(values):
            axes.legend(fontsize=7)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
