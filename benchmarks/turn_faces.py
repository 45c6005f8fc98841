"""Samples of a lifted face GAN, and their renders at five yaws, for judge_faces.py (docs/real-faces.md):

    LIFT3D_GENERATOR=face_gan:generator python turn_faces.py faces turned --seeds 40

With --masks, a source as that of ``lift3d pretrain``, each sample is refined first; with --large, the same
generator of more pixels, on its image: ``--large face_gan:generator_128``.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch

import lift3d
from lift3d.gan.own import import_generator
from lift3d.masks.sources import mask_source
from lift3d.pictures import save_image
from lift3d.renderers import MeshRenderer
from lift3d.scene.cameras import placed
from lift3d.scene.images import images_to_colors, to_bytes
from lift3d.train.instance import refine_sample

YAWS = (-30, -15, 0, 15, 30)
LARGE = {"n_pixels": 1536, "open_bands": (0.94, 1.0)}  # settings of refinement at twice the size


def main() -> None:
    """Writes SEED-own.png and SEED-YAW.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=40, help="how many, from 0")
    parser.add_argument("--masks")
    parser.add_argument("--large")
    args = parser.parse_args()
    model = lift3d.load(args.model)
    args.out.mkdir(parents=True, exist_ok=True)
    source = mask_source(model.config, args.masks, args.out / "to-mask") if args.masks else None
    large = import_generator(args.large).generator if args.large else None
    config = replace(model.config.refine, **LARGE if large else {})
    views = torch.zeros(len(YAWS), 6)
    views[:, 1] = torch.tensor([math.radians(yaw) for yaw in YAWS])
    cameras = lift3d.Cameras.from_view(placed(views, model.config.view_prior.pivot))
    for seed in range(args.seeds):
        shown, sample = model, model.sample([seed])
        with torch.no_grad():
            image = sample.image if large is None else large.to_image(sample.w).clamp(-1, 1)
        save_image(args.out / f"{seed}-own.png", images_to_colors(image[0]).clamp(0, 1))
        if source is not None:
            masks = source(to_bytes(image), [str(seed)])
            shown = refine_sample(model, sample, masks, config, seed, image=image)
            sample = shown.sample([0])
        renderer = MeshRenderer(shown.mesh(sample.code[0], 96))
        renders = shown.render(sample.code[0], cameras, sample.lights, 128, renderer)
        for yaw, colors in zip(YAWS, renders.colors[:, 0], strict=True):
            save_image(args.out / f"{seed}-{yaw}.png", colors)


if __name__ == "__main__":
    main()
