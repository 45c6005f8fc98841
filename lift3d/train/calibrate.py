"""After the last stage: E_v and E_l are calibrated on renders (docs/method.md, Training).

Step 3 teaches them by projections and GAN samples, which they come to know by heart: on the samples they
repeat the pseudo-labels to a degree, on images from elsewhere they err by six. Re-renderings of many lifted
samples look more like such images, hold every view and light of the priors, and theirs are known exactly.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift3d.model import LiftedGAN
from lift3d.observer import Observer
from lift3d.pseudo_labels.labeler import N_CELLS, new_labeler
from lift3d.pseudo_labels.tilt import tilts, upright
from lift3d.scene.images import to_float
from lift3d.train.data import Images, SampleSet, rerender
from lift3d.train.phase import Group
from lift3d.train.ranks import ALONE, Ranks

SHAPES_PER_SAMPLE = 5  # unlabeled images that are re-rendered, for each sample that is lifted
READ = 0.2  # weight of the labeler beside E_v and E_l
CHUNK = 64  # images at a time


def calibrate_groups(model: LiftedGAN) -> list[Group]:
    """E_v and E_l."""
    return [Group.of(model.config.rates.encoders, model.view_encoder, model.light_encoder)]


def rerender_unlabeled(
    model: LiftedGAN,
    unlabeled: SampleSet,
    n: int,
    m: int,
    rng: torch.Generator,
    observer: Observer,
    ranks: Ranks = ALONE,
    photographs: Images | None = None,
    distilled: bool = False,
) -> tuple[Images, Images]:
    """m re-renderings of each of n unlabeled samples and ``photographs``, and the clean images, with the
    views and lights that the labeler reads on the final shape.

    Once the normals are ``distilled`` from shading, E_v and E_l know better: ``READ`` of the labeler is left,
    and all views and lights are taken to the frame of upright shapes (tilt.py).
    """
    clean, pivot = clean_images(unlabeled, photographs), model.config.view_prior.pivot

    def read() -> dict[str, torch.Tensor]:
        labeler = new_labeler(model, unlabeled.images, unlabeled.masks)
        views, lights = labeler.label(clean.images, clean.masks)
        if not distilled:
            return {"views": views, "lights": lights, "tilts": torch.zeros(len(views), 3)}
        own_views, own_lights, codes = _predictions(model, clean.images)
        mean = model.geometry(codes.mean(0), N_CELLS)
        return {
            "views": own_views.lerp(views.to(own_views), READ),
            "lights": own_lights.lerp(lights.to(own_lights), READ),
            "tilts": tilts(model.surface, mean, codes).cpu(),
        }

    known = ranks.first(read)
    clean = replace(clean, views=known["views"], lights=known["lights"])
    some = torch.linspace(0, len(clean) - 1, min(n, len(clean))).long()
    made = rerender(model, clean[some], m, rng, observer, one_shape=False, predict=False, ranks=ranks)

    def righted(images: Images, tilt: Float[Tensor, "*n 3"]) -> Images:
        views, lights = upright(images.views, images.lights, tilt, pivot)
        return replace(images, views=views, lights=lights)

    turns = known["tilts"]
    return righted(made, turns[some, None].expand(-1, m, -1)), righted(clean, turns)


@torch.no_grad()
def _predictions(
    model: LiftedGAN, images: UInt8[Tensor, "n 3 s s"]
) -> tuple[Float[Tensor, "n 6"], Float[Tensor, "n 5"], Float[Tensor, "n c"]]:
    """Views, lights and codes; views and lights on the images' device."""
    parts = [model.encode(to_float(part.to(model.device))) for part in images.split(CHUNK)]
    codes, views, lights = (torch.cat(part) for part in zip(*parts, strict=True))
    return views.to(images.device), lights.to(images.device), codes


def clean_images(unlabeled: SampleSet, photographs: Images | None) -> Images:
    """What E_v and E_l learn from beside re-renderings: unlabeled samples, and at most as many photographs,
    from all over their list.
    """
    if photographs is None:
        return unlabeled
    n = min(len(unlabeled), len(photographs))
    others = photographs[torch.linspace(0, len(photographs) - 1, n).long()]
    return Images(torch.cat((unlabeled.images, others.images)), torch.cat((unlabeled.masks, others.masks)))
