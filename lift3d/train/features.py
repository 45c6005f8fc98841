"""How images of a GAN are compared: in step 2 by features, on patches of step 3 by a perceptual distance.

Features are those of the GAN's discriminator; of a generator that comes without one, its own ``features``;
else those of a network trained on ImageNet, where one is at hand (networks/perceptual.py); else those of a
small network that learns here, in minutes, to tell from an image which latent made it.
"""

from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lift3d.checkpoint import copy_tensors, read_tensors, require_format, write_tensors
from lift3d.gan.files.load import LoadedGan
from lift3d.gan.generator import Liftable
from lift3d.gan.latents import sample_w
from lift3d.networks.perceptual import FeatureDistance, Features, get_perceptual, pretrained_trunk
from lift3d.observer import Observer, observed
from lift3d.scene.images import resize
from lift3d.seeds import STREAMS

N_FEATURES = 4  # feature maps that step 2 compares: discriminator blocks, say
PATCH_FEATURES = 3  # and the perceptual distance of patches
FILE, FORMAT = "features.safetensors", "lift3d.features/1"  # in the folder of a run
WIDTHS = (32, 64, 96, 128)  # of the network that is trained here
N_IMAGES, N_STEPS, BATCH, RATE = 512, 400, 32, 2e-3
DRAWN = 8  # images at a time


def compare(
    gan: LoadedGan,
    size: int,
    out: Path,
    device: torch.device | str,
    observer: Observer,
    resume: bool = False,
) -> tuple[Features, nn.Module]:
    """Features of images for step 2, and the perceptual distance of patches for step 3, on ``device``; its
    ``name`` says which they are. What must be trained, on samples of ``size`` pixels, is kept in the folder
    ``out``, where a ``resume`` finds it.
    """
    if not resume:
        (out / FILE).unlink(missing_ok=True)
    if gan.discriminator is not None:
        blocks = gan.discriminator.to(device).features
        distance = get_perceptual(partial(blocks, n_blocks=PATCH_FEATURES), observer)
        return partial(blocks, n_blocks=N_FEATURES), distance.to(device)
    if hasattr(gan.generator, "features"):
        trunk, name = gan.generator.features, "generator"
    else:
        trunk = pretrained_trunk(observer) or latent_reader(gan.generator, size, out, device, observer)
        trunk, name = trunk.to(device), trunk.name
    return (
        lambda images: trunk(images)[:N_FEATURES],
        FeatureDistance(lambda images: trunk(images)[:PATCH_FEATURES], name),
    )


class LatentReader(nn.Module):
    """Images of a GAN -> w, standardized; called, it gives its feature maps, of h/2, h/4, ..."""

    name = "latent reader"  # what checkpoints call it

    def __init__(self, w_dim: int) -> None:
        super().__init__()
        pairs = zip((3, *WIDTHS), WIDTHS)
        self.levels = nn.ModuleList(nn.Conv2d(n_in, n_out, 3, 2, 1) for n_in, n_out in pairs)
        self.head = nn.Linear(WIDTHS[-1] * 16, w_dim)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        maps, x = [], images
        for level in self.levels:
            x = F.leaky_relu(level(x), 0.2)
            x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)
            maps.append(x)
        return maps

    def read(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n w_dim"]:
        """What latents the images were made from, each component in standard deviations from its mean."""
        return self.head(F.adaptive_avg_pool2d(self(images)[-1], 4).flatten(1))


def latent_reader(
    generator: Liftable, size: int, out: Path, device: torch.device | str, observer: Observer
) -> LatentReader:
    """The reader in the folder of a run, or a new one, trained on the generator's samples and kept there."""
    path, first = out / FILE, STREAMS["features"].start
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(first)
        reader = LatentReader(generator.w_dim)
    if path.is_file():
        about, tensors = read_tensors(path)
        require_format(about, FORMAT, path, "start anew with --overwrite")
        copy_tensors(reader.state_dict(), tensors, "", path)
    else:
        generator, reader = generator.to(device), reader.to(device)
        _train(reader, generator, size, torch.Generator().manual_seed(first), observer)
        write_tensors(path, reader.state_dict(), {"format": FORMAT})
    return reader.requires_grad_(False).eval()


def _train(
    reader: LatentReader, generator: Liftable, size: int, rng: torch.Generator, observer: Observer
) -> None:
    observer.message(f"Features to compare images by are learned from {N_IMAGES} samples.")
    w = sample_w(generator, N_IMAGES, rng, psi=1.0)
    images = []
    for part in observed(observer, "drawing samples for features", w.split(DRAWN), len):
        with torch.no_grad():
            images.append(resize(generator.to_image(part).clamp(-1, 1), size))
    images, target = torch.cat(images), (w - w.mean(0)) / w.std(0).clamp_min(1e-6)
    optimizer = torch.optim.Adam(reader.parameters(), RATE)
    for step in observed(observer, "learning features", range(N_STEPS)):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / N_STEPS)
        chosen = torch.randint(len(w), (BATCH,), generator=rng).to(w.device)
        loss = (reader.read(images[chosen]) - target[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
