"""A photograph as an instance: encoded by a joint model, then refined by its shading. Photographs are not
fine-tuned, as the supplement of GAN2X says, because that would need an inversion of the GAN.
"""

from dataclasses import dataclass, replace

import torch

from lift3d.config.schema import Refinement
from lift3d.instance import Instances
from lift3d.model import LiftedGAN, Samples
from lift3d.observer import Observer
from lift3d.photographs import Kind, Photograph, kind_of
from lift3d.renderers import MeshRenderer
from lift3d.scene.images import images_to_colors
from lift3d.train.instance import refine_sample

FASTER = 4.0  # is the learning rate of F_m for photographs: their textures are new to it
SHAPE = 1 / 3  # of what F_s learns from colors is left for them: textures and many lights bend shapes
RESOLUTION = 64  # grid cells a side of the meshes that errors are measured on
UNEXPLAINED = 0.07  # mean absolute error of colors, of [0, 1], from which an image is not of the model's kind
AT_LIMIT = 0.95  # tanh of a rotation that E_v cannot exceed much
STRANGE = 1.5  # how much farther a code may be than those of the model's own images


@dataclass(frozen=True)
class Inversion:
    """A photograph, what the joint model says of it, and the instance that it was refined into."""

    photograph: Photograph
    sample: Samples  # [1]
    instances: Instances  # one
    error_before: float  # mean absolute error of the image's colors inside both masks, of [0, 1]
    error_after: float
    warnings: tuple[str, ...]  # why it may not be an image of the model's kind


def invert_photograph(
    model: LiftedGAN,
    photograph: Photograph,
    kind: Kind | None = None,
    config: Refinement | None = None,
    seed: int = 0,
    observer: Observer | None = None,
) -> Inversion:
    """Encodes and refines; ``kind`` is ``kind_of(model)``, where it is at hand, ``config`` defaults to
    ``for_photographs`` of the preset's.
    """
    config = for_photographs(model.config.refine) if config is None else config
    kind = kind_of(model) if kind is None else kind
    sample = model.invert(photograph.image[None])
    before = photometric_error(model, sample, photograph)
    instances = refine_sample(model, sample, photograph.mask[None], config, seed, observer)
    after = photometric_error(instances, instances.sample([0]), photograph)
    return Inversion(
        photograph, sample, instances, before, after, tuple(_strange(model, sample, kind, after))
    )


def for_photographs(config: Refinement) -> Refinement:
    """A refinement whose F_m learns quickly, and whose F_s believes shading less."""
    less = {"shape": SHAPE * config.shape, "highlights": SHAPE * config.highlights}
    return replace(config, material=FASTER * config.material, **less)


@torch.no_grad()
def photometric_error(model: LiftedGAN, sample: Samples, photograph: Photograph) -> float:
    """Mean absolute error of colors, of [0, 1], where the render of a sample [1] and the mask agree; 1 where
    they never do.
    """
    size, renderer = model.config.size, MeshRenderer(resolution=RESOLUTION)
    maps = model.render(sample.code[0], sample.cameras, sample.lights, size, renderer)
    both = maps.mask[0].cpu() & photograph.mask.cpu()
    image = images_to_colors(photograph.image.cpu())
    return (maps.colors[0, 0].cpu() - image)[both].abs().mean().item() if both.any() else 1.0


@torch.no_grad()
def _strange(model: LiftedGAN, sample: Samples, kind: Kind, error: float) -> list[str]:
    """Reasons to doubt that the image is of the model's kind."""
    found = []
    if error > UNEXPLAINED:
        found.append(
            f"the refined render differs from the image by {error:.3f} of [0, 1] on average, more than "
            f"{UNEXPLAINED:g}: the model does not explain it"
        )
    (tanh,) = model.view_encoder.tanh(sample.image.to(model.device)).abs()
    for name, value in zip(("pitch", "yaw", "roll"), tanh.tolist()):
        if value > AT_LIMIT:
            found.append(f"{name} is at the limit of what E_v can say: the view is hardly right")
    far = ((sample.code[0].to(kind.code) - kind.code) / kind.spread).square().mean().sqrt().item()
    if far > STRANGE * kind.farthest:
        found.append(
            f"the code is {far / kind.farthest:.1f} times as far from the mean as any of the model's own "
            "images: the encoder has not seen such an image"
        )
    return found
