"""Lights: one directional light in object space plus ambient.

A light is l = normalize(l_x, l_y, 1), from the surface towards the light, in the world frame: it turns with
the head, not with the camera. Coefficients: ambient k_a, diffuse (and specular) k_d, negative term k_n (0
where unused); see shading.py. As a vector, a light is (k_a, k_d, l_x, l_y, k_n).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.scene.batch import Batch
from lift3d.scene.geometry import normalize
from lift3d.settings import setting


@dataclass(frozen=True, repr=False)
class Lights(Batch):
    """A batch of lights."""

    direction: Float[Tensor, "*s 3"]  # unit, from the surface to the light, world frame
    ambient: Float[Tensor, "*s"]  # k_a
    diffuse: Float[Tensor, "*s"]  # k_d
    negative: Float[Tensor, "*s"]  # k_n

    @staticmethod
    def from_vector(light: Float[Tensor, "*s 5"]) -> "Lights":
        """Lights of rows (k_a, k_d, l_x, l_y, k_n)."""
        ambient, diffuse, x, y, negative = light.unbind(-1)
        return Lights(normalize(torch.stack((x, y, torch.ones_like(x)), -1)), ambient, diffuse, negative)

    @staticmethod
    def from_direction(
        direction: Float[Tensor, "*s 3"],
        ambient: Float[Tensor, "*s"] | float = 0.3,
        diffuse: Float[Tensor, "*s"] | float = 0.7,
        negative: Float[Tensor, "*s"] | float = 0.0,
    ) -> "Lights":
        """Lights from any side; directions need not be unit vectors. ``ConfigError`` for a zero one."""
        if (direction.norm(dim=-1) < 1e-6).any():
            raise ConfigError(
                "a light's direction is (0, 0, 0), expected a vector from the surface to the light"
            )
        like = direction[..., 0]
        numbers = (torch.as_tensor(x).to(like).expand_as(like) for x in (ambient, diffuse, negative))
        return Lights(normalize(direction), *numbers)

    def to_vector(self) -> Float[Tensor, "*s 5"]:
        """Inverse of ``from_vector``. Raises ``ConfigError`` for lights that do not stand in front of the
        object (direction z <= 0), which have no such vector.
        """
        x, y, z = self.direction.unbind(-1)
        if (z <= 0).any():
            raise ConfigError(
                f"a light's direction has z = {z.amin().item():.3g}, expected z > 0 for a vector"
            )
        return torch.stack((self.ambient, self.diffuse, x / z, y / z, self.negative), -1)

    def per_point(self, n_axes: int) -> "Lights":
        """The same lights with ``n_axes`` axes of one appended to the batch, to broadcast against points."""
        return self[(..., *(None,) * n_axes)]


@dataclass(frozen=True)
class LightPrior:
    """Uniform ranges (low, high). The ambient term is not independent: k_a = u - coupling * k_d with u
    uniform in ``level``, so that the exposure stays level.
    """

    l_x: tuple[float, float] = setting((-1.0, 1.0), -1e9, 1e9, "range of the light's x, where its z is 1")
    l_y: tuple[float, float] = setting((-0.2, 0.8), -1e9, 1e9, "range of the light's y, where its z is 1")
    diffuse: tuple[float, float] = setting((0.35, 0.8), 0, 1, "range of k_d")
    level: tuple[float, float] = setting((0.9, 1.05), 0, 10, "range of k_a + coupling * k_d")
    coupling: float = setting(0.75, 0, 10, "how much the ambient light falls as k_d rises")
    negative: tuple[float, float] = setting((0.0, 0.0), 0, 1, "range of k_n")

    def __post_init__(self) -> None:
        for name in ("l_x", "l_y", "diffuse", "level", "negative"):
            low, high = getattr(self, name)
            if low > high:
                raise ConfigError(f"light prior: {name} is ({low}, {high}), expected (low, high)")

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 5"]:
        """n independent rows (k_a, k_d, l_x, l_y, k_n)."""
        return self._light(lambda low, high: low + (high - low) * torch.rand(n, generator=generator))

    def mean(self) -> Float[Tensor, "5"]:
        """Expected light, (k_a, k_d, l_x, l_y, k_n)."""
        return self._light(lambda low, high: torch.tensor((low + high) / 2, dtype=torch.float64)).float()

    def _light(self, within: Callable[[float, float], Tensor]) -> Tensor:
        """Rows of numbers within the ranges."""
        x, y, diffuse = within(*self.l_x), within(*self.l_y), within(*self.diffuse)
        ambient = within(*self.level) - self.coupling * diffuse
        return torch.stack((ambient, diffuse, x, y, within(*self.negative)), -1)


def mirrored(lights: Float[Tensor, "*s 5"]) -> Float[Tensor, "*s 5"]:
    """Lights of the mirrored images of an object that is symmetric in x."""
    return lights * lights.new_tensor((1.0, 1.0, -1.0, 1.0, 1.0))
