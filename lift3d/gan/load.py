"""Reading and writing 2D GANs.

The native file is safetensors: tensors ``g.*`` (the averaged generator) and ``d.*``, and one JSON text ``lift3d`` in the
metadata with both configs, the source and the licence. Nothing in a file is ever executed.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lift3d.errors import CheckpointError, CorruptFile
from lift3d.gan.stylegan2 import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig

FORMAT = "lift3d.gan/1"
Config = TypeVar("Config", GeneratorConfig, DiscriminatorConfig)


@dataclass(frozen=True)
class LoadedGan:
    """A generator ready for inference (no gradients), and its critic if the file has one."""

    generator: Generator
    discriminator: Discriminator | None
    w_avg: Float[Tensor, " w_dim"]
    kind: str  # "lift3d", "nvlabs" or "rosinality"
    source: str  # the file it came from
    licence: str  # as stated in the file; "" if it states none


def save_gan(
    path: str | Path,
    generator: Generator,
    discriminator: Discriminator | None = None,
    licence: str = "",
    dtype: torch.dtype = torch.float16,
) -> None:
    """Writes a native file in half (or any float) precision; the old file stays until the new one is complete."""
    modules = {"g": generator} if discriminator is None else {"g": generator, "d": discriminator}
    tensors = {f"{k}.{name}": t.to(dtype) for k, m in modules.items() for name, t in m.state_dict().items()}
    about = {"format": FORMAT, "licence": licence, "generator": asdict(generator.config)}
    if discriminator is not None:
        about["discriminator"] = asdict(discriminator.config)
    write_tensors(path, tensors, about)


def load(path: str | Path) -> LoadedGan:
    """The GAN in a native file, in single precision on the CPU."""
    about, tensors = read_tensors(path)
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {about.get('format')!r}, expected {FORMAT!r}")
    generator = Generator(config_from(GeneratorConfig, about["generator"], path))
    fill(generator, tensors, "g.", path)
    discriminator = None
    if "discriminator" in about:
        discriminator = Discriminator(config_from(DiscriminatorConfig, about["discriminator"], path))
        fill(discriminator, tensors, "d.", path)
        discriminator.requires_grad_(False).eval()
    generator.requires_grad_(False).eval()
    return LoadedGan(
        generator, discriminator, generator.mapping.w_avg, "lift3d", str(path), about.get("licence", "")
    )


def write_tensors(path: str | Path, tensors: dict[str, Tensor], about: dict) -> None:
    """Atomically writes a safetensors file with ``about`` as JSON in its metadata."""
    path = Path(path)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(save(contiguous, {"lift3d": json.dumps(about)}))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_tensors(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """The JSON and the tensors of a file of ``write_tensors``."""
    if not Path(path).is_file():
        raise CheckpointError(f"{path} does not exist")
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get("lift3d")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        about = json.loads(text) if text else None
    except (SafetensorError, ValueError) as error:
        raise CorruptFile(f"{path} is truncated or not a safetensors file: {error}") from error
    if not isinstance(about, dict):
        raise CheckpointError(f"{path} was not written by lift3d: its metadata has no 'lift3d' entry")
    return about, tensors


def config_from(kind: type[Config], values: dict, path: str | Path) -> Config:
    """A config from its JSON form; unknown and missing keys are errors."""
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown or "channels" not in values:
        problem = f"unknown {sorted(unknown)}" if unknown else "no 'channels'"
        raise CheckpointError(f"{path}: {kind.__name__} has {problem}; was it written by another version?")
    return kind(**{**values, "channels": tuple(values["channels"])})


def fill(module: nn.Module, tensors: dict[str, Tensor], prefix: str, path: str | Path) -> None:
    """Copies every tensor named ``prefix...``; names, shapes and finiteness are checked, nothing is left out."""
    given = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    own = module.state_dict()
    if given.keys() != own.keys():
        missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
        raise CheckpointError(
            f"{path} does not fit the network: missing {missing[:3]}, unexpected {extra[:3]}"
        )
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the network expects {tuple(own[name].shape)}"
            )
        if not tensor.isfinite().all():
            raise CorruptFile(f"{path}: {name} holds values that are not finite")
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)
