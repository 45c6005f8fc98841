"""2D GANs from files, and into files.

Three kinds are read: the native one (safetensors: tensors ``g.*`` of the averaged generator and ``d.*``, and
one JSON text with both configs, the source and the license), NVLabs pickles ("nvlabs") and checkpoints of
rosinality's code ("rosinality"). Nothing in a file is executed, every tensor must fit, and what a file lacks
is filled only with a note. Reading takes at most three times the file's size: shapes are compared before
anything is allocated.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.checkpoint import fill as fill
from lift3d.checkpoint import is_finite, misfit, read_tensors, write_tensors
from lift3d.errors import CheckpointError, ConfigError, CorruptFile
from lift3d.gan import kinds
from lift3d.gan.alias_free import AliasFreeConfig
from lift3d.gan.config import DiscriminatorConfig
from lift3d.gan.files import nvlabs, rosinality
from lift3d.gan.generator import Liftable, StyleGenerator
from lift3d.gan.latents import mean_w
from lift3d.gan.ops import fir_filter
from lift3d.gan.pickle.allowlist import unpickle, unpickle_legacy
from lift3d.gan.pickle.archive import unpickle_archive
from lift3d.gan.pickle.tensors import StoredTensor
from lift3d.gan.pickle.vm import Budget, damaged
from lift3d.gan.stylegan2 import Discriminator

FORMAT = "lift3d.gan/2"
Network = TypeVar("Network", StyleGenerator, Discriminator)
Tensors = Mapping[str, StoredTensor | Tensor]

_LICENSES = {
    "nvlabs": "none stated; NVIDIA publishes such files for non-commercial use only",
    "rosinality": "none stated; what was converted from NVIDIA's files is for non-commercial use only",
}
_NO_MEAN = "has no latent_avg: the mean of w was estimated from 4096 samples"
_NO_NOISE = "has no noise maps: zeros are taken, so images with constant noise differ from the original's"
_OTHERS = {  # what to do with our other files, by their formats
    "lift3d.lifted": "it is a lifted 3D model, which `lift3d sample --model` takes; give a 2D GAN",
    "lift3d.gan-training": "it is a training checkpoint; give the network-*.safetensors beside it",
    "lift3d.gan": "another version wrote it; `lift3d gan convert` makes a new one of the original",
}
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@dataclass(frozen=True)
class LoadedGan:
    """A generator ready for inference (no gradients), and its critic if the file has one."""

    generator: Liftable
    discriminator: Discriminator | None
    w_avg: Float[Tensor, " w_dim"]
    kind: str  # "lift3d", "nvlabs", "rosinality" or "own" (gan/own.py)
    source: str  # the file it came from, or the name of what made it
    license: str  # as stated in the file, or what is known of its kind
    notes: tuple[str, ...] = ()  # what the file lacks and was filled


@dataclass(frozen=True)
class GanDescription:
    """What a GAN file is."""

    kind: str  # "lift3d", "nvlabs" or "rosinality"
    resolution: int  # pixels per side
    channels: tuple[int, ...]  # widths for r = 4, 8, ..., resolution; of a StyleGAN3, of every layer
    family: str  # "StyleGAN2" or "StyleGAN3"
    architecture: str  # of the generator: "skip", "resnet" or "orig"; of a StyleGAN3: "T", "R" or "other"
    z_dim: int
    w_dim: int
    c_dim: int  # 0: unconditional
    n_mapping_layers: int
    discriminator: bool  # whether it is there
    license: str  # as stated in the file, or what is known of its kind
    source: str  # the file that a converted one was made from; "" if none is stated
    notes: tuple[str, ...]  # what the file lacks and ``load`` fills


@dataclass(frozen=True)
class _Contents:
    """A file, its tensors still unread."""

    kind: str
    generator: kinds.AnyGeneratorConfig
    g_tensors: Tensors
    discriminator: DiscriminatorConfig | None
    d_tensors: Tensors
    license: str
    source: str = ""
    notes: tuple[str, ...] = ()


def load(path: str | Path, average: bool = True) -> LoadedGan:
    """The GAN in a file, in single precision on the CPU.

    ``average`` False takes the generator of the last training step. Raises ``CheckpointError`` for files of
    other kinds and ``CorruptFile`` for truncated and hostile ones; warns of ``notes``.
    """
    with _naming(path):
        contents = _read(path, average)
        tensors = (*contents.g_tensors.values(), *contents.d_tensors.values())
        if sum(t.nbytes for t in tensors if isinstance(t, StoredTensor)) > Path(path).stat().st_size:
            raise damaged("its tensors overlap")
        generator = _build(kinds.build_generator, contents.generator, contents.g_tensors)
        if _NO_MEAN in contents.notes:
            generator.mapping.w_avg.copy_(mean_w(generator))
        discriminator = contents.discriminator and _build(
            Discriminator, contents.discriminator, contents.d_tensors
        )
    for note in contents.notes:
        warnings.warn(f"{path} {note}", stacklevel=2)
    w_avg = generator.mapping.w_avg
    return LoadedGan(
        generator, discriminator, w_avg, contents.kind, str(path), contents.license, contents.notes
    )


def describe(path: str | Path) -> GanDescription:
    """What ``load`` would load; wrong shapes and numbers of weights are found by ``load`` alone."""
    with _naming(path):
        contents = _read(path, average=True)
    generator, (family, architecture) = contents.generator, _family(contents.generator)
    settings = ("resolution", "channels", "z_dim", "w_dim", "c_dim", "n_mapping_layers")
    return GanDescription(
        **{name: getattr(contents, name) for name in ("kind", "license", "source", "notes")},
        **{name: getattr(generator, name) for name in settings},
        family=family,
        architecture=architecture,
        discriminator=contents.discriminator is not None,
    )


def save_gan(
    path: str | Path,
    generator: StyleGenerator,
    discriminator: Discriminator | None = None,
    license: str = "",
    dtype: torch.dtype = torch.float16,
    source: str = "",
) -> None:
    """Writes a native file in half (or any float) precision; replaces an old one when it is complete."""
    modules = {"g": generator} if discriminator is None else {"g": generator, "d": discriminator}
    tensors = {f"{k}.{name}": t.to(dtype) for k, m in modules.items() for name, t in m.state_dict().items()}
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise CheckpointError(f"{path} could not be written: {name} exceeds {dtype}; choose float32")
    about = {"format": FORMAT, "license": license, "source": source}
    about["generator"] = kinds.describe_generator(generator)
    if discriminator is not None:
        about["discriminator"] = asdict(discriminator.config)
    write_tensors(path, tensors, about)


def _family(config: kinds.AnyGeneratorConfig) -> tuple[str, str]:
    """What a generator is called: its family, and its architecture within it."""
    if not isinstance(config, AliasFreeConfig):
        return "StyleGAN2", config.architecture
    known = {(3, False): "T", (1, True): "R"}
    return "StyleGAN3", known.get((config.conv_size, config.radial), "other")


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Puts the file's name before errors about its content."""
    try:
        yield
    except ConfigError as error:
        raise CheckpointError(f"{path} does not describe a network: {error}") from error
    except (CheckpointError, CorruptFile) as error:
        if str(error).startswith(str(path)):
            raise
        raise type(error)(f"{path} {error}") from error


def _read(path: str | Path, average: bool) -> _Contents:
    """Recognizes a file and reads it up to its settings and the places of its tensors."""
    if not Path(path).is_file():
        raise CheckpointError("does not exist" if not Path(path).exists() else "is no file")
    with open(path, "rb") as file:
        start = file.read(300)
    if start[8:9] == b"{":
        return _native(path, average)
    is_archive = start.startswith(b"PK\x03\x04")
    if not is_archive and not start.startswith(_PICKLES):
        raise CorruptFile(_unknown(start))
    content = memoryview(Path(path).read_bytes())
    budget = Budget(len(content))
    if is_archive:
        return _from_rosinality(unpickle_archive(content, budget), average)
    if start.startswith(_LEGACY_START):
        return _from_rosinality(unpickle_legacy(content, budget), average)
    return _from_nvlabs(unpickle(content, budget), average)


def _unknown(start: bytes) -> str:
    """What to say of a file that starts like this."""
    remedy = "get the file again"
    if start.lstrip()[:1] == b"<":
        remedy = "it is a web page, so download the file itself"
    elif start.startswith(b"version https://git-lfs"):
        remedy = "it is a pointer of Git LFS, so run `git lfs pull`"
    elif start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar":
        remedy = "it is a packed archive, so unpack it and give the checkpoint in it"
    elif start.startswith(b"\x89HDF"):
        remedy = "it is an HDF5 file, so look at it with `lift3d info`"
    return f"is truncated or not a safetensors file, NVLabs pickle or PyTorch checkpoint: {remedy}"


def _native(path: str | Path, average: bool) -> _Contents:
    about, tensors = read_tensors(path)
    stated = about.get("format")
    if stated != FORMAT:
        remedy = _OTHERS.get(str(stated).partition("/")[0], "give a 2D GAN")
        raise CheckpointError(f"has format {ascii(stated)[:60]}, expected {FORMAT!r}: {remedy}")
    if not average:
        raise CheckpointError("holds only the averaged generator: leave out --raw (average=False)")
    configs = [about.get("generator"), about.get("discriminator", {})]
    texts = [about.get("license", ""), about.get("source", "")]
    if not all(isinstance(c, dict) for c in configs) or not all(isinstance(text, str) for text in texts):
        raise damaged("its configuration is incomplete")
    parts = [
        {name[2:]: t for name, t in tensors.items() if name.startswith(prefix)} for prefix in ("g.", "d.")
    ]
    if len(parts[0]) + len(parts[1]) != len(tensors) or bool(parts[1]) != bool(configs[1]):
        raise damaged("its tensors are not those of the networks it describes")
    return _Contents(
        "lift3d",
        kinds.generator_config(configs[0], path),
        parts[0],
        kinds.config_from(DiscriminatorConfig, configs[1], path) if configs[1] else None,
        parts[1],
        *texts,
    )


def _from_nvlabs(value: object, average: bool) -> _Contents:
    generator, discriminator = nvlabs.networks(value, average)
    g_config, g_tensors = nvlabs.generator(generator)
    d_config, d_tensors = (None, {}) if discriminator is None else nvlabs.discriminator(discriminator)
    for tensors in (g_tensors, d_tensors):
        filters = {name: tensors.pop(name) for name in list(tensors) if name.endswith("resample_filter")}
        _check_filters(filters, 1.0)
    return _Contents("nvlabs", g_config, g_tensors, d_config, d_tensors, _LICENSES["nvlabs"])


def _from_rosinality(value: object, average: bool) -> _Contents:
    generator, discriminator, mean = rosinality.networks(value, average)
    g_config, g_tensors, filters = rosinality.generator(generator, mean)
    _check_filters(filters, 4.0)
    notes, filled = [], {}
    if mean is None:
        notes.append(_NO_MEAN)
        filled["mapping.w_avg"] = torch.zeros(g_config.w_dim)
    silent = {
        name.replace("noise_strength", "noise_const") for name in g_tensors if name.endswith("noise_strength")
    }
    if not silent & g_tensors.keys():
        notes.append(_NO_NOISE)
        for name in silent:
            side = int(name.split(".")[1].removeprefix("b"))
            filled[name] = torch.zeros(side, side)
    d_config, d_tensors = None, {}
    if discriminator is not None:
        d_config, d_tensors, filters = rosinality.discriminator(discriminator)
        _check_filters(filters, 1.0)
    license = _LICENSES["rosinality"]
    return _Contents(
        "rosinality", g_config, g_tensors | filled, d_config, d_tensors, license, notes=tuple(notes)
    )


def _check_filters(filters: Mapping[str, StoredTensor], gain: float) -> None:
    """All resampling filters must be the one that ours is."""
    expected = fir_filter(torch.zeros(1)) * gain
    for name, stored in filters.items():
        if stored.shape != (4, 4) or not torch.allclose(stored.tensor(), expected, atol=1e-6):
            raise CheckpointError(
                f"has another resampling filter ({name}) than StyleGAN2: give an unmodified StyleGAN2"
            )


def _build(
    make: Callable[..., Network], config: kinds.AnyGeneratorConfig | DiscriminatorConfig, tensors: Tensors
) -> Network:
    """The network with these tensors, which are all it has."""
    with torch.device("meta"):
        network = make(config)
    problem = misfit(network.state_dict(), {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if problem:
        family = "StyleGAN3" if isinstance(config, AliasFreeConfig) else "StyleGAN2"
        raise CheckpointError(f"{problem}; give an unmodified {family}")
    own = {}
    for name, tensor in tensors.items():
        own[name] = tensor.tensor() if isinstance(tensor, StoredTensor) else _single(tensor)
        if not is_finite(own[name]):
            raise damaged(f"{name} holds values that are not finite")
    network.load_state_dict(own, assign=True)
    return network.requires_grad_(False).eval()


def _single(tensor: Tensor) -> Tensor:
    """A copy in single precision, channels-last where there are four axes."""
    layout = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
    if not tensor.is_floating_point():
        raise CheckpointError(f"has weights of type {tensor.dtype}, expected floating-point numbers")
    return tensor.to(torch.float32, memory_format=layout, copy=True)
