"""Visible surface of triangle meshes, by Embree (CPU), nvdiffrast (CUDA) or a naive reference.

scene = get_rasterizer("auto").prepare(vertices, faces)  # once per mesh
fragments = scene.fragments(cameras, size=128)           # any number of views
"""

import importlib.util

import torch

from lift3d.errors import ConfigError
from lift3d.render.rasterize.embree import EmbreeRasterizer
from lift3d.render.rasterize.fragments import Fragments, Rasterizer, Scene, interpolate
from lift3d.render.rasterize.naive import NaiveRasterizer
from lift3d.render.rasterize.nvdiffrast import NvdiffrastRasterizer

__all__ = ["Fragments", "Rasterizer", "Scene", "get_rasterizer", "interpolate"]

NAMES = ("auto", "embree", "nvdiffrast", "naive")


def get_rasterizer(name: str = "auto", device: torch.device | str = "cpu") -> Rasterizer:
    """The backend called ``name``, for meshes on ``device``; "auto" means nvdiffrast on CUDA if it is
    installed, else Embree, which computes on the CPU and answers on the device of the mesh.

    Raises ``BackendUnavailable`` if the backend cannot run.
    """
    device = torch.device(device)
    if name == "auto":
        name = "nvdiffrast" if device.type == "cuda" and importlib.util.find_spec("nvdiffrast") else "embree"
    if name == "embree":
        return EmbreeRasterizer()
    if name == "nvdiffrast":
        return NvdiffrastRasterizer(device)
    if name == "naive":
        return NaiveRasterizer()
    raise ConfigError(f"rasterizer: unknown name {name!r}, expected one of {', '.join(NAMES)}")
