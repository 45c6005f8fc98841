"""Does the demo GAN cover the views and lights it was trained on?

A small regressor learns yaw, pitch and light direction from head renders (held-out R^2 is printed), then
reads them from GAN samples; the spread (standard deviation) of what it reads is compared with that of what it
reads from renders:

    python -m lift3d.synthetic.pack runs/heads64.npy
    python benchmarks/gan_coverage.py runs/heads64.npy lift3d/assets/demo-gan.safetensors
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from lift3d.gan.files.load import load
from lift3d.gan.latents import sample_images, sample_z
from lift3d.networks.encoders import pose_light_encoder
from lift3d.synthetic.render import VIEWS_PER_HEAD, render_parameters

NAMES = ("pitch", "yaw", "l_x", "l_y")


def labels(n_heads: int) -> torch.Tensor:
    """[n_heads * VIEWS_PER_HEAD, 4] in the order of the packed images, in the units of NAMES."""
    rows = []
    for head in range(n_heads):
        views, lights = render_parameters("train", head, VIEWS_PER_HEAD)
        rows.append(torch.stack((views[:, 0], views[:, 1], lights[:, 2], lights[:, 3]), -1))
    return torch.cat(rows)


def main() -> None:
    """Prints R^2 and the ratios of spreads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("gan", type=Path)
    parser.add_argument("--heads", type=int, default=10000)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--psi", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--regressor", type=Path, help="keep the trained regressor here, or use the one that is here"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    images = np.load(args.images, mmap_mode="r")[: args.heads * VIEWS_PER_HEAD]
    target = labels(args.heads)
    n_train = int(0.95 * args.heads) * VIEWS_PER_HEAD  # whole heads are held out
    center, scale = target[:n_train].mean(0), target[:n_train].std(0)

    def batch(index: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images[np.sort(index)]).permute(0, 3, 1, 2).float() / 127.5 - 1.0

    net = pose_light_encoder(images.shape[1], len(NAMES), width=0.25)
    if args.regressor and args.regressor.exists():
        net.load_state_dict(torch.load(args.regressor, weights_only=True))
    else:
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, args.steps)
        for _ in range(args.steps):
            index = np.sort(
                np.random.default_rng(int(torch.randint(2**31, ()))).choice(n_train, 48, replace=False)
            )
            loss = (4 * net(batch(index)) - (target[index] - center) / scale).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if args.regressor:
            torch.save(net.state_dict(), args.regressor)
    with torch.no_grad():
        held_out = np.arange(n_train, len(images))
        read = torch.cat([4 * net(batch(part)) for part in np.array_split(held_out, 20)]) * scale + center
        truth = target[n_train:]
        r2 = 1 - (read - truth).square().mean(0) / truth.var(0)
        gan = load(args.gan)
        samples = []
        for seed in range(args.samples // 50):
            picture = sample_images(gan.generator, sample_z(gan.generator, 50, seed), psi=args.psi)
            samples.append(4 * net(picture) * scale + center)
    ratio = torch.cat(samples).std(0) / read.std(0)
    for i, name in enumerate(NAMES):
        print(
            f"{name:6s} held-out R2 {r2[i]:.3f}   "
            f"spread of {args.samples} GAN samples / of renders {ratio[i]:.3f}"
        )


if __name__ == "__main__":
    main()
