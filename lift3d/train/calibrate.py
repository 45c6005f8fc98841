"""After the last stage: E_v and E_l are calibrated on renders (docs/method.md, Training).

Step 3 teaches them by projections and GAN samples, which they come to know by heart: on the samples they
repeat the pseudo-labels to a degree, on images from elsewhere they err by six. Re-renderings of many lifted
samples look more like such images, hold every view and light of the priors, and theirs are known exactly.
"""

from dataclasses import replace

import torch

from lift3d.model import LiftedGAN
from lift3d.observer import Observer
from lift3d.pseudo_labels.labeler import new_labeler
from lift3d.train.data import Photographs, PseudoLabels, Rerendered, SampleSet, rerender
from lift3d.train.exploit import view_light_loss
from lift3d.train.phase import Group, Losses
from lift3d.train.ranks import ALONE, Ranks

SHAPES_PER_SAMPLE = 5  # unlabeled samples that are re-rendered, for each sample that is lifted


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
) -> tuple[Rerendered, PseudoLabels]:
    """m re-renderings of each of the first n unlabeled samples, and what the labeler reads of all samples and
    ``photographs`` on the final shape. Own views and lights, from which residuals are transferred, are read
    as well.
    """
    clean = clean_images(unlabeled, photographs)

    def read() -> dict[str, torch.Tensor]:
        labeler = new_labeler(model, unlabeled.images, unlabeled.masks)
        return dict(zip(("views", "lights"), labeler.label(clean.images, clean.masks), strict=True))

    views, lights = ranks.first(read).values()
    w, images, masks = (x[:n] for x in (unlabeled.w, unlabeled.images, unlabeled.masks))
    some = SampleSet(w, images, masks, unlabeled.first_seed, views[:n], lights[:n])
    made = rerender(model, some, m, rng, observer, one_shape=False, predict=False, ranks=ranks)
    return made, PseudoLabels(made.views, made.lights, clean, views, lights)


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
