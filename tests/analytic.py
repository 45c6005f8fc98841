"""Surfaces that are given by their signed distance alone."""

from collections.abc import Callable

from torch import Tensor

from lift3d.scene.surface import Surface


def surface_of(sdf: Callable[[Tensor], Tensor]) -> Surface:
    """One object without material, whose signed distance is ``sdf``: points [n, 3] -> [n]."""
    return Surface(lambda x: (sdf(x[0])[None, :, None], x), lambda *_: None)
