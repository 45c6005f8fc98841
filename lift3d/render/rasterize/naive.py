"""The readable reference rasterizer: every ray against every triangle, in float64; for tests."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lift3d.render.rasterize.fragments import Fragments, intersect
from lift3d.scene.cameras import Cameras, pixel_grid


class NaiveScene:
    """See ``Scene``."""

    def __init__(self, vertices: Float[Tensor, "n 3"], faces: Int[Tensor, "m 3"]) -> None:
        self.triangles = vertices.detach()[faces.long()].double()

    def fragments(self, cameras: Cameras, size: int) -> Fragments:
        """See ``Scene``; costs rays x triangles in time, rays in memory."""
        device = self.triangles.device
        cameras = cameras.to(device, torch.float64)
        pixels = pixel_grid(size, device).double().expand(*cameras.translation.shape[:-1], -1, -1)
        origins, directions = cameras.rays(pixels, size)
        nearest = torch.full(directions.shape[:-1], torch.inf, dtype=torch.float64, device=device)
        face = torch.full_like(nearest, -1, dtype=torch.long)
        barycentric = torch.zeros_like(directions)
        for index, triangle in enumerate(self.triangles):
            t, weights = intersect(origins, directions, triangle.expand(*origins.shape, 3))
            closer = (weights >= 0).all(-1) & (t > 0) & (t < nearest)
            nearest, face = torch.where(closer, t, nearest), torch.where(closer, index, face)
            barycentric = torch.where(closer[..., None], weights, barycentric)
        shape = (*face.shape[:-1], size, size)
        return Fragments(face.view(shape), barycentric.float().view(*shape, 3))


class NaiveRasterizer:
    """See ``Rasterizer``."""

    name = "naive"
    prepare = NaiveScene
