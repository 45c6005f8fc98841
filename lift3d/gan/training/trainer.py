"""Trains a small StyleGAN2 or StyleGAN3 on an array of images.

The published recipe: non-saturating logistic loss, lazy R1, averaged generator with ramp-up, style mixing,
adaptive augmentation, Adam with beta1 = 0 and the lazy-regularization correction. One deviation: a batch of
fakes is drawn once per iteration; the discriminator trains on it first, then the generator against the
updated discriminator (one generator pass saved). Amounts of training are counted in images. A run directory
holds ``checkpoint.safetensors`` (exact resume), ``network-<kimg>.safetensors`` (native GAN files),
``samples-<kimg>.png`` and ``log.jsonl``, where ``feature_distance`` is that of feature_distance.py between
1,000 samples and 1,000 training images.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from lift3d.errors import ConfigError, TrainingDiverged
from lift3d.gan.files.load import save_gan
from lift3d.gan.latents import sample_images, sample_z
from lift3d.gan.stylegan3 import AliasFreeGenerator
from lift3d.gan.training.augment import SIGN_BATCHES, adapted, augment, draw_augmentation
from lift3d.gan.training.feature_distance import Gaussian, fitted, frechet_distance, random_features
from lift3d.gan.training.state import (
    GanTrainConfig,
    GanTrainState,
    grow_from,
    load_state,
    new_state,
    require_finite,
    save_state,
)
from lift3d.observer import Observer, SilentObserver
from lift3d.pictures import grid, save_image
from lift3d.scene.images import images_to_colors, to_float, to_picture
from lift3d.whole_file import replacing

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
DISTANCE_IMAGES = 1_000


@dataclass(frozen=True)
class StepStats:
    """Scalars of one iteration; logits are means over the batch."""

    g_loss: float
    d_loss: float
    r1: float | None  # squared gradient norm, on iterations that compute it
    real_logit: float
    fake_logit: float
    augment_p: float  # probability of each kind of augmentation


def train_step(state: GanTrainState, reals: Float[Tensor, "n 3 h w"]) -> tuple[GanTrainState, StepStats]:
    """One iteration: discriminator, every ``r1_interval``-th time its penalty, generator, averages.

    The discriminator sees nothing but augmented images, new ones each time; the penalty is of the gradient
    with respect to the images before augmentation, as the authors' code has it.
    """
    g, d, config = state.generator, state.discriminator, state.config
    n = len(reals)
    ws, w_mean = _mixed_ws(state, n)
    fakes = _draw(state, ws)

    d.requires_grad_(True)
    real_logits, fake_logits = d(_augmented(state, reals)), d(_augmented(state, fakes.detach()))
    d_loss = F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()
    _descend(state.d_optimizer, d_loss, "discriminator", state.images_seen)
    r1 = None
    if state.iteration % config.r1_interval == 0:
        r1 = r1_penalty(lambda images: d(_augmented(state, images)), reals)
        weighted = r1 * (config.r1_gamma / 2 * config.r1_interval)
        _descend(state.d_optimizer, weighted, "R1", state.images_seen)

    d.requires_grad_(False)
    g_loss = F.softplus(-d(_augmented(state, fakes))).mean()
    _descend(state.g_optimizer, g_loss, "generator", state.images_seen)

    seen = state.images_seen + n
    with torch.no_grad():
        g.mapping.w_avg.lerp_(w_mean, 1 - config.w_avg_decay)
        _average(state.generator_ema, g, n, min(config.ema_images, seen * config.ema_rampup))
    stats = StepStats(
        g_loss.item(),
        d_loss.item(),
        None if r1 is None else r1.item(),
        real_logits.mean().item(),
        fake_logits.mean().item(),
        state.augment_p,
    )
    state = _adapted(state, real_logits.sign().mean().item(), n)
    return replace(state, images_seen=seen, iteration=state.iteration + 1), stats


def r1_penalty(
    discriminator: Callable[[Tensor], Tensor], reals: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, ""]:
    """Mean over the batch of |d logit / d image|^2, itself differentiable."""
    reals = reals.detach().requires_grad_(True)
    (slopes,) = torch.autograd.grad(discriminator(reals).sum(), reals, create_graph=True)
    return slopes.square().sum(dim=(1, 2, 3)).mean()


def _draw(state: GanTrainState, ws: Float[Tensor, "n l w_dim"]) -> Float[Tensor, "n 3 h w"]:
    """Images in training: with random noise, or with running magnitudes that go on running."""
    if isinstance(state.generator, AliasFreeGenerator):
        return state.generator.synthesis(ws, decay=0.5 ** (len(ws) / state.config.magnitude_images))
    return state.generator.synthesis(ws, rng=state.rng)


def _augmented(state: GanTrainState, images: Float[Tensor, "n 3 h h"]) -> Float[Tensor, "n 3 h h"]:
    """The images as the discriminator sees them."""
    if state.augment_p == 0:
        return images
    return augment(images, draw_augmentation(len(images), images.shape[-1], state.augment_p, state.rng))


def _adapted(state: GanTrainState, sign: float, n: int) -> GanTrainState:
    """The state after n training images whose logits have this mean sign."""
    if state.config.augment == "none":
        return state
    mean = sign + (state.real_sign - sign) * 0.5 ** (1 / SIGN_BATCHES)
    return replace(
        state, real_sign=mean, augment_p=adapted(state.augment_p, mean, n, state.config.augment_images)
    )


def _mixed_ws(state: GanTrainState, n: int) -> tuple[Float[Tensor, "n l w_dim"], Float[Tensor, " w_dim"]]:
    """A first latent's w before a random layer, a second one's from there; and the mean of the first w."""
    g, rng, device = state.generator, state.rng, state.rng.device
    n_ws = g.config.n_ws
    w1, w2 = g.mapping(torch.randn(2 * n, g.config.z_dim, generator=rng, device=device)).chunk(2)
    crossover = torch.randint(1, n_ws, (n, 1), generator=rng, device=device)
    mixes = torch.rand(n, 1, generator=rng, device=device) < state.config.style_mixing
    second = mixes & (torch.arange(n_ws, device=device) >= crossover)
    return torch.where(second[:, :, None], w2[:, None], w1[:, None]), w1.detach().mean(dim=0)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, name: str, images_seen: int) -> None:
    if not torch.isfinite(loss):
        raise TrainingDiverged(
            f"the {name} loss is {loss.item()} after {images_seen} images; the last checkpoint is kept: "
            "resume it with a lower learning rate or a larger r1_gamma"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _average(average: nn.Module, current: nn.Module, n: int, half_life: float) -> None:
    decay = 0.5 ** (n / max(half_life, 1e-8))
    for mean, value in zip(average.parameters(), current.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for mean, value in zip(average.buffers(), current.buffers(), strict=True):
        mean.copy_(value)


def read_batch(
    images: UInt8[np.ndarray, "count h w 3"], state: GanTrainState, n: int
) -> Float[Tensor, "n 3 r r"]:
    """n random images in [-1, 1], averaged down to the network's resolution, half of them mirrored."""
    rng = state.rng
    index = torch.randint(len(images), (n,), generator=rng, device=rng.device).sort().values.cpu().numpy()
    batch = _fitting(images[index], state.config.generator.resolution, rng.device)
    if state.config.mirror:
        flips = torch.rand(n, 1, 1, 1, generator=rng, device=rng.device) < 0.5
        batch = torch.where(flips, batch.flip(3), batch)
    return batch.contiguous(memory_format=torch.channels_last)


def _fitting(
    images: UInt8[np.ndarray, "n h h 3"], resolution: int, device: torch.device
) -> Float[Tensor, "n 3 r r"]:
    """Images as the discriminator takes them."""
    batch = to_float(torch.from_numpy(images).to(device)).permute(0, 3, 1, 2)
    return F.avg_pool2d(batch, batch.shape[-1] // resolution)


def train_gan(
    images: np.ndarray,
    config: GanTrainConfig,
    out_dir: str | Path,
    observer: Observer | None = None,
    resume: bool = False,
    overwrite: bool = False,
    grow: str | Path | None = None,
    max_images: int | None = None,
    max_seconds: float | None = None,
    device: torch.device | str = "cpu",
) -> GanTrainState:
    """Trains on uint8 images [count, side, side, 3] until ``max_images`` are seen in all, or for
    ``max_seconds``; returns and saves the last state.

    ``resume`` continues the checkpoint in ``out_dir`` (images and config must be the same), ``overwrite``
    removes the run that is there; ``grow`` starts from the checkpoint of a smaller network instead of from
    noise. ``images`` may be a memory map.
    """
    _check_images(images, config)
    require_new_run(out_dir, resume, overwrite)
    out_dir, observer = Path(out_dir), observer or SilentObserver()
    state = _resumed(out_dir, config, device) if resume else _started(out_dir, config, device, grow, observer)
    reference = _reference(images, config, torch.device(device))
    observer.start("training the 2D GAN", max_images)
    observer.advance(state.images_seen)
    window, started = [], time.monotonic()
    tick, saved_at = (state.images_seen, started), state.images_seen
    while (max_images is None or state.images_seen < max_images) and (
        max_seconds is None or time.monotonic() - started < max_seconds
    ):
        state, stats = train_step(state, read_batch(images, state, config.batch_size))
        window.append(stats)
        observer.advance(config.batch_size)
        if state.images_seen // config.log_every > tick[0] // config.log_every:
            tick = _log_window(out_dir, observer, state, window, tick)
            window = []
        if state.images_seen // config.checkpoint_every > saved_at // config.checkpoint_every:
            save_run(out_dir, state, reference, observer)
            saved_at = state.images_seen
    if state.images_seen != saved_at:
        save_run(out_dir, state, reference, observer)
    observer.finish()
    return state


def require_new_run(out_dir: str | Path, resume: bool, overwrite: bool) -> None:
    """``ConfigError`` where a new run would replace one that nobody gave up."""
    if (Path(out_dir) / CHECKPOINT).exists() and not (resume or overwrite):
        raise ConfigError(
            f"{out_dir} already holds a run: pass --resume to continue it or --overwrite to start anew"
        )


def _started(
    out_dir: Path,
    config: GanTrainConfig,
    device: torch.device | str,
    grow: str | Path | None,
    observer: Observer,
) -> GanTrainState:
    """A new run, in place of one that may be there."""
    state = new_state(config, device)
    if grow is not None:
        observer.message(f"{grow_from(state, grow)} tensors taken from {grow}")
    out_dir.mkdir(parents=True, exist_ok=True)
    for pattern in (CHECKPOINT, LOG, "network-*.safetensors", "samples-*.png"):
        for old in out_dir.glob(pattern):
            old.unlink()
    return state


def _resumed(out_dir: Path, config: GanTrainConfig, device: torch.device | str) -> GanTrainState:
    """A run as its last checkpoint has it; the log forgets what came after."""
    state, log = load_state(out_dir / CHECKPOINT, config, device), out_dir / LOG
    if log.exists():
        lines = log.read_bytes().splitlines(keepends=True)
        kept = b"".join(line for line in lines if _images_of(line) <= state.images_seen)
        with replacing(log) as file:
            file.write(kept)
    return state


def _images_of(line: bytes) -> float:
    """At how many images a line of the log was written; infinity for half a line."""
    try:
        return float(json.loads(line)["images"]) if line.endswith(b"\n") else inf
    except (ValueError, TypeError, KeyError):
        return inf


def _check_images(images: np.ndarray, config: GanTrainConfig) -> None:
    resolution = config.generator.resolution
    shape = images.shape
    if images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or shape[0] == 0:
        raise ConfigError(f"images are {images.dtype} {shape}, expected uint8 [count, side, side, 3]")
    if shape[1] % resolution:
        raise ConfigError(
            f"images are {shape[1]}px wide, expected a multiple of the network's {resolution}px"
        )


def _log_window(
    out_dir: Path, observer: Observer, state: GanTrainState, window: list[StepStats], tick: tuple[int, float]
) -> tuple[int, float]:
    """Logs the means of some steps; ``tick`` and what is returned: images and time at their begin and end."""
    now = time.monotonic()
    means = {"images_per_second": (state.images_seen - tick[0]) / (now - tick[1])}
    for field in fields(StepStats):
        values = [getattr(stats, field.name) for stats in window if getattr(stats, field.name) is not None]
        if values:
            means[field.name] = sum(values) / len(values)
    _log(out_dir, observer, state, means)
    return state.images_seen, now


def _log(out_dir: Path, observer: Observer, state: GanTrainState, values: dict[str, float]) -> None:
    with open(out_dir / LOG, "a") as file:
        print(json.dumps({"images": state.images_seen, **values}), file=file)
    observer.advance(0, **values)


def save_run(out_dir: Path, state: GanTrainState, reference: Gaussian, observer: Observer) -> None:
    """Native GAN file, sample grid, distance to the training images and checkpoint of this moment.

    The checkpoint comes last: a run that was killed before is resumed at the one before and writes the others
    again.
    """
    require_finite(state)
    kimg = f"{state.images_seen // 1000:06d}"
    save_gan(out_dir / f"network-{kimg}.safetensors", state.generator_ema, state.discriminator)
    z = sample_z(state.generator_ema, 64, state.config.seed)
    rows = torch.cat([sample_images(state.generator_ema, z, psi) for psi in (0.7, 1.0)]).split(16)
    pictures = [list(to_picture(images_to_colors(row))) for row in rows]
    save_image(out_dir / f"samples-{kimg}.png", grid(pictures, pad=0))
    distance = frechet_distance(reference, _samples(state))
    _log(out_dir, observer, state, {"feature_distance": distance})
    save_state(out_dir / CHECKPOINT, state)


def _samples(state: GanTrainState) -> Gaussian:
    """Features of samples of the averaged generator, without truncation."""
    z = sample_z(state.generator_ema, DISTANCE_IMAGES, state.config.seed)
    return fitted(
        torch.cat([random_features(sample_images(state.generator_ema, part, 1.0)) for part in z.split(32)])
    )


def _reference(images: np.ndarray, config: GanTrainConfig, device: torch.device) -> Gaussian:
    """Features of training images, evenly chosen, and of their mirror images where these count."""
    chosen = np.linspace(0, len(images) - 1, min(len(images), DISTANCE_IMAGES)).astype(int)
    features = []
    for part in np.array_split(chosen, -(-len(chosen) // 32)):
        batch = _fitting(images[part], config.generator.resolution, device)
        features += [
            random_features(view) for view in ((batch, batch.flip(3)) if config.mirror else (batch,))
        ]
    return fitted(torch.cat(features))
