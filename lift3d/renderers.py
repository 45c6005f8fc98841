"""Renderers: how an instance of a lifted GAN becomes maps.

``LiftedGAN.render`` takes one of them; anything that can be called as ``Renderer`` says will do.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d import defaults
from lift3d.render.maps import Maps
from lift3d.render.mesh import mesh_hits, prepare, render_mesh
from lift3d.render.rasterize import Scene
from lift3d.render.volume import SamplingConfig, render_maps
from lift3d.render.volume_near_mesh import render_maps_near
from lift3d.scene.cameras import Cameras
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh

if TYPE_CHECKING:
    import lift3d.model

Code = Float[Tensor, " c"]  # of one instance


@runtime_checkable
class Renderer(Protocol):
    """Draws one instance of a lifted GAN: ``MeshRenderer`` or ``VolumeRenderer``."""

    def __call__(
        self, model: "lift3d.model.LiftedGAN", code: Code, cameras: Cameras, lights: Lights, size: int
    ) -> Maps:
        """Maps of v views of size x size pixels, under lights [l] or [v, l]."""


@dataclass(frozen=True)
class MeshRenderer:
    """Rasterizes the surface: fast, and exact up to the cells of the mesh."""

    mesh: Mesh | None = None  # of the instance, where it is at hand; else it is extracted
    resolution: int = defaults.MESH_RESOLUTION  # grid cells a side of an extracted mesh

    def __call__(
        self, model: "lift3d.model.LiftedGAN", code: Code, cameras: Cameras, lights: Lights, size: int
    ) -> Maps:
        """See ``Renderer``."""
        if self.mesh is None:
            return render_mesh(model.mesh(code, self.resolution), cameras, lights, size, model.background)
        if cameras.device not in self._scenes:
            self._scenes[cameras.device] = prepare(self.mesh, cameras.device)
        scene = self._scenes[cameras.device]
        return render_mesh(self.mesh, cameras, lights, size, model.background, scene)

    @cached_property
    def _scenes(self) -> dict[torch.device, Scene]:
        """``mesh``, prepared once on every device."""
        return {}


@dataclass(frozen=True)
class VolumeRenderer:
    """Marches along rays, as training does (NeuS)."""

    sampling: SamplingConfig | None = None  # None: that of the model's preset
    mesh: Mesh | None = None  # of the instance: only what is near it is looked at, in a tenth of the time

    def __call__(
        self, model: "lift3d.model.LiftedGAN", code: Code, cameras: Cameras, lights: Lights, size: int
    ) -> Maps:
        """See ``Renderer``."""
        surface, sampling = model.shown_surface(code), self.sampling or model.config.sampling
        setting = cameras, lights, size, model.sharpness.item(), sampling, model.background
        if self.mesh is None:
            return render_maps(surface, *setting)
        return render_maps_near(surface, mesh_hits(self.mesh, cameras, size), *setting)


RENDERERS = dict(zip(defaults.RENDERERS, (MeshRenderer, VolumeRenderer), strict=True))  # by name
