"""A stand-in for ``LiftedGAN`` with its surface and no networks: an ellipsoid per seed, with exact maps."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import trimesh
from torch import Tensor

from lift3d.model import Samples
from lift3d.networks.fields import ellipsoid_sdf
from lift3d.render.maps import Maps
from lift3d.renderers import Renderer
from lift3d.scene.cameras import Cameras, ViewPrior, pixel_grid
from lift3d.scene.geometry import normalize
from lift3d.scene.lights import LightPrior, Lights
from lift3d.scene.mesh import Mesh
from lift3d.scene.shading import Material, shading
from lift3d.scene.surface import Surface


@dataclass(frozen=True)
class Config:
    size: int = 16
    view_prior: ViewPrior = field(default_factory=ViewPrior)
    light_prior: LightPrior = field(default_factory=LightPrior)
    truncation: float = 0.7
    license: str = "CC0-1.0"

    def to_json(self) -> str:
        return json.dumps({"size": self.size})


@dataclass
class Blobs:
    """``weights`` stands for trained parameters: other weights, other instances."""

    weights: float = 0.0
    gan_size: int = 16
    config: Config = field(default_factory=Config)
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def sample(self, seeds: Sequence[int], truncation: float = 0.7) -> Samples:
        z = torch.stack([torch.randn(5, generator=torch.Generator().manual_seed(s)) for s in seeds])
        return self.lift(self.to_w(z, truncation), z, seeds)

    def to_w(self, z: Tensor, truncation: float = 0.7) -> Tensor:
        return z * truncation

    def lift(self, w: Tensor, z: Tensor | None = None, seeds: Sequence[int] | None = None) -> Samples:
        code = torch.tanh(w[:, :4] + self.weights)
        n = len(w)
        image = code[:, :3, None, None].expand(n, 3, self.gan_size, self.gan_size)
        view, light = torch.zeros(n, 6), self.config.light_prior.mean().expand(n, 5)
        seed = torch.full((n,), -1) if seeds is None else torch.tensor(seeds)
        return Samples(seed, torch.zeros_like(w) if z is None else z, w, code, image, view, light)

    def radii(self, code: Tensor) -> Tensor:
        return 0.7 + 0.2 * code[:3]

    def material(self, points: Tensor, code: Tensor) -> Material:
        albedo = (0.5 + 0.4 * torch.sin(5 * points + code[3])).clamp(0, 1)
        return Material(albedo, 0.3 + 0.2 * points[..., :1], 30 + 20 * points[..., 1:2])

    def shown_surface(self, code: Tensor) -> Surface:
        radii = self.radii(code)
        return Surface(lambda x: (ellipsoid_sdf(x, radii), x), lambda x, n, feature: self.material(x, code))

    def mesh(self, code: Tensor, resolution: int = 128, surface: Surface | None = None) -> Mesh:
        return self._painted(trimesh.creation.icosphere(subdivisions=2), code)

    def simplify(self, mesh: Mesh, code: Tensor, n_faces: int, surface: Surface | None = None) -> Mesh:
        return mesh if n_faces >= len(mesh.faces) else self._painted(trimesh.creation.icosahedron(), code)

    def _painted(self, sphere: trimesh.Trimesh, code: Tensor) -> Mesh:
        radii = self.radii(code).numpy()
        vertices = (sphere.vertices * radii).astype(np.float32)
        normals = vertices / radii**2
        normals = (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32)
        material = self.material(torch.from_numpy(vertices), code)
        specular, shininess = (a[:, 0].numpy() for a in (material.specular, material.shininess))
        return Mesh(
            vertices, sphere.faces.astype(np.int32), normals, material.albedo.numpy(), specular, shininess
        )

    def render(
        self,
        code: Tensor,
        cameras: Cameras,
        lights: Lights,
        size: int,
        renderer: Renderer | None = None,
    ) -> Maps:
        radii, n = self.radii(code), len(cameras)
        origins, directions = cameras.rays(pixel_grid(size).expand(n, -1, -1), size)
        o, d = origins / radii, directions / radii
        a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1
        discriminant = b * b - a * c
        mask = discriminant > 0
        t = (-b - discriminant.clamp_min(0).sqrt()) / a
        points = origins + t[..., None] * directions
        normals, material = normalize(points / radii**2), self.material(points, code)
        some = Material(*(x[:, None] for x in (material.albedo, material.specular, material.shininess)))
        factors = shading(normals[:, None], -directions[:, None], some, lights[None, :, None])
        colors = (some.albedo * factors.diffuse + factors.specular).clamp(0, 1)
        colors = torch.where(mask[:, None, :, None], colors, torch.tensor(self.background))

        def image(x: Tensor) -> Tensor:
            """[..., pixels, channels] -> [..., H, W, channels]."""
            return x.unflatten(-2, (size, size))

        return Maps(
            mask=image(mask[..., None])[..., 0],
            depth=image(cameras.z_depth(points)[..., None])[..., 0],
            normals=image(normals),
            albedo=image(material.albedo),
            specular=image(material.specular)[..., 0],
            shininess=image(material.shininess)[..., 0],
            diffuse_shading=image(factors.diffuse)[..., 0],
            specular_shading=image(factors.specular)[..., 0],
            colors=image(colors),
        )

    def project(self, w: Tensor, images: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(images, (self.gan_size,) * 2, mode="area")
