"""What compares images best where a GAN has no discriminator?  python benchmarks/feature_triplets.py

Triplets of the bundled GAN: a sample, the same one as a re-rendering might show it (blurred, darker, noisy),
and a clean neighbor, a tenth to a half of the way to another sample. Prints for each distance how often the
first two are nearer to each other than the first and the third.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F

from lift3d.errors import BackendUnavailable
from lift3d.gan.files.load import load
from lift3d.gan.latents import sample_w
from lift3d.gan.published import DEMO_GAN
from lift3d.networks.perceptual import EfficientNetTrunk, FeatureDistance, LpipsDistance
from lift3d.observer import SilentObserver
from lift3d.scene.images import resize
from lift3d.train.features import latent_reader

SIZE = 64


def degraded(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Blurred by two pixels, of other brightness and contrast, with noise."""
    x = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="bilinear")
    gain = 0.7 + 0.3 * torch.rand(len(x), 1, 1, 1, generator=rng)
    return (gain * (x + 1) - 1 + 0.05 * torch.randn(x.shape, generator=rng)).clamp(-1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200)
    n = parser.parse_args().n
    torch.set_num_threads(1)
    gan, rng = load(DEMO_GAN), torch.Generator().manual_seed(7)
    w = sample_w(gan.generator, n, rng, psi=0.9)
    way = 0.1 + 0.4 * torch.rand(n, 1, generator=rng)
    draw = lambda w: resize(gan.generator.to_image(w).clamp(-1, 1), SIZE)  # noqa: E731
    with TemporaryDirectory() as folder, torch.no_grad():
        image, neighbor = draw(w), draw(w + way * (w.roll(1, 0) - w))
        same = degraded(image, rng)
        with torch.enable_grad():
            reader = latent_reader(gan.generator, SIZE, Path(folder), "cpu", SilentObserver())
        distances = {
            "pixels": lambda a, b: (a - b).abs().mean((1, 2, 3)),
            "discriminator": FeatureDistance(gan.discriminator.features),
            "latent reader": FeatureDistance(reader),
        }
        for name, make in (("EfficientNet-Lite0", EfficientNetTrunk), ("LPIPS", LpipsDistance)):
            try:
                made = make()
                distances[name] = made if name == "LPIPS" else FeatureDistance(made)
            except BackendUnavailable as error:
                print(f"{name}: {error}")
        for name, distance in distances.items():
            start = time.thread_time()
            right = distance(image, same) < distance(image, neighbor)
            ms = (time.thread_time() - start) * 1000 / (4 * n)
            print(f"{name:<20} {right.float().mean():.3f} of {n} triplets, {ms:.1f} ms an image")


if __name__ == "__main__":
    main()
