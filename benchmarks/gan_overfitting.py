"""Does a GAN learn its training images by heart? Two runs on few images, against images that they never saw:

    python -m lift3d.synthetic.pack runs/heads32.npy --heads 500 --size 32
    python benchmarks/gan_overfitting.py runs/heads32.npy --train 1000 --out runs/overfit
    lift3d gan train runs/overfit/train.npy --out runs/overfit/none --resolution 32 --channels 512 64 \\
        --mapping-layers 2 --kimg 200 --checkpoint-kimg 10 --augment none
    lift3d gan train runs/overfit/train.npy --out runs/overfit/ada ... --augment ada
    python benchmarks/gan_overfitting.py runs/heads32.npy --train 1000 --out runs/overfit --runs none ada

The first call writes the training images. The last one prints, for every network of the runs, its distance
to held-out and to training images (``feature_distance.py``, 2,000 samples), and the mean logits of training
images, held-out images and samples, and plots them. r_v = (training - held-out) / (training - samples) is 0
where nothing is learned by heart and 1 where held-out images pass for fakes (ADA, eq. 1).
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from lift3d.gan.files.load import load
from lift3d.gan.latents import sample_images, sample_z
from lift3d.gan.stylegan2 import Discriminator
from lift3d.gan.training.feature_distance import fitted, frechet_distance, random_features
from lift3d.pictures import grid, save_image
from lift3d.plots import curves
from lift3d.scene.images import to_float

COLUMNS = ("to held-out", "to training", "training", "held-out", "samples", "r_v")
N_SAMPLES, BATCH = 2000, 100


def logits(discriminator: Discriminator, images: torch.Tensor) -> float:
    """Mean logit of many images."""
    return torch.cat([discriminator(part) for part in images.split(BATCH)]).mean().item()


@torch.no_grad()
def row(path: Path, known: torch.Tensor, held_out: torch.Tensor) -> tuple[float, ...]:
    """COLUMNS of one network."""
    gan = load(path)
    z = sample_z(gan.generator, N_SAMPLES, 1)
    samples = torch.cat([sample_images(gan.generator, part, 1.0) for part in z.split(BATCH)])
    features = [fitted(random_features(images)) for images in (held_out, known, samples)]
    distances = [frechet_distance(features[2], other) for other in features[:2]]
    real, other, fake = (logits(gan.discriminator, images) for images in (known, held_out, samples))
    return (*distances, real, other, fake, (real - other) / (real - fake))


def main() -> None:
    """Command line of the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--runs", nargs="*", default=[], help="names of folders in --out")
    parser.add_argument("--train", type=int, default=1000, help="images to train on; as many are held out")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = np.load(args.images, mmap_mode="r")[: 2 * args.train]
    if not args.runs:
        args.out.mkdir(parents=True, exist_ok=True)
        np.save(args.out / "train.npy", images[: args.train])
        return
    known, held_out = to_float(torch.from_numpy(np.array(images))).permute(0, 3, 1, 2).split(args.train)
    floor = frechet_distance(*(fitted(random_features(part)) for part in (known, held_out)))
    print(f"distance of training images to held-out ones: {floor:.4f}")
    table: dict[str, dict[int, tuple[float, ...]]] = {}
    for name in args.runs:
        paths = sorted((args.out / name).glob("network-*.safetensors"))
        table[name] = {int(path.stem[-6:]): row(path, known, held_out) for path in paths}
        print(name, "kimg", *COLUMNS, sep="\t")
        for kimg, values in table[name].items():
            print(name, kimg, *(f"{value:.3f}" for value in values), sep="\t")
    pictures = [
        curves(
            {name: [(kimg, values[i]) for kimg, values in rows.items()] for name, rows in table.items()},
            title=title,
            log_y=i == 0,
        )
        for i, title in (
            (0, "distance to held-out images, by thousand images seen"),
            (5, "r_v: share of the margin that held-out images lose"),
        )
    ]
    save_image(args.out / "overfitting.png", grid([[picture] for picture in pictures]))


if __name__ == "__main__":
    main()
