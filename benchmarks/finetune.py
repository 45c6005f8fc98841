"""GAN samples before and after instance-specific fine-tuning: what the joint model says, and the instances.

    python benchmarks/finetune.py --seeds 7 8 --out runs/finetuned --pictures finetuned.png

Prints for every seed, before and after: the photometric error of its own image (mean absolute error inside
both masks, [0, 1]), the relief of its normals (relief.py; root mean square), and what E_v of the joint model
reads of the yaws from -30 to +30 degrees that renders are turned to: correlation and slope. Instances that
--out already holds are not trained again. Pictures, a row a seed: image, then render, normals and albedo, and
renders at -30 and +30 degrees, before and after.
"""

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from relief import relief

from lift3d import pictures
from lift3d.gan.published import find_gan
from lift3d.instance import FILE, load
from lift3d.masks.sources import mask_source
from lift3d.model import LiftedGAN, Samples
from lift3d.renderers import MeshRenderer
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import colors_to_images, images_to_colors, to_bytes, to_picture
from lift3d.train.instance import finetune

YAWS = [math.radians(yaw) for yaw in (-30, -20, -10, 0, 10, 20, 30)]


@dataclass(frozen=True)
class Row:
    """What was measured of one seed; pictures of it."""

    photometric: float
    relief: float
    correlation: float
    slope: float
    pictures: list[np.ndarray]


@torch.no_grad()
def measured(model: LiftedGAN, sample: Samples, reader: LiftedGAN) -> Row:
    """One sample, [1], by the fields of a model."""
    size, code = model.config.size, sample.code[0]
    renderer = MeshRenderer(resolution=96)
    own = model.render(code, sample.cameras, sample.lights, size, renderer)
    mask = mask_source(model.config)(to_bytes(sample.image), [""]) & own.mask
    image = images_to_colors(sample.image)
    error = (own.colors[:, 0] - image).abs()[mask].mean().item()
    views = torch.zeros(len(YAWS), 6)
    views[:, 1] = torch.tensor(YAWS)
    turned = model.render(code, Cameras.from_view(views), sample.lights, size, renderer)
    read = reader.view_encoder(colors_to_images(turned.colors[:, 0]))[:, 1]
    asked = views[:, 1] - views[:, 1].mean()
    slope = (asked * read).sum() / asked.square().sum()
    correlation = torch.corrcoef(torch.stack((asked, read)))[0, 1]
    shown = [
        to_picture(own.colors[0, 0]),
        pictures.normals_to_rgb(own.normals[0].numpy(), own.mask[0].numpy()),
    ]
    shown.append(to_picture(torch.where(own.mask[0, ..., None], own.albedo[0], torch.ones(()))))
    shown += [to_picture(turned.colors[i, 0]) for i in (0, -1)]
    bumps = relief(own.normals, mask).square().sum(-1).mean().sqrt()
    return Row(error, bumps.item(), correlation.item(), slope.item(), shown)


def tell(name: str, row: Row) -> None:
    print(
        f"{name}: photometric {row.photometric:.4f}, relief {row.relief:.4f}, yaw correlation "
        f"{row.correlation:.3f}, slope {row.slope:.2f}",
        flush=True,
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9, 10])
    parser.add_argument("--out", type=Path, required=True, help="a folder, with one run a seed")
    parser.add_argument("--pictures", help="a PNG file")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    joint, rows, changes = load(args.model), [], []
    gan = find_gan(joint.config)
    for seed in args.seeds:
        folder, start = args.out / str(seed), time.perf_counter()
        if not (folder / FILE).exists():
            finetune(joint, gan, folder, seed, resume=(folder / "state.safetensors").exists())
            print(f"seed {seed}: {time.perf_counter() - start:.0f} s, {args.threads} threads", flush=True)
        instance, sample = load(folder), joint.sample([seed])
        before = measured(joint, sample, joint)
        after = measured(instance, instance.sample([0]), joint)
        tell(f"seed {seed}, joint model", before)
        tell(f"seed {seed}, fine-tuned", after)
        changes.append((after.photometric / before.photometric, after.relief / before.relief))
        rows.append([to_picture(images_to_colors(sample.image[0])), *before.pictures, *after.pictures])
    photometric, bumps = torch.tensor(changes).mean(0).tolist()
    print(f"mean: photometric error {photometric - 1:+.0%}, relief x {bumps:.2f}")
    if args.pictures:
        pictures.save_image(args.pictures, pictures.grid(rows))


if __name__ == "__main__":
    main()
