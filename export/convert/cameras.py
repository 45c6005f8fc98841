"""Camera matrices in the conventions of other programs.

Stored: cam2world in OpenCV axes (x right, y down, z forward), world y up, K in pixels with centers at +0.5.
OpenGL axes (x right, y up, z backward) are those of NeRF, Blender and USD. Blender's and NeRF's worlds have z
up: our world (x, y, z) is (x, -z, y) there.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # our world -> one with z up


def opengl(cam2world: Float[ndarray, "*s 4 4"]) -> Float[ndarray, "*s 4 4"]:
    """The same poses with the camera's axes x right, y up, z backward."""
    return cam2world.astype(np.float64) * np.array([1.0, -1.0, -1.0, 1.0])


def z_up(cam2world: Float[ndarray, "*s 4 4"]) -> Float[ndarray, "*s 4 4"]:
    """The same poses in a world with z up."""
    turn = np.eye(4)
    turn[:3, :3] = Z_UP
    return turn @ cam2world.astype(np.float64)


def unit_intrinsics(k: Float[ndarray, "*s 3 3"], size: int) -> Float[ndarray, "*s 3 3"]:
    """K for images whose sides are 1 long."""
    return k.astype(np.float64) / np.array([[size], [size], [1.0]])


def centers_at_integers(k: Float[ndarray, "*s 3 3"]) -> Float[ndarray, "*s 3 3"]:
    """K for pixel centers at +0 instead of +0.5: the principal point moves by half a pixel."""
    moved = k.astype(np.float64)
    moved[..., :2, 2] -= 0.5
    return moved


def field_of_view(k: Float[ndarray, "3 3"], size: int) -> tuple[float, float]:
    """Horizontal and vertical angle of view, radians; the principal point is the center."""
    return tuple(2 * float(np.arctan2(size / 2, k[i, i])) for i in (0, 1))
