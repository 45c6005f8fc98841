"""Rasterizing on the CPU with Intel Embree: one primary ray through every pixel center.

Embree works in float32 and is asked only which face a ray meets (robust mode: no ray slips between two
faces). Where on that face is computed here in float64, so barycentric coordinates carry no noise from the
camera's distance.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lift3d.errors import optional
from lift3d.render.rasterize.fragments import Fragments, intersect
from lift3d.scene.cameras import Cameras, pixel_grid


class EmbreeScene:
    """See ``Scene``; has an acceleration tree."""

    def __init__(self, vertices: Float[Tensor, "n 3"], faces: Int[Tensor, "m 3"]) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene as Tree

        self._device = vertices.device
        vertices, faces = vertices.detach().cpu().float(), faces.cpu().long()
        self._triangles = vertices[faces].double()
        self._tree = Tree(robust=True)
        if len(faces):
            TriangleMesh(self._tree, np.ascontiguousarray(vertices), np.ascontiguousarray(faces, np.int32))

    @torch.no_grad()
    def fragments(self, cameras: Cameras, size: int) -> Fragments:
        """See ``Scene``."""
        views = cameras.flat().to("cpu", torch.float64)
        pixels = pixel_grid(size).double()
        face = torch.full((len(views), size * size), -1)
        barycentric = torch.zeros(*face.shape, 3)
        for i, camera in enumerate(views):
            origins, directions = camera.rays(pixels, size)
            rays = (np.ascontiguousarray(x, np.float32) for x in (origins, directions))
            face[i] = torch.from_numpy(self._tree.run(*rays))
            hit = face[i] >= 0
            _, weights = intersect(origins[hit], directions[hit], self._triangles[face[i, hit]])
            weights = weights.clamp_min(0.0)  # Embree's float32 may give a ray to the neighbor of an edge
            barycentric[i, hit] = (weights / weights.sum(-1, keepdim=True)).float()
        shape = (*cameras.batch_shape, size, size)
        return Fragments(face.view(shape).to(self._device), barycentric.view(*shape, 3).to(self._device))


class EmbreeRasterizer:
    """See ``Rasterizer``."""

    name = "embree"
    prepare = EmbreeScene

    def __init__(self) -> None:
        optional("embreex", "rasterizer 'embree' needs the package embreex: pip install embreex")
