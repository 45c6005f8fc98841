"""Lifts a pretrained 2D GAN to a controllable 3D GAN (GAN2X) and writes multi-view, multi-light datasets.

The public names are imported on first use, so that ``import lift3d`` does not wait for torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "load": "lift3d.instance",
    "LiftedGAN": "lift3d.model",
    "Instances": "lift3d.instance",
    "lift": "lift3d.train.joint",
    "read_photograph": "lift3d.photographs",
    "Photograph": "lift3d.photographs",
    "invert_photograph": "lift3d.train.invert",
    "Inversion": "lift3d.train.invert",
    "PRESETS": "lift3d.config.presets",
    "get_preset": "lift3d.config.presets",
    "Cameras": "lift3d.scene.cameras",
    "ViewPrior": "lift3d.scene.cameras",
    "Lights": "lift3d.scene.lights",
    "LightPrior": "lift3d.scene.lights",
    "Material": "lift3d.scene.shading",
    "shade": "lift3d.scene.shading",
    "Mesh": "lift3d.scene.mesh",
    "get_rasterizer": "lift3d.render.rasterize",
    "Lift3DError": "lift3d.errors",
    "MeshRenderer": "lift3d.renderers",
    "VolumeRenderer": "lift3d.renderers",
    "Maps": "lift3d.render.maps",
    "save_image": "lift3d.pictures",
    "open_dataset": "lift3d.export.hdf5.reader",  # names from the layer above
    "write_dataset": "lift3d.export.dataset",
    "DatasetPlan": "lift3d.export.plan.dataset",
    "ViewPlan": "lift3d.export.plan.views",
    "LightPlan": "lift3d.export.plan.lights",
    "LatentPlan": "lift3d.export.plan.latents",
    "write_mesh": "lift3d.export.meshes.write",
    "show": "lift3d.export.viewer.share",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    """Imports a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module 'lift3d' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
