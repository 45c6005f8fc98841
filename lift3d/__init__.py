"""Lifts a pretrained 2D GAN to a controllable 3D GAN (GAN2X) and writes multi-view, multi-light datasets.

The public names are imported on first use, so that ``import lift3d`` does not wait for torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_MODULES = {
    "instance": ("load", "Instances"),
    "model": ("LiftedGAN",),
    "train.joint": ("lift",),
    "photographs": ("read_photograph", "Photograph"),
    "train.invert": ("invert_photograph", "Inversion"),
    "config.presets": ("PRESETS", "get_preset"),
    "scene.cameras": ("Cameras", "ViewPrior"),
    "scene.lights": ("Lights", "LightPrior"),
    "scene.shading": ("Material", "shade"),
    "scene.mesh": ("Mesh",),
    "render.rasterize": ("get_rasterizer",),
    "errors": ("Lift3DError",),
    "renderers": ("MeshRenderer", "VolumeRenderer"),
    "render.maps": ("Maps",),
    "pictures": ("save_image",),
    "export.hdf5.reader": ("open_dataset",),  # from here on from the layer above
    "export.dataset": ("write_dataset",),
    "export.plan.dataset": ("DatasetPlan",),
    "export.plan.views": ("ViewPlan",),
    "export.plan.lights": ("LightPlan",),
    "export.plan.latents": ("LatentPlan",),
    "export.meshes.write": ("write_mesh",),
    "export.viewer.share": ("show",),
}
_HOME = {name: f"lift3d.{module}" for module, names in _MODULES.items() for name in names}
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
