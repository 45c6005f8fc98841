"""Trains a small StyleGAN2 on an array of images.

The published recipe: non-saturating logistic loss, lazy R1, averaged generator with ramp-up, style mixing, Adam with
beta1 = 0 and the lazy-regularisation correction. One deviation: a batch of fakes is drawn once per iteration; the
discriminator trains on it first, then the generator against the updated discriminator (one generator pass saved).
Amounts of training are counted in images. A run directory holds ``checkpoint.safetensors`` (exact resume),
``network-<kimg>.safetensors`` (native GAN files), ``samples-<kimg>.png`` and ``log.jsonl``.
"""

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from lift3d.errors import CheckpointError, ConfigError, TrainingDiverged
from lift3d.gan.load import config_from, fill, read_tensors, save_gan, write_tensors
from lift3d.gan.prior import sample_images, sample_z
from lift3d.gan.stylegan2 import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from lift3d.observer import Observer, SilentObserver

FORMAT = "lift3d.gan-training/1"
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class GanTrainConfig:
    """Everything that fixes a run except its images."""

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    batch_size: int = 32
    g_lr: float = 0.0025
    d_lr: float = 0.0025
    r1_gamma: float = 0.1  # weight of the gradient penalty; grows with the image's number of pixels
    r1_interval: int = 16  # iterations between penalties
    ema_images: float = 10_000.0  # half-life of the averaged generator, in images
    ema_rampup: float = 0.05  # the half-life is at most this share of the images seen
    w_avg_decay: float = 0.995  # per iteration
    style_mixing: float = 0.9  # probability of a second latent per sample
    mirror: bool = True  # half of the real images are flipped left-right
    checkpoint_every: int = 20_000  # images
    log_every: int = 1_000  # images
    seed: int = 0

    def __post_init__(self) -> None:
        if self.generator.resolution != self.discriminator.resolution:
            raise ConfigError(
                f"the generator makes {self.generator.resolution}px images, the discriminator reads "
                f"{self.discriminator.resolution}px: give both the same number of channels"
            )
        if self.generator.c_dim or self.discriminator.c_dim:
            raise ConfigError("c_dim is not 0, but the trainer is unconditional: set c_dim = 0")


@dataclass(frozen=True)
class GanTrainState:
    """A run at one moment. Steps update its networks in place and return the state that follows."""

    config: GanTrainConfig
    generator: Generator
    discriminator: Discriminator
    generator_ema: Generator
    g_optimizer: torch.optim.Adam
    d_optimizer: torch.optim.Adam
    rng: torch.Generator
    images_seen: int = 0
    iteration: int = 0


@dataclass(frozen=True)
class StepStats:
    """Scalars of one iteration; logits are means over the batch."""

    g_loss: float
    d_loss: float
    r1: float | None  # squared gradient norm, on iterations that compute it
    real_logit: float
    fake_logit: float


def new_state(config: GanTrainConfig, device: torch.device | str = "cpu") -> GanTrainState:
    """Freshly initialised networks, from the config's seed alone (PyTorch's own random state is left as it was)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        generator = Generator(config.generator).to(device)
        discriminator = Discriminator(config.discriminator).to(device)
    lazy = config.r1_interval / (config.r1_interval + 1)
    return GanTrainState(
        config,
        generator,
        discriminator,
        copy.deepcopy(generator).requires_grad_(False).eval(),
        torch.optim.Adam(generator.parameters(), config.g_lr, (0.0, 0.99)),
        torch.optim.Adam(discriminator.parameters(), config.d_lr * lazy, (0.0, 0.99**lazy)),
        torch.Generator(device).manual_seed(config.seed),
    )


def train_step(state: GanTrainState, reals: Float[Tensor, "n 3 h w"]) -> tuple[GanTrainState, StepStats]:
    """One iteration: discriminator, every ``r1_interval``-th time its penalty, generator, averages."""
    g, d, config = state.generator, state.discriminator, state.config
    n = len(reals)
    ws, w_mean = _mixed_ws(state, n)
    fakes = g.synthesis(ws, rng=state.rng)

    d.requires_grad_(True)
    real_logits, fake_logits = d(reals), d(fakes.detach())
    d_loss = F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()
    _descend(state.d_optimizer, d_loss, "discriminator", state.images_seen)
    r1 = None
    if state.iteration % config.r1_interval == 0:
        r1 = r1_penalty(d, reals)
        weighted = r1 * (config.r1_gamma / 2 * config.r1_interval)
        _descend(state.d_optimizer, weighted, "R1", state.images_seen)

    d.requires_grad_(False)
    g_loss = F.softplus(-d(fakes)).mean()
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
    )
    return replace(state, images_seen=seen, iteration=state.iteration + 1), stats


def r1_penalty(discriminator: Discriminator, reals: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
    """Mean over the batch of |d logit / d image|^2, itself differentiable."""
    reals = reals.detach().requires_grad_(True)
    (slopes,) = torch.autograd.grad(discriminator(reals).sum(), reals, create_graph=True)
    return slopes.square().sum(dim=(1, 2, 3)).mean()


def _mixed_ws(state: GanTrainState, n: int) -> tuple[Float[Tensor, "n l w_dim"], Float[Tensor, " w_dim"]]:
    """Layers before a random one take a first latent's w, the rest a second one's; also the mean of the first w."""
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
    """n random images in [-1, 1], box-averaged down to the network's resolution, mirrored half of the time."""
    resolution, rng = state.config.generator.resolution, state.rng
    index = torch.randint(len(images), (n,), generator=rng, device=rng.device).sort().values.cpu().numpy()
    batch = torch.from_numpy(images[index]).to(rng.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    if batch.shape[-1] > resolution:
        batch = F.avg_pool2d(batch, batch.shape[-1] // resolution)
    if state.config.mirror:
        flips = torch.rand(n, 1, 1, 1, generator=rng, device=rng.device) < 0.5
        batch = torch.where(flips, batch.flip(3), batch)
    return batch.contiguous(memory_format=torch.channels_last)


def train_gan(
    images: np.ndarray,
    config: GanTrainConfig,
    out_dir: str | Path,
    observer: Observer | None = None,
    resume: bool = False,
    grow: str | Path | None = None,
    max_images: int | None = None,
    max_seconds: float | None = None,
    device: torch.device | str = "cpu",
) -> GanTrainState:
    """Trains on uint8 images [count, side, side, 3] until ``max_images`` are seen in all, or for ``max_seconds``; returns and saves the last state.

    ``resume`` continues the checkpoint in ``out_dir`` (images and config must be the same); ``grow`` starts from the
    checkpoint of a smaller network instead of from noise. ``images`` may be a memory map.
    """
    _check_images(images, config)
    out_dir, observer = Path(out_dir), observer or SilentObserver()
    out_dir.mkdir(parents=True, exist_ok=True)
    if resume:
        state = load_state(out_dir / CHECKPOINT, config, device)
    elif (out_dir / CHECKPOINT).exists():
        raise ConfigError(f"{out_dir} already holds a run: resume it or choose another directory")
    else:
        state = new_state(config, device)
        if grow is not None:
            observer.message(f"{grow_from(state, grow)} tensors taken from {grow}")
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
            tick = _log(out_dir, observer, state, window, tick)
            window = []
        if state.images_seen // config.checkpoint_every > saved_at // config.checkpoint_every:
            save_run(out_dir, state)
            saved_at = state.images_seen
    if state.images_seen != saved_at:
        save_run(out_dir, state)
    observer.finish()
    return state


def _check_images(images: np.ndarray, config: GanTrainConfig) -> None:
    resolution = config.generator.resolution
    shape = images.shape
    if images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or shape[0] == 0:
        raise ConfigError(f"images are {images.dtype} {shape}, expected uint8 [count, side, side, 3]")
    if shape[1] % resolution:
        raise ConfigError(
            f"images are {shape[1]}px wide, expected a multiple of the network's {resolution}px"
        )


def _log(
    out_dir: Path, observer: Observer, state: GanTrainState, window: list[StepStats], tick: tuple[int, float]
) -> tuple[int, float]:
    now = time.monotonic()
    means = {"images_per_second": (state.images_seen - tick[0]) / (now - tick[1])}
    for field in fields(StepStats):
        values = [getattr(stats, field.name) for stats in window if getattr(stats, field.name) is not None]
        if values:
            means[field.name] = sum(values) / len(values)
    with open(out_dir / "log.jsonl", "a") as file:
        print(json.dumps({"images": state.images_seen, **means}), file=file)
    observer.advance(0, **means)
    return state.images_seen, now


def save_run(out_dir: Path, state: GanTrainState) -> None:
    """Checkpoint, native GAN file and sample grid of this moment."""
    save_state(out_dir / CHECKPOINT, state)
    kimg = f"{state.images_seen // 1000:06d}"
    save_gan(out_dir / f"network-{kimg}.safetensors", state.generator_ema, state.discriminator)
    z = sample_z(state.generator_ema, 64, state.config.seed)
    grid = torch.cat([sample_images(state.generator_ema, z, psi) for psi in (0.7, 1.0)])
    Image.fromarray(_grid(grid, columns=16)).save(out_dir / f"samples-{kimg}.png")


def _grid(images: Float[Tensor, "n 3 h w"], columns: int) -> UInt8[np.ndarray, "height width 3"]:
    n, c, h, w = images.shape
    tiles = images.cpu().reshape(n // columns, columns, c, h, w).permute(0, 3, 1, 4, 2)
    return (tiles.reshape(n // columns * h, columns * w, c) * 127.5 + 128).clamp(0, 255).byte().numpy()


def _networks(state: GanTrainState) -> dict[str, nn.Module]:
    return {"g": state.generator, "d": state.discriminator, "g_ema": state.generator_ema}


def _moments(state: GanTrainState) -> Iterator[tuple[str, torch.optim.Adam, nn.Parameter]]:
    for prefix, optimizer, network in (
        ("g_adam", state.g_optimizer, state.generator),
        ("d_adam", state.d_optimizer, state.discriminator),
    ):
        for name, parameter in network.named_parameters():
            yield f"{prefix}.{name}", optimizer, parameter


def save_state(path: str | Path, state: GanTrainState) -> None:
    """Writes everything that an exact continuation needs, in full precision."""
    for key, network in _networks(state).items():
        for name, tensor in network.state_dict().items():
            if not tensor.isfinite().all():
                raise TrainingDiverged(
                    f"{key}.{name} is no longer finite after {state.images_seen} images; the last checkpoint is kept"
                )
    tensors = {
        f"{k}.{name}": t for k, net in _networks(state).items() for name, t in net.state_dict().items()
    }
    for name, optimizer, parameter in _moments(state):
        for key, value in optimizer.state[parameter].items():
            tensors[f"{name}.{key}"] = value
    tensors["rng"] = state.rng.get_state()
    about = {
        "format": FORMAT,
        "config": asdict(state.config),
        "images_seen": state.images_seen,
        "iteration": state.iteration,
    }
    write_tensors(path, tensors, about)


def load_state(
    path: str | Path, config: GanTrainConfig | None = None, device: torch.device | str = "cpu"
) -> GanTrainState:
    """The state that ``save_state`` wrote. ``config`` may change the settings, not the networks (None: as stored)."""
    about, tensors = _read(path)
    stored = dict(about["config"])
    stored["generator"] = config_from(GeneratorConfig, stored["generator"], path)
    stored["discriminator"] = config_from(DiscriminatorConfig, stored["discriminator"], path)
    config = config or GanTrainConfig(**stored)
    if (config.generator, config.discriminator) != (stored["generator"], stored["discriminator"]):
        raise CheckpointError(
            f"{path} holds other networks: {stored['generator']}, {stored['discriminator']}"
        )
    state = new_state(config, device)
    for key, network in _networks(state).items():
        fill(network, tensors, f"{key}.", path)
    for name, optimizer, parameter in _moments(state):
        step = tensors.get(f"{name}.step")
        if step is None:
            continue  # a parameter that never had a gradient
        moments = {key: torch.empty_like(parameter).copy_(tensors[f"{name}.{key}"]) for key in ADAM_MOMENTS}
        optimizer.state[parameter] = {"step": step, **{key: m.detach() for key, m in moments.items()}}
    state.rng.set_state(tensors["rng"])
    return replace(state, images_seen=about["images_seen"], iteration=about["iteration"])


ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")


def _read(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    about, tensors = read_tensors(path)
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {about.get('format')!r}, expected {FORMAT!r}")
    return about, tensors


@torch.no_grad()
def grow_from(state: GanTrainState, path: str | Path) -> int:
    """Copies every network tensor whose name and shape match a smaller run's checkpoint; returns how many.

    The new image layers start at zero, so the generator starts as the smaller one, enlarged.
    """
    _, tensors = _read(path)
    matches = 0
    for key, network in _networks(state).items():
        for name, tensor in network.state_dict().items():
            source = tensors.get(f"{key}.{name}")
            if source is not None and source.shape == tensor.shape:
                tensor.copy_(source)
                matches += 1
            elif name.endswith("torgb.weight"):
                tensor.zero_()
    if matches == 0:
        raise CheckpointError(
            f"{path} has no tensor that fits this network: compare the channels of both runs"
        )
    return matches


class _Printer(SilentObserver):
    """Prints logged values, one line each time."""

    def __init__(self) -> None:
        self.images = 0

    def advance(self, n: int = 1, **values: float) -> None:
        self.images += n
        if values:
            print(f"{self.images:8d} ", " ".join(f"{k}={v:.4g}" for k, v in values.items()), flush=True)

    def message(self, text: str) -> None:
        print(text, flush=True)


def main() -> None:
    """``python -m lift3d.gan.train IMAGES.npy --out DIR``."""
    import argparse

    from lift3d.gan.stylegan2 import channels_for

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("images", help="uint8 array [count, side, side, 3] in a .npy file")
    parser.add_argument("--out", required=True)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--channels", default="base=1024,max=128", help="of both networks: base=B,max=M")
    parser.add_argument("--d-channels", help="of the discriminator, if different")
    parser.add_argument("--latent", type=int, default=128, help="width of z and w")
    parser.add_argument("--mapping-layers", type=int, default=4)
    parser.add_argument("--noise", action="store_true", help="give the generator noise inputs")
    parser.add_argument("--kimg", type=float, help="thousands of images in all")
    parser.add_argument("--hours", type=float)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.0025)
    parser.add_argument("--gamma", type=float, help="weight of R1 (default: 0.1 at 64px, as side^2)")
    parser.add_argument("--ema-kimg", type=float, default=10.0)
    parser.add_argument("--no-mirror", action="store_true")
    parser.add_argument("--checkpoint-kimg", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--grow-from", help="run directory of a smaller resolution")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    if args.threads:
        torch.set_num_threads(args.threads)

    def widths(text: str) -> tuple[int, ...]:
        rule = dict(part.split("=") for part in text.split(","))
        return channels_for(args.resolution, int(rule["base"]), int(rule["max"]))

    config = GanTrainConfig(
        GeneratorConfig(
            widths(args.channels),
            z_dim=args.latent,
            w_dim=args.latent,
            n_mapping_layers=args.mapping_layers,
            noise=args.noise,
        ),
        DiscriminatorConfig(widths(args.d_channels or args.channels)),
        batch_size=args.batch,
        g_lr=args.lr,
        d_lr=args.lr,
        r1_gamma=0.1 * (args.resolution / 64) ** 2 if args.gamma is None else args.gamma,
        ema_images=args.ema_kimg * 1000,
        mirror=not args.no_mirror,
        checkpoint_every=int(args.checkpoint_kimg * 1000),
        seed=args.seed,
    )
    train_gan(
        np.load(args.images, mmap_mode="r"),
        config,
        args.out,
        _Printer(),
        args.resume,
        args.grow_from and Path(args.grow_from) / CHECKPOINT,
        args.kimg and int(args.kimg * 1000),
        args.hours and args.hours * 3600,
        args.device,
    )


if __name__ == "__main__":
    main()
