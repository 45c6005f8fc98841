"""What does each part of the method give? The demo's recipe at a small budget, less one part at a time.

    OMP_NUM_THREADS=1 python benchmarks/ablations.py --out runs/ablations
    OMP_NUM_THREADS=1 python benchmarks/ablations.py --out runs/ablations --only base "one stage" --seeds 0 1
    python benchmarks/ablations.py --out runs/ablations --only --picture ablations.png    # what is there

Every run lifts the demo GAN by ``BUDGET``, with a change of the preset or with another function in the place
of one of the training's, and is measured on heads of the benchmark. Results are kept in ``--out``, where an
interrupted run goes on, too; the table of all that are there is printed at the end: means and half the range
over the seeds. A seed changes the networks' beginning, the samples and every random choice. The picture shows
normals by the models of seed 0.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from lift3d.config.presets import DEMO
from lift3d.config.schema import Preset
from lift3d.evaluation.benchmark import benchmark_renders, lifted, measure
from lift3d.gan.files.load import LoadedGan
from lift3d.gan.published import find_gan
from lift3d.model import LiftedGAN, load
from lift3d.networks.fields import condition_reference
from lift3d.pictures import contact_sheet, normals_to_rgb, save_image
from lift3d.pseudo_labels.labeler import Labeler, new_labeler
from lift3d.render.maps import Renders
from lift3d.render.surface_hits import first_hits_reference
from lift3d.render.volume import trace
from lift3d.scene.images import to_float, to_picture
from lift3d.train.data import Images, SampleSet, label
from lift3d.train.joint import pretrain
from lift3d.train.runner import STATE
from lift3d.train.stages import Stage, stages

RESULT = "result.json"
RESOLUTION = 64  # grid cells a side of the meshes that are measured
COLUMNS = {
    "side_x100": "SIDE × 100", "mad_deg": "MAD °", "mask_iou": "IoU", "albedo": "albedo",
    "view_deg": "view °", "light_deg": "light °",
}  # fmt: skip
BUDGET = replace(
    DEMO,
    n_unlabeled=512,
    joint=replace(
        DEMO.joint, n_samples=48, n_rerendered=4,
        explore_first=150, explore=40, latent=150, align=80, exploit=150, calibrate=200, distill=300,
        lean=0, realign=0,
    ),
    batch=replace(DEMO.batch, n_images=8, n_rays=256, n_surface_pixels=1024, n_align=8, n_latent=16),
)  # fmt: skip


@dataclass(frozen=True)
class Ablation:
    """A change of the preset, and functions that take the place of others, by their full names."""

    change: Callable[[Preset], Preset] = lambda preset: preset
    instead: Mapping[str, Callable] = field(default_factory=dict)


def joint(**changes: object) -> Ablation:
    """Other settings of the joint schedule."""
    return Ablation(lambda p: replace(p, joint=replace(p.joint, **changes)))


def one_stage(preset: Preset) -> Preset:
    """All steps in one stage."""
    s = preset.joint
    n, explore = s.n_stages, s.explore_first + (s.n_stages - 1) * s.explore
    changes = {"n_stages": 1, "explore_first": explore, "align": n * s.align, "exploit": n * s.exploit}
    return replace(preset, joint=replace(s, **changes))


def without_unlabeled(preset: Preset) -> Preset:
    """The published method: no unlabeled samples, nor what needs them; half of those steps go to step 2, half
    to step 3.
    """
    s = preset.joint
    more = (s.latent + s.calibrate + s.distill) // (2 * s.n_stages)
    changes = {
        "latent": 0,
        "calibrate": 0,
        "distill": 0,
        "align": s.align + more,
        "exploit": s.exploit + more,
    }
    return replace(preset, n_unlabeled=0, joint=replace(s, **changes))


def without_distillation(preset: Preset) -> Preset:
    """Its steps go to step 3."""
    s = preset.joint
    return replace(preset, joint=replace(s, distill=0, exploit=s.exploit + s.distill // s.n_stages))


def without_view_light(preset: Preset) -> Preset:
    """E_v and E_l learn from colors alone."""
    weights = replace(preset.weights, view_light=0.0)
    return replace(preset, weights=weights, joint=replace(preset.joint, calibrate=0))


def asymmetric(*arguments: object, **options: object) -> list[Stage]:
    """Stages in which no shape is mirrored."""
    return [replace(stage, symmetric=False) for stage in stages(*arguments, **options)]


def lambertian(preset: Preset, generator: nn.Module) -> LiftedGAN:
    """A model without specular reflection, to which no gradient leads back."""
    model = LiftedGAN(preset, generator)
    with torch.no_grad():
        model.material.head.weight[3], model.material.head.bias[3] = 0.0, -20.0
    return model


def unprojected(model: LiftedGAN, samples: SampleSet, pseudo: Images, *_: object) -> Images:
    """Re-renderings in the place of their projections: the GAN corrects nothing."""
    return pseudo


@dataclass(frozen=True)
class Guesses:
    """A labeler that does not find labels of some ``kinds``: it says what E_v or E_l predicts, or, as long as
    these know nothing, the mean of the prior.
    """

    labeler: Labeler
    model: LiftedGAN
    kinds: tuple[str, ...]  # of "views", "lights"
    trained: bool

    @torch.no_grad()
    def label(
        self, images: UInt8[Tensor, "n 3 s s"], masks: Bool[Tensor, "n s s"]
    ) -> tuple[Float[Tensor, "n 6"], Float[Tensor, "n 5"]]:
        """Views and lights of images."""
        found = dict(zip(("views", "lights"), self.labeler.label(images, masks), strict=True))
        priors = {
            "views": self.labeler.config.view_prior.mean,
            "lights": self.labeler.config.light_prior.mean(),
        }
        encoders = {"views": self.model.view_encoder, "lights": self.model.light_encoder}
        for kind in self.kinds:
            if self.trained:
                found[kind] = torch.cat([encoders[kind](to_float(part)) for part in images.split(256)])
            else:
                found[kind] = torch.as_tensor(priors[kind]).expand(len(images), -1)
        return found["views"], found["lights"]


def without_labels(*kinds: str) -> Ablation:
    """Views or lights of projections as they were requested, those of clean samples as ``Guesses``."""

    def guessing(trained: bool) -> Callable[..., Guesses]:
        return lambda model, *images: Guesses(new_labeler(model, *images), model, kinds, trained)

    def labeled(model: LiftedGAN, projected: Images, clean: SampleSet) -> tuple[Images, SampleSet]:
        read, clean = label(model, projected, clean)
        return replace(read, **projected.tensors(*kinds)), clean

    return Ablation(
        instead={
            "lift3d.train.stages.new_labeler": guessing(False),
            "lift3d.train.data.new_labeler": guessing(True),
            "lift3d.train.calibrate.new_labeler": guessing(True),
            "lift3d.train.stages.label": labeled,
        }
    )


TWINS = {  # of all fast steps: these must change nothing
    "lift3d.model.condition": condition_reference,
    "lift3d.train.exploit.trace": partial(trace, sparse=False),
    "lift3d.train.pixels.first_hits": first_hits_reference,
    "lift3d.train.anchors.first_hits": first_hits_reference,
    "lift3d.train.runner.fast_products": nullcontext,
}
ABLATIONS = {
    "base": Ablation(),
    "no symmetry": Ablation(instead={"lift3d.train.joint.stages": asymmetric}),
    "no chromaticity smoothness": joint(smooth_albedo=0.0, smooth_specular=0.0),
    "no view and light loss": Ablation(without_view_light),
    "no specular reflection": Ablation(instead={"lift3d.train.joint.LiftedGAN": lambertian}),
    "all bands open": joint(open_bands=(BUDGET.joint.open_bands[1],) * 2),
    "no projections": Ablation(
        joint(latent=0, align=1).change, {"lift3d.train.stages.project": unprojected}
    ),
    "no registration": without_labels("views"),
    "no Retinex": without_labels("lights"),
    "no unlabeled samples": Ablation(without_unlabeled),
    "no residual transfer": Ablation(lambda p: replace(p, transfer_residual=False)),
    "one stage": Ablation(one_stage),
    "no calibration": joint(calibrate=0),
    "no distillation": Ablation(without_distillation),
    "readable twins": Ablation(instead=TWINS),
}  # fmt: skip


def run(
    name: str, preset: Preset, gan: LoadedGan, folder: Path, seed: int, heads: Renders
) -> dict[str, float | None]:
    """The figures of one run, which happens only if they are not in ``folder``."""
    result = folder / RESULT
    if not result.exists():
        ablation = ABLATIONS[name]
        with ExitStack() as stack:
            for function, other in ablation.instead.items():
                stack.enter_context(patch(function, other))
            resume = (folder / STATE).exists()
            model = pretrain(ablation.change(preset), gan, folder, resume=resume, seed=seed)
        row = asdict(measure(name, lifted(model, RESOLUTION), heads))
        result.write_text(json.dumps({key: row[key] for key in COLUMNS}))
    return json.loads(result.read_text())


def table(out: Path) -> str:
    """The results in ``out`` as Markdown, in the order of ``ABLATIONS``."""
    lines = ["| without | seeds | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name in ABLATIONS:
        rows = [json.loads(path.read_text()) for path in sorted(out.glob(f"{slug(name)}-*/{RESULT}"))]
        if rows:
            cells = [_cell([row[key] for row in rows]) for key in COLUMNS]
            lines.append(f"| {name} | {len(rows)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sheet(out: Path, heads: Renders, resolution: int = RESOLUTION) -> NDArray[np.uint8]:
    """Images of heads, their true normals, and those of every model of the first seed: a row each."""

    def normals(x: Renders) -> NDArray[np.uint8]:
        return normals_to_rgb(x.maps.normals_in_camera(x.cameras).numpy(), x.maps.mask.numpy())

    rows = {"image": [to_picture(head.image) for head in heads], "truth": list(map(normals, heads))}
    for name in ABLATIONS:
        folder = out / f"{slug(name)}-0"
        if (folder / RESULT).exists():
            predict = lifted(load(folder), resolution)
            rows[name] = [normals(predict(0, head)) for head in heads]
    return contact_sheet(list(rows.values()), row_labels=list(rows))


def _cell(values: list[float]) -> str:
    """Mean and half the range."""
    mean, digits = sum(values) / len(values), 1 if max(values) > 5 else 3
    spread = f" ± {(max(values) - min(values)) / 2:.{digits}f}" if len(values) > 1 else ""
    return f"{mean:.{digits}f}{spread}"


def slug(name: str) -> str:
    """Of a folder."""
    return name.replace(" ", "-").lower()


def main() -> None:
    """Command line of the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--only", nargs="*", choices=ABLATIONS, default=list(ABLATIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--picture", type=Path, help="a PNG file of four heads")
    parser.add_argument("--heads", type=int, default=16, help="heads of the benchmark, four renders each")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    gan, heads = find_gan(BUDGET, None), benchmark_renders(args.heads)
    for seed in args.seeds:
        for name in args.only:
            print(
                name, seed, run(name, BUDGET, gan, args.out / f"{slug(name)}-{seed}", seed, heads), flush=True
            )
    print(table(args.out))
    if args.picture:
        save_image(args.picture, sheet(args.out, heads[:: len(heads) // 4]))


if __name__ == "__main__":
    main()
