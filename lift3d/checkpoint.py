"""Files of tensors: safetensors with one JSON text, ``lift3d``, in the metadata. No pickle, so nothing in a
file is executed.

A file is replaced only by a complete one, and copied into a network only as a whole: every name, every shape,
finite numbers.
"""

import errno
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lift3d.errors import CheckpointError, CorruptFile
from lift3d.whole_file import replacing

_MAX_TEXT = 1_000_000  # characters of JSON: parsed, they take up to a hundred times their size
_DTYPES = {  # in the order of their data in a file
    torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32",
    torch.bfloat16: "BF16", torch.float16: "F16", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_tensors(path: str | Path, tensors: dict[str, Tensor], about: dict) -> None:
    """Writes a file with ``about`` as its JSON; the old file stays until the new one is complete.

    Raises ``CheckpointError`` where the disk is full or the folder cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path) as file:
            for part in _parts(tensors, {"lift3d": json.dumps(about)}):
                file.write(part)
    except OSError as error:
        if error.errno in _FULL:
            size = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
            remedy = f"the disk is full; make {size:.0f} MB of room and run the command again"
        else:
            remedy = f"{error.strerror}; choose a path in a folder that exists and that you may write"
        raise CheckpointError(f"{path} could not be written: {remedy}") from error


def _parts(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> Iterator[memoryview | bytes]:
    """A safetensors file, tensor by tensor, so that none of it is in memory twice: the length of the header,
    the header, then the data, the widest numbers first. The bytes are those of ``safetensors.torch.save``.
    """
    order = list(_DTYPES)
    names = sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name))
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].nbytes
        header[name] = {
            "dtype": _DTYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        data = tensors[name].detach().cpu().contiguous()
        yield memoryview(data.reshape(-1).view(torch.uint8).numpy())


def read_tensors(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """The JSON and the tensors of a file of ``write_tensors``; the tensors may be views of the file."""
    if not Path(path).is_file():
        raise CheckpointError(f"{path} does not exist")
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get("lift3d")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if text and len(text) > _MAX_TEXT:
            raise CorruptFile(f"{path} is damaged: its description has {len(text)} characters")
        about = json.loads(text) if text else None
    except (SafetensorError, ValueError, RecursionError) as error:
        with open(path, "rb") as file:
            foreign = file.read(2) in (b"PK", *(bytes([0x80, protocol]) for protocol in range(2, 6)))
        if foreign:
            raise CheckpointError(
                f"{path} is a pickle or PyTorch checkpoint, expected a safetensors file of lift3d; "
                "`lift3d gan convert` makes one of a 2D GAN"
            ) from error
        raise CorruptFile(f"{path} is truncated or not a safetensors file: {error}") from error
    if not isinstance(about, dict):
        raise CheckpointError(f"{path} was not written by lift3d: its metadata has no 'lift3d' entry")
    return about, tensors


def require_format(about: dict, expected: str, path: str | Path, remedy: str) -> None:
    """Raises ``CheckpointError`` for a file of another format, "kind/version"; ``remedy`` says how to get one
    of this format.
    """
    found, (kind, _, version) = about.get("format"), expected.rpartition("/")
    if found in [f"{kind}/{number}" for number in range(1, int(version))]:
        raise CheckpointError(f"{path} is of an earlier version of lift3d (format {found}): {remedy}")
    if found != expected:
        raise CheckpointError(f"{path} has format {ascii(found)[:60]}, expected {expected!r}: {remedy}")


def fill(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, path: str | Path) -> None:
    """Copies every tensor named ``prefix...`` into the module, which has exactly these."""
    copy_tensors(module.state_dict(), tensors, prefix, path)


def copy_tensors(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], prefix: str, path: str | Path
) -> None:
    """``fill`` for tensors by their names instead of a module's."""
    given = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    problem = misfit(own, {name: tuple(tensor.shape) for name, tensor in given.items()})
    if problem:
        raise CheckpointError(f"{path} {problem}")
    for name, tensor in given.items():
        if not is_finite(tensor):
            raise CorruptFile(f"{path} is damaged: {name} holds values that are not finite")
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)


def misfit(own: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What keeps tensors of these shapes from being copied into a network's own, if anything."""
    if shapes.keys() != own.keys():
        missing, extra = sorted(own.keys() - shapes.keys()), sorted(shapes.keys() - own.keys())
        return f"does not fit the network: missing {listed(missing)}, unexpected {listed(extra)}"
    for name, shape in shapes.items():
        if shape != tuple(own[name].shape):
            expected = tuple(own[name].shape)
            return f"does not fit the network: {name} has shape {shape}, the network expects {expected}"
    return None


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are; needs no memory of the tensor's size."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    return bool(torch.stack(tensor.aminmax()).isfinite().all())


def listed(names: list[str]) -> str:
    """The first few names, cut to a printable length."""
    return ", ".join(ascii(name[:80])[1:-1] for name in names[:3]) or "nothing"
