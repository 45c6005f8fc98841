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
from lift3d.train.data import PseudoLabels, Rerendered, SampleSet, rerender
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
) -> tuple[Rerendered, PseudoLabels]:
    """m re-renderings of each of the first n unlabeled samples, and what the labeler reads of all samples on
    the final shape. Own views and lights, from which residuals are transferred, are read as well.
    """

    def read() -> dict[str, torch.Tensor]:
        labeler = new_labeler(model, unlabeled.images, unlabeled.masks)
        return dict(zip(("views", "lights"), labeler.label(unlabeled.images, unlabeled.masks), strict=True))

    views, lights = ranks.first(read).values()
    w, images, masks = (x[:n] for x in (unlabeled.w, unlabeled.images, unlabeled.masks))
    some = SampleSet(w, images, masks, unlabeled.first_seed, views[:n], lights[:n])
    made = rerender(model, some, m, rng, observer, one_shape=False, predict=False, ranks=ranks)
    return made, PseudoLabels(made.views, made.lights, unlabeled, views, lights)


def calibrate_loss(
    model: LiftedGAN, rerendered: Rerendered, labels: PseudoLabels, rng: torch.Generator
) -> Losses:
    """Predicted against known views and lights: half of the images are re-renderings, half are samples."""
    images = replace(rerendered, projected=rerendered.pseudo, projected_masks=rerendered.pseudo_masks)
    total = view_light_loss(model, images, labels, rng)
    return {"total": total, "view_light": total}
