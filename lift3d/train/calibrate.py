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
from lift3d.train.data import Photographs, PseudoLabels, Rerendered, SampleSet, rerender
from lift3d.train.exploit import view_light_loss
from lift3d.train.phase import Group, Losses
from lift3d.train.ranks import ALONE, Ranks

SHAPES_PER_SAMPLE = 5  # unlabeled images that are re-rendered, for each sample that is lifted
READ = 0.2  # weight of the labeler beside E_v and E_l
CHUNK = 64  # images at a time


def calibrate_groups(model: LiftedGAN) -> list[Group]:
    """E_v and E_l."""
    encoders = (model.view_encoder, model.light_encoder)
    return [Group([p for e in encoders for p in e.parameters()], model.config.rates.encoders)]


def rerender_unlabeled(
    model: LiftedGAN,
    unlabeled: SampleSet,
    n: int,
    m: int,
    rng: torch.Generator,
    observer: Observer,
    ranks: Ranks = ALONE,
    photographs: Photographs | None = None,
    distilled: bool = False,
) -> tuple[Rerendered, PseudoLabels]:
    """m re-renderings of each of n unlabeled samples and ``photographs``, with their views and lights, and
    those of the clean images, which the labeler reads on the final shape.

    Once the normals are ``distilled`` from shading, E_v and E_l know better: ``READ`` of the labeler is left,
    and all views and lights are taken to the frame of upright shapes (tilt.py).
    """
    clean = clean_images(unlabeled, photographs)

    def read() -> dict[str, torch.Tensor]:
        labeler = new_labeler(model, unlabeled.images, unlabeled.masks)
        label = labeler.label(clean.images, clean.masks)
        if not distilled:
            return {"views": label[0], "lights": label[1], "tilts": torch.zeros(len(label[0]), 3)}
        found = _predictions(model, clean.images)
        views, lights = (a.lerp(b.to(a), READ) for a, b in zip(found[:2], label, strict=True))
        mean = model.geometry(found[2].mean(0), N_CELLS)
        return {"views": views, "lights": lights, "tilts": tilts(model.surface, mean, found[2]).cpu()}

    known = ranks.first(read)
    some = torch.linspace(0, len(clean.images) - 1, min(n, len(clean.images))).long()
    own = Photographs(clean.images[some], clean.masks[some], known["views"][some], known["lights"][some])
    made = rerender(model, own, m, rng, observer, one_shape=False, predict=False, ranks=ranks)
    pivot = model.config.view_prior.pivot
    own_tilts = known["tilts"][some, None].expand(-1, m, -1)
    return made, PseudoLabels(
        *upright(made.views, made.lights, own_tilts, pivot), clean,
        *upright(known["views"], known["lights"], known["tilts"], pivot),
    )  # fmt: skip


@torch.no_grad()
def _predictions(
    model: LiftedGAN, images: UInt8[Tensor, "n 3 s s"]
) -> tuple[Float[Tensor, "n 6"], Float[Tensor, "n 5"], Float[Tensor, "n c"]]:
    """Views, lights and codes; views and lights on the images' device."""
    parts = []
    for x in (to_float(part.to(model.device)) for part in images.split(CHUNK)):
        view, light = model.view_encoder(x), model.light_encoder(x)
        parts.append((view.to(images.device), light.to(images.device), model.image_encoder(x)))
    views, lights, codes = (torch.cat(part) for part in zip(*parts, strict=True))
    return views, lights, codes


def clean_images(unlabeled: SampleSet, photographs: Photographs | None) -> SampleSet | Photographs:
    """What E_v and E_l learn from beside re-renderings: unlabeled samples, and at most as many photographs,
    from all over their list.
    """
    if photographs is None:
        return unlabeled
    n = min(len(unlabeled.images), len(photographs.images))
    some = torch.linspace(0, len(photographs.images) - 1, n).long()
    pairs = ((unlabeled.images, photographs.images), (unlabeled.masks, photographs.masks))
    return Photographs(*(torch.cat((ours, others[some])) for ours, others in pairs))


def calibrate_loss(
    model: LiftedGAN, rerendered: Rerendered, labels: PseudoLabels, rng: torch.Generator
) -> Losses:
    """Predicted against known views and lights: half of the images are re-renderings, half are samples."""
    images = replace(rerendered, projected=rerendered.pseudo, projected_masks=rerendered.pseudo_masks)
    total = view_light_loss(model, images, labels, rng)
    return {"total": total, "view_light": total}
