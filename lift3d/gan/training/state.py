"""The state of a GAN training: networks, optimizers, random numbers and counters; its file; growing to
another resolution.

Amounts of training are counted in images. The file (format "lift3d.gan-training/3") continues a run exactly.
"""

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift3d.checkpoint import fill, is_finite, read_tensors, require_format, write_tensors
from lift3d.errors import CheckpointError, ConfigError, CorruptFile, TrainingDiverged
from lift3d.gan import kinds
from lift3d.gan.config import DiscriminatorConfig
from lift3d.gan.files.load import FORMAT as GAN_FORMAT
from lift3d.gan.generator import StyleGenerator
from lift3d.gan.stylegan2 import Discriminator, DiscriminatorBlock
from lift3d.settings import check, setting, shown

FORMAT = "lift3d.gan-training/3"
ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")
AUGMENTATIONS = ("none", "ada")
_COUNTERS = {"images_seen": int, "iteration": int, "augment_p": float, "real_sign": float}


@dataclass(frozen=True)
class GanTrainConfig:
    """Everything that fixes a run except its images."""

    generator: kinds.AnyGeneratorConfig
    discriminator: DiscriminatorConfig
    batch_size: int = setting(32, 1, 65_536, "images per iteration")
    g_lr: float = setting(0.0025, 0, 1e30, "learning rate of the generator")
    d_lr: float = setting(0.0025, 0, 1e30, "learning rate of the discriminator")
    r1_gamma: float = setting(0.1, 0, 1e9, "weight of the gradient penalty; grows with the number of pixels")
    r1_interval: int = setting(16, 1, 10_000, "iterations between penalties")
    ema_images: float = setting(10_000.0, 0, 1e12, "half-life of the averaged generator", "images")
    ema_rampup: float = setting(0.05, 0, 1, "the half-life is at most this share of the images seen")
    w_avg_decay: float = setting(0.995, 0, 1, "of the mean of w, per iteration")
    magnitude_images: float = setting(20_000.0, 1, 1e12, "half-life of StyleGAN3's magnitudes", "images")
    style_mixing: float = setting(0.9, 0, 1, "probability of a second latent per sample")
    mirror: bool = True  # half of the real images are flipped left-right
    augment: str = setting("ada", None, None, "what real and fake images undergo", "", AUGMENTATIONS)
    augment_images: float = setting(
        100_000.0, 1, 1e12, "in which its probability can go from 0 to 1", "images"
    )
    checkpoint_every: int = setting(20_000, 1, 10**12, "images between checkpoints")
    log_every: int = setting(1_000, 1, 10**12, "images between lines of the log")
    seed: int = setting(0, 0, 2**63 - 1, "of every random choice")

    def __post_init__(self) -> None:
        check(self)
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
    generator: StyleGenerator
    discriminator: Discriminator
    generator_ema: StyleGenerator
    g_optimizer: torch.optim.Adam
    d_optimizer: torch.optim.Adam
    rng: torch.Generator
    images_seen: int = 0
    iteration: int = 0
    augment_p: float = 0.0  # probability of each kind of augmentation
    real_sign: float = 0.0  # recent mean of the sign of the logits of training images


def new_state(config: GanTrainConfig, device: torch.device | str = "cpu") -> GanTrainState:
    """New networks, from the config's seed alone (PyTorch's own random state stays as it was)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        generator = kinds.build_generator(config.generator).to(device)
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


def _networks(state: GanTrainState) -> dict[str, nn.Module]:
    return {"g": state.generator, "d": state.discriminator, "g_ema": state.generator_ema}


def _moments(state: GanTrainState) -> Iterator[tuple[str, torch.optim.Adam, nn.Parameter]]:
    for prefix, optimizer, network in (
        ("g_adam", state.g_optimizer, state.generator),
        ("d_adam", state.d_optimizer, state.discriminator),
    ):
        for name, parameter in network.named_parameters():
            yield f"{prefix}.{name}", optimizer, parameter


def require_finite(state: GanTrainState) -> None:
    """``TrainingDiverged`` if any weight is not a finite number."""
    for key, network in _networks(state).items():
        for name, tensor in network.state_dict().items():
            if not is_finite(tensor):
                raise TrainingDiverged(
                    f"{key}.{name} is not finite after {state.images_seen} images; "
                    "the last checkpoint is kept: resume it with a lower learning rate or a larger r1_gamma"
                )


def save_state(path: str | Path, state: GanTrainState) -> None:
    """Writes everything that an exact continuation needs, in full precision."""
    require_finite(state)
    tensors = {
        f"{k}.{name}": t for k, net in _networks(state).items() for name, t in net.state_dict().items()
    }
    for name, optimizer, parameter in _moments(state):
        for key, value in optimizer.state[parameter].items():
            tensors[f"{name}.{key}"] = value
    tensors["rng"] = state.rng.get_state()
    about = {
        "format": FORMAT,
        "config": asdict(state.config) | {"generator": kinds.describe_generator(state.generator)},
        **{name: getattr(state, name) for name in _COUNTERS},
    }
    write_tensors(path, tensors, about)


def load_state(
    path: str | Path, config: GanTrainConfig | None = None, device: torch.device | str = "cpu"
) -> GanTrainState:
    """The state in a file; ``config`` may change the settings, not the networks (None: as stored)."""
    about, tensors = read_tensors(path)
    require_format(about, FORMAT, path, "start anew with --overwrite")
    try:
        return _state(about, tensors, config, device, path)
    except ConfigError as error:
        raise CorruptFile(f"{path} is damaged: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CorruptFile(f"{path} is damaged: its training state has no proper {error}") from error


def _state(
    about: dict,
    tensors: dict[str, Tensor],
    config: GanTrainConfig | None,
    device: torch.device | str,
    path: str | Path,
) -> GanTrainState:
    """The state in the content of a file."""
    stored = dict(about["config"])
    stored["generator"] = kinds.generator_config(stored["generator"], path)
    stored["discriminator"] = kinds.config_from(DiscriminatorConfig, stored["discriminator"], path)
    config = config or _config(stored)
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
    return replace(state, **{name: _counter(about, name) for name in _COUNTERS})


def _config(stored: dict) -> GanTrainConfig:
    """The settings in a file, of the types that they must have."""
    for f in fields(GanTrainConfig):
        if f.type in (int, float, bool, str) and type(stored[f.name]) is not f.type:
            raise TypeError(f"{f.name!r}: {shown(stored[f.name])}")
    return GanTrainConfig(**stored)


def _counter(about: dict, name: str) -> int | float:
    """A number of the state as the file has it."""
    value, limit = about[name], 1.0 if _COUNTERS[name] is float else 2**62
    if type(value) is not _COUNTERS[name] or not abs(value) <= limit:
        raise TypeError(f"{name!r}: {shown(value)}")
    return value


@torch.no_grad()
def grow_from(state: GanTrainState, path: str | Path) -> int:
    """Copies every network tensor whose name and shape match another run's checkpoint or native GAN file
    (its G_ema then stands in for G); returns how many.

    From a smaller run, both networks start as what they were: the new image layer of the generator is zero,
    and the new block of the discriminator reduces an image to what the smaller network's first layer made of
    it (``_pass_through``).
    """
    about, tensors = read_tensors(path)
    if about.get("format") not in (FORMAT, GAN_FORMAT):
        raise CheckpointError(
            f"{path} has format {about.get('format')!r}, expected {FORMAT!r} or {GAN_FORMAT!r}"
        )
    matches = 0
    for key, network in _networks(state).items():
        for name, tensor in network.state_dict().items():
            source = tensors.get(f"{key}.{name}", tensors.get(f"g.{name}") if key == "g_ema" else None)
            if source is not None and source.shape == tensor.shape:
                tensor.copy_(source)
                matches += 1
            elif name.endswith("torgb.weight"):
                tensor.zero_()
    half = state.config.discriminator.resolution // 2
    image_layer = [tensors.get(f"d.b{half}.fromrgb.{name}") for name in ("weight", "bias")]
    if image_layer[0] is not None:
        _pass_through(getattr(state.discriminator, f"b{2 * half}"), *image_layer)
    if matches == 0:
        raise CheckpointError(
            f"{path} has no tensor that fits this network: compare the channels of both runs"
        )
    return matches


def _pass_through(
    block: DiscriminatorBlock, weight: Float[Tensor, "o c 1 1"], bias: Float[Tensor, " o"]
) -> None:
    """Makes a residual block compute the smaller network's image layer (weight, bias) of its halved image.

    Colors travel as pairs +c, -c, from which a leaky ReLU of slope 0.2 loses nothing: c = (f(c) - f(-c)) /
    1.2. Layers keep sqrt(2) of their activation; weights are stored times sqrt(fan in). Channels beyond the
    pairs stay random.
    """
    colors, width = weight.shape[1], block.conv0.weight.shape[1]
    if not block.residual or width < 2 * colors or len(bias) != block.conv1.weight.shape[0]:
        return
    pairs = torch.cat((torch.eye(colors), -torch.eye(colors)))  # [2c, c]
    back = pairs.T / (1.2 * 2**0.5)  # [c, 2c]: pairs after an activation -> colors
    block.fromrgb.weight[: 2 * colors, :, 0, 0] = pairs * colors**0.5
    block.fromrgb.bias[: 2 * colors] = 0
    scale = (9 * width) ** 0.5
    block.conv0.weight[: 2 * colors] = 0
    block.conv0.weight[: 2 * colors, : 2 * colors, 1, 1] = pairs @ back * scale
    block.conv0.bias[: 2 * colors] = 0
    block.conv1.weight.zero_()
    block.conv1.weight[:, : 2 * colors, 1, 1] = weight[:, :, 0, 0] / colors**0.5 @ back * scale * 2**0.5
    block.conv1.bias.copy_(bias * 2**0.5)
    block.skip.weight.zero_()
