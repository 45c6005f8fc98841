"""Rasterizing on CUDA devices with nvdiffrast.

nvdiffrast wants homogeneous clip coordinates with |x|, |y|, |z| <= w inside the frustum and y upwards; its
images begin with the bottom row. It answers (u, v, z/w, face + 1): u and v are the perspective-correct
weights of corners 0 and 1, and 0 in the last channel is background.
"""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lift3d.errors import BackendUnavailable, ConfigError, optional
from lift3d.render.rasterize.fragments import Fragments
from lift3d.scene.cameras import Cameras

RADIUS = 1.2  # of a ball around the origin that the object and its translation stay in
MAX_FACES = 2**24  # face + 1 comes back as a float32


def clip_coordinates(vertices: Float[Tensor, "*s n 3"], cameras: Cameras) -> Float[Tensor, "*s n 4"]:
    """World points -> clip space: z runs from -w at the near plane to w at the far plane, w is the depth."""
    x, y, z = cameras.to_camera(vertices).unbind(-1)
    zoom = cameras.focal_length(2)
    distance = cameras.translation.norm(dim=-1)
    near, far = (distance.amin() - RADIUS).clamp_min(0.01), distance.amax() + RADIUS
    depth = -z
    return torch.stack(
        (zoom * x, zoom * y, ((far + near) * depth - 2 * far * near) / (far - near), depth), -1
    )


def to_fragments(raster: Float[Tensor, "v h w 4"]) -> Fragments:
    """nvdiffrast's answer, bottom row first -> fragments, top row first."""
    raster = raster.flip(1)
    face = raster[..., 3].long() - 1
    u, v = raster[..., 0], raster[..., 1]
    weights = torch.stack((u, v, 1.0 - u - v), -1).clamp_min(0.0)
    weights = weights / weights.sum(-1, keepdim=True)
    return Fragments(face, torch.where((face >= 0)[..., None], weights, torch.zeros_like(weights)))


@dataclass(frozen=True)
class NvdiffrastScene:
    """See ``Scene``."""

    context: object  # nvdiffrast.torch.RasterizeCudaContext
    vertices: Float[Tensor, "n 3"]
    faces: Int[Tensor, "m 3"]  # int32

    def fragments(self, cameras: Cameras, size: int) -> Fragments:
        """See ``Scene``."""
        import nvdiffrast.torch as dr

        views = cameras.flat().to(self.vertices.device, torch.float32)
        with torch.no_grad():
            clip = clip_coordinates(self.vertices.expand(len(views), -1, -1), views).contiguous()
            raster, _ = dr.rasterize(self.context, clip, self.faces, (size, size), grad_db=False)
        found, shape = to_fragments(raster), (*cameras.batch_shape, size, size)
        return Fragments(found.face.view(shape), found.barycentric.view(*shape, 3))


@cache
def _context(device: str) -> object:
    """nvdiffrast's rasterizer on a device: it owns buffers, so all scenes share one."""
    import nvdiffrast.torch as dr

    return dr.RasterizeCudaContext(device=torch.device(device))


class NvdiffrastRasterizer:
    """See ``Rasterizer``."""

    name = "nvdiffrast"

    def __init__(self, device: torch.device | str = "cuda") -> None:
        optional(
            "nvdiffrast.torch",
            "rasterizer 'nvdiffrast' is not installed: it needs CUDA and "
            "pip install git+https://github.com/NVlabs/nvdiffrast (or choose rasterizer 'embree')",
        )
        if torch.device(device).type != "cuda" or not torch.cuda.is_available():
            raise BackendUnavailable(
                f"rasterizer 'nvdiffrast' needs a CUDA device, got {device}; choose 'embree'"
            )
        self._device = torch.device(device)
        self._context = _context(str(self._device))

    def prepare(self, vertices: Float[Tensor, "n 3"], faces: Int[Tensor, "m 3"]) -> NvdiffrastScene:
        """See ``Rasterizer``."""
        if len(faces) >= MAX_FACES:
            raise ConfigError(
                f"rasterizer 'nvdiffrast': {len(faces)} faces, expected fewer than {MAX_FACES}; decimate"
            )
        vertices = vertices.detach().to(self._device).float().contiguous()
        return NvdiffrastScene(self._context, vertices, faces.to(self._device).int().contiguous())
