"""Heads of the benchmark, one image of each: the joint forward pass against shading-based refinement.

    python benchmarks/refine.py --model demo --heads 32 --labels --pictures refined.png

``--labels`` starts from the views and lights of ``pseudo_labels/labeler.py`` instead of E_v's and E_l's.
Prints the rows of ``lift3d eval``, relief head by head in camera space (relief.py), specular radiance where
highlights are (evaluation/specular.py), and seconds an image. Pictures, a row a head: image, then normals
and albedo of truth, forward pass and refinement.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from relief import SIZE, head_by_head, rendered

from lift3d import pictures
from lift3d.evaluation.benchmark import SPLIT, measure
from lift3d.evaluation.specular import specular_rows
from lift3d.masks.background import background_masks
from lift3d.model import load
from lift3d.pseudo_labels.labeler import new_labeler
from lift3d.render.maps import Renders
from lift3d.scene.batch import stack
from lift3d.scene.images import colors_to_images, to_bytes
from lift3d.seeds import UNLABELED_SEED
from lift3d.synthetic.render import render_head
from lift3d.train.data import draw_samples
from lift3d.train.refine import refine

N_SHOWN = 8


def tell(name: str, predictions: Renders, heads: Renders) -> None:
    """All figures of one way to predict."""
    row = measure(name, lambda i, _: predictions[i], heads)
    print(
        f"{name}: SIDE {row.side_x100:.3f}, MAD {row.mad_deg:.2f}, IoU {row.mask_iou:.3f}, albedo "
        f"{row.albedo:.4f} ({row.albedo_scaled:.4f} scaled), specular {row.specular:.3f}, view "
        f"{row.view_deg:.2f}, light {row.light_deg:.2f}"
    )
    head_by_head(name, predictions, heads)
    for s in specular_rows(predictions, heads):
        print(
            f"  specular, {s.name}: error {s.error:.4f}, correlation {s.correlation:.3f}, ratio {s.ratio:.2f}"
        )


def sheet(path: str, heads: Renders, columns: list[Renders]) -> None:
    """Pictures of the first heads."""
    rows = []
    for i, head in enumerate(heads[:N_SHOWN]):
        row = [to_bytes(head.image * 2 - 1).numpy()]
        for maps in (head.maps, *(c[i].maps for c in columns)):
            row.append(pictures.normals_to_rgb(maps.normals.numpy(), maps.mask.numpy()))
            row.append(to_bytes(torch.where(maps.mask[..., None], maps.albedo, 1.0) * 2 - 1).numpy())
        rows.append(row)
    pictures.save_image(path, pictures.grid(rows))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--labels", action="store_true")
    parser.add_argument("--steps", type=int, help="iterations at most  [default: the model's]")
    parser.add_argument("--pictures", help="a PNG file")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load(args.model)
    config = replace(model.config.refine, iterations=args.steps or model.config.refine.iterations)
    heads = stack([render_head(SPLIT, i, SIZE)[0] for i in range(args.heads)])
    images = colors_to_images(heads.image)
    masks = background_masks(to_bytes(images), model.background[0])
    with torch.no_grad():
        codes = model.image_encoder(images)
        views, lights = model.view_encoder(images), model.light_encoder(images)
    forward = stack([rendered(model, *of) for of in zip(codes, views, lights, strict=True)])
    tell("forward pass", forward, heads)
    if args.labels:
        unlabeled = draw_samples(model, model.config.n_unlabeled, UNLABELED_SEED)
        views, lights = new_labeler(model, unlabeled.images, unlabeled.masks).label(to_bytes(images), masks)
        read = stack([rendered(model, *of) for of in zip(codes, views, lights, strict=True)])
        tell("forward pass, views and lights read", read, heads)

    def refined(i: int) -> Renders:
        one = slice(i, i + 1)
        instance = refine(model, images[one], masks[one], config, views[one], lights[one])
        own: list[Tensor] = [instance.code[0], instance.view[0], instance.light[0]]
        return rendered(instance.into(model), *own)

    start = time.perf_counter()
    after = stack([refined(i) for i in range(len(heads))])
    seconds = (time.perf_counter() - start) / len(heads)
    tell("refined", after, heads)
    print(f"{seconds:.1f} s an image, {args.threads} threads")
    if args.pictures:
        sheet(args.pictures, heads, [forward, after])


if __name__ == "__main__":
    main()
