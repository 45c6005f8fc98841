"""What every rank of test_ranks.py does: ``ranks_program.py gradients|resume|kill FOLDER``."""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tiny_gan import PRESET, tiny_gan

from lift3d.masks.morphology import around_outline
from lift3d.masks.sources import mask_source
from lift3d.model import LiftedGAN
from lift3d.observer import SilentObserver
from lift3d.train import align, calibrate, distill, exploit, explore, lean
from lift3d.train.consistency import view_light_loss
from lift3d.train.data import draw_samples, label, project, rerender
from lift3d.train.features import compare as compare_images
from lift3d.train.joint import pretrain
from lift3d.train.ranks import ALONE, Ranks, divided_model, joined_ranks

# without phases that start where the fields equal what they shall say: rounding decides signs of differences
SHORT = replace(
    PRESET,
    joint=replace(PRESET.joint, n_stages=1, latent=2, align=2, calibrate=2, distill=0, lean=0, realign=2),
)


def losses(model: LiftedGAN, ranks: Ranks) -> dict[str, tuple]:
    """Every loss of the training as a function of a random generator, and the groups that it trains."""
    source, observer = mask_source(PRESET), SilentObserver()
    features, perceptual = compare_images(tiny_gan(), 16, Path(), "cpu", observer)
    samples = draw_samples(model, 5, 7, source)
    unlabeled = draw_samples(model, 9, 70, source)
    rng = torch.Generator().manual_seed(1)
    pseudo = rerender(model, samples, 3, rng, observer, one_shape=False, predict=False, ranks=ranks)
    made = project(model, samples, pseudo, observer, source, ranks=ranks)
    made, clean = label(model, made, unlabeled)
    known = distill.read(model, unlabeled.images, rng, observer)
    known["sdf"] += 0.01  # else rounding decides the signs of differences
    galleries = [distill.gallery(unlabeled, known)]
    lesson = lean.prepare(model, unlabeled, around_outline(unlabeled.masks), rng, observer)
    lesson = replace(
        lesson, sdf=lesson.sdf + 0.01, albedo=lesson.albedo + 0.1, specular=lesson.specular + 0.1
    )
    schedule = PRESET.joint
    steps = divided_model(model, ranks)
    groups = exploit.exploit_groups(model)
    return {
        "explore": (
            lambda g: explore.explore_loss(steps, samples, schedule, g, from_prior=True),
            explore.explore_groups(model, from_prior=True),
        ),
        "latent": (lambda g: align.latent_loss(steps, unlabeled, pseudo, g), align.align_groups(model)),
        "align": (
            lambda g: align.align_loss(
                steps, samples, pseudo, features, g, masked=True, consistency=0.5, ranks=ranks
            ),
            align.align_groups(model),
        ),
        "exploit": (
            lambda g: exploit.exploit_loss(
                steps, samples, made, clean, schedule, perceptual, g, mirror_shapes=True
            ),
            groups,
        ),
        "calibrate": (
            lambda g: {"total": view_light_loss(steps, made, clean, g)},
            calibrate.calibrate_groups(model),
        ),
        "distill": (
            lambda g: distill.distill_loss(steps, galleries, perceptual, g),
            distill.distill_groups(model),
        ),
        "lean": (lambda g: lean.lean_loss(steps, lesson, g), lean.lean_groups(model)),
    }


def gradients(model: LiftedGAN, ranks: Ranks) -> dict[str, list[torch.Tensor]]:
    """Of every loss and of several seeds: pixels and patches."""
    found = {}
    for name, (loss, groups) in losses(model, ranks).items():
        parameters = [p for group in groups for p in group.parameters]
        for seed in range(4):
            model.requires_grad_(False)
            for p in parameters:
                p.requires_grad_(True)
                p.grad = None
            total = loss(torch.Generator().manual_seed(seed))["total"]
            total.backward()
            ranks.average(parameters)
            found[f"{name} {seed}"] = [total.detach(), *(p.grad for p in parameters if p.grad is not None)]
    return found


def compare(ranks: Ranks, out: Path) -> None:
    """Largest difference to one process, relative to the largest gradient of the loss."""
    torch.manual_seed(3)
    model = LiftedGAN(PRESET, tiny_gan().generator)
    with torch.no_grad():
        for p in model.parameters():  # fields that start at zero would have no gradients
            p.add_(0.02 * torch.randn_like(p))
    ours, alone = gradients(model, ranks), gradients(model, ALONE)
    found = {}
    for name, tensors in alone.items():
        assert len(ours[name]) == len(tensors), name
        largest = max(t.abs().max() for t in tensors)
        found[name] = max(
            float((a - b).abs().max() / largest) for a, b in zip(ours[name], tensors, strict=True)
        )
    (out / f"gradients-{ranks.rank}.json").write_text(json.dumps(found))


class Killed(SilentObserver):
    """Kills its process when a step begins."""

    def start(self, task: str, total: int | None) -> None:
        if "exploit" in task:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    what, out = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    with joined_ranks(torch.device("cpu")) as ranks:
        if what == "gradients":
            compare(ranks, out)
        else:
            observer = Killed() if (what, ranks.rank) == ("kill", 1) else SilentObserver()
            options = {"resume": what == "resume", "checkpoint_seconds": 0.0, "ranks": ranks}
            pretrain(SHORT, tiny_gan(), out, observer, **options)


if __name__ == "__main__":
    main()
