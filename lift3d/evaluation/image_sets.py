"""Do renders and projections look like the GAN's samples? Distances between sets of images, in the features
of a network.

In those of Inception-v3, Fréchet's distance is FID (Heusel et al., NeurIPS 2017) and the kernel distance is
KID (Bińkowski et al., ICLR 2018). In others they are not, and are not called so: numbers of two feature
spaces say nothing beside each other. Fréchet's falls with the number of images, so sets of equal size are
compared, and other samples of the GAN stand beside as what is within reach.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d import defaults
from lift3d.errors import BackendUnavailable, CheckpointError, ConfigError, CorruptFile
from lift3d.gan.training.feature_distance import random_features
from lift3d.model import LiftedGAN, Samples
from lift3d.networks.perceptual import LpipsDistance, pretrained_trunk
from lift3d.observer import Observer, SilentObserver, observed
from lift3d.renderers import MeshRenderer
from lift3d.scene.images import colors_to_images, resize, to_bytes, to_float
from lift3d.seeds import STREAMS

BATCH = 16
INCEPTION = "Inception-v3"
MESH_RESOLUTION = 96
Features = Callable[[Float[Tensor, "n 3 h h"]], Float[Tensor, "n f"]]  # of images in [-1, 1]
Distance = Callable[[Tensor, Tensor], Float[Tensor, " n"]]  # between images in [-1, 1]


@dataclass(frozen=True)
class SetRow:
    """A set of images against as many samples of the GAN."""

    name: str
    features: str  # of which network
    frechet: float  # FID where ``features`` is ``INCEPTION``
    kernel_x1000: float  # KID there
    lpips_alex: float | None = None  # mean over pairs of an image and its sample; None: no pairs, or no LPIPS
    lpips_vgg: float | None = None


@torch.no_grad()
def compare_image_sets(
    model: LiftedGAN,
    n: int = defaults.FID_IMAGES,
    weights: Path | None = None,
    observer: Observer | None = None,
) -> list[SetRow]:
    """Renders and projections of n samples, at their own views and lights and at those of other samples.

    ``weights`` is the file of Inception-v3 that torch-fidelity converted; by default it is looked for where
    torch keeps downloads, then downloaded. Where it cannot be had, ``observer`` is told, and features of
    another network are taken. Raises ``ConfigError`` for n < 2, ``CheckpointError`` where ``weights`` is not
    there, ``CorruptFile`` where it is something else, ``BackendUnavailable`` where torch-fidelity is missing.
    """
    if not 2 <= n <= len(STREAMS["relighting"]) // 2:
        raise ConfigError(f"number of images to compare is {n}, expected 2 or more")
    observer = observer or SilentObserver()
    name, features = _feature_space(weights, observer)
    lpips = _lpips(observer)
    first = STREAMS["relighting"].start
    found: dict[str, list[Tensor]] = {}
    pairs: dict[str, list[Tensor]] = {}
    for start in observed(observer, f"images in features of {name}", range(0, n, BATCH)):
        seeds = range(first + start, first + min(start + BATCH, n))
        samples = model.sample(seeds)
        others = model.sample([seed + n for seed in seeds]).image
        drawn = drawn_sets(model, samples)
        for key, images in {"samples": samples.image, "other samples": others, **drawn}.items():
            stored = to_float(to_bytes(images.cpu()))  # rounded, as when they are compared from files
            found.setdefault(key, []).append(features(stored))
        for key in ("renders", "projections") if lpips else ():
            distances = [distance(drawn[key], samples.image) for distance in lpips]
            pairs.setdefault(key, []).append(torch.stack(distances, 1))
    sets = {key: torch.cat(parts).cpu().double() for key, parts in found.items()}
    samples = sets.pop("samples")
    rows = []
    for key, other in sets.items():
        frechet, kernel = frechet_distance(samples, other), kernel_distance(samples, other)
        paired = torch.cat(pairs[key]).mean(0).tolist() if key in pairs else ()
        rows.append(SetRow(key, name, frechet, 1000 * kernel, *paired))
    return rows


def drawn_sets(model: LiftedGAN, samples: Samples) -> dict[str, Float[Tensor, "n 3 h h"]]:
    """Images of the samples' objects by renderer and GAN, of working size: as the samples are seen, and,
    turned, each as the one before it is seen.
    """
    size = model.config.size
    sets: dict[str, list[Tensor]] = {}
    for i, sample in enumerate(samples):
        cameras, lights = samples.cameras[[i, i - 1]], samples.lights[[i, i - 1], None]
        renderer = MeshRenderer(model.mesh(sample.code, MESH_RESOLUTION))
        maps = model.render(sample.code, cameras, lights, size, renderer)
        renders = colors_to_images(maps.colors[:, 0])
        projections = resize(model.project(sample.w, renders), size)
        for turned, image, projection in zip(("", ", turned"), renders, projections):
            sets.setdefault(f"renders{turned}", []).append(image)
            sets.setdefault(f"projections{turned}", []).append(projection)
    return {name: torch.stack(images) for name, images in sets.items()}


def frechet_distance(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> float:
    """Of the Gaussians fitted to two sets: |difference of means|^2 + trace of (A + B - 2 (A B)^(1/2)), where
    A and B are the covariances.

    With A = X^T X and B = Y^T Y the trace of the root is the sum of the singular values of X Y^T, and X may
    be the triangle of a QR decomposition: exact, and fast where there are fewer images than features.
    """
    centered = [(x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b)]
    x, y = (torch.linalg.qr(rows, mode="r").R for rows in centered)
    spread = sum(rows.square().sum() for rows in centered) - 2.0 * torch.linalg.svdvals(x @ y.T).sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + spread)


def kernel_distance(a: Float[Tensor, "n f"], b: Float[Tensor, "n f"]) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy, by the kernel (x · y / f + 1)^3; about
    0, and sometimes below, for two sets from one distribution.
    """
    n, f = a.shape

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / f + 1.0) ** 3

    within = sum(k.sum() - k.diagonal().sum() for k in (kernel(a, a), kernel(b, b))) / (n * (n - 1))
    return float(within - 2.0 * kernel(a, b).mean())


def inception_features(weights: Path | None) -> Features:
    """The 2,048 features of FID by torch-fidelity, which resizes as the published network does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # no package; a foreign torchvision
        raise BackendUnavailable(
            f"FID cannot be computed ({error}): pip install torch-fidelity and a torchvision of the same "
            "build as torch"
        ) from error
    if weights is not None:
        _require_weights(weights)
    given = None if weights is None else str(weights)
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], given)
    except (OSError, RuntimeError) as error:
        if weights is not None:
            raise CorruptFile(
                f"{weights} does not fit Inception-v3 of torch-fidelity ({str(error).splitlines()[0]}): give "
                "--inception the file that its releases have"
            ) from error
        raise BackendUnavailable(
            f"FID cannot be computed, as the weights of Inception-v3 cannot be downloaded ({error}): give "
            "--inception the file weights-inception-2015-12-05-6726825d.pth of torch-fidelity's releases, or "
            f"copy it to {torch.hub.get_dir()}/checkpoints"
        ) from error
    return lambda images: network(to_bytes(images))[0]


def _require_weights(path: Path) -> None:
    """Refuses what is no file of tensors before torch-fidelity, which runs what a pickle says, opens it."""
    if not path.is_file():
        raise CheckpointError(f"there is no file {path} for --inception")
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CorruptFile(f"{path} holds no weights of torch ({type(error).__name__})") from error


def _feature_space(weights: Path | None, observer: Observer) -> tuple[str, Features]:
    """Name and function: Inception's, else those of a trunk, else those of a random network."""
    try:
        return INCEPTION, inception_features(weights)
    except BackendUnavailable as error:
        if weights is not None:
            raise
        trunk = pretrained_trunk()
        name = "a random network" if trunk is None else trunk.name
        observer.message(f"Distances in features of {name} instead of FID and KID. {error}")
        if trunk is None:
            return name, random_features
        return name, lambda images: torch.cat([x.mean((2, 3)) for x in trunk(images)], 1)


def _lpips(observer: Observer) -> list[Distance]:
    """LPIPS by AlexNet and VGG-16, or none."""
    try:
        return [LpipsDistance(backbone) for backbone in ("alex", "vgg")]
    except BackendUnavailable as error:
        observer.message(str(error))
        return []
