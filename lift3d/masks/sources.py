"""Where the object masks of a training run come from (``--masks``).

A mask source takes n images of s x s pixels and their names, and gives one mask each. A GAN sample is named
by its seed, ``1000007``; the j-th projection of it in stage k, both from 0, is ``stage-k/1000007-j``.
"""

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lift3d.config.schema import Preset
from lift3d.errors import ConfigError, CorruptFile
from lift3d.masks.background import background_masks
from lift3d.pictures import save_image

MaskSource = Callable[[UInt8[Tensor, "n 3 s s"], Sequence[str]], Bool[Tensor, "n s s"]]
RUN = "run:"  # before a command that makes masks
MASK_LOSS = 0.2  # lambda_m of Table 4, for presets without masks that are given some
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")  # 8 bits per channel at most
_UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def with_masks(preset: Preset, choice: str | Path | None) -> Preset:
    """The preset with masks as chosen: "none", "auto", a folder or "run:COMMAND"; without masks, there is no
    mask loss. None leaves it as it is, but for a preset that wants files, which then has them by the
    segmenter.
    """
    if choice is None:
        if preset.masks != "files":
            return preset
        choice = "auto"
    kind = str(choice) if str(choice) in ("none", "auto") else "files"
    weight = 0.0 if kind == "none" else preset.weights.mask or MASK_LOSS
    return replace(preset, masks=kind, weights=replace(preset.weights, mask=weight))


def mask_source(
    preset: Preset, folder: str | Path | None = None, wanted: str | Path = "to-mask"
) -> MaskSource:
    """The source that ``preset.masks`` names; "files" are in ``folder``, or come from a command if it is
    "run:COMMAND", and images that lack theirs are written to ``wanted``. Black bars of the pictures are never
    object, nor is what lies beyond the preset's ``mask_reach``.
    """
    if preset.masks == "background":
        inner: MaskSource = lambda images, names: background_masks(images, preset.background)  # noqa: E731
    elif preset.masks == "files":
        command = str(folder).startswith(RUN)
        inner = MaskCommand(str(folder).removeprefix(RUN)) if command else MaskFolder(folder, Path(wanted))
    elif preset.masks == "auto":
        from lift3d.masks.grabcut import get_segmenter

        inner = get_segmenter(preset.radii, preset.bars)
    else:
        inner = lambda images, names: torch.ones_like(images[:, 0], dtype=torch.bool)  # noqa: E731

    def masks(images: UInt8[Tensor, "n 3 s s"], names: Sequence[str]) -> Bool[Tensor, "n s s"]:
        found, bar = inner(images, names).clone(), round(preset.bars * images.shape[-1])
        found[:, :bar] = found[:, images.shape[-2] - bar :] = False
        return (
            found & within(images.shape[-1], preset.radii, preset.mask_reach) if preset.mask_reach else found
        )

    return masks


def within(size: int, radii: tuple[float, float, float], reach: float = 1.0) -> Bool[Tensor, "s s"]:
    """The pixels inside the outline of the ellipsoid at any yaw, ``reach`` times as large."""
    y, x = torch.meshgrid(*((torch.arange(size) + 0.5) / (size / 2) - 1,) * 2, indexing="ij")
    return (x / max(radii[0], radii[2])).square() + (y / radii[1]).square() < reach**2


@dataclass(frozen=True)
class MaskCommand:
    """A segmenter in a process of its own: ``COMMAND IN OUT`` writes a mask to OUT for each image of IN, all
    PNG files, under the same names.
    """

    command: str

    def __call__(self, images: UInt8[Tensor, "n 3 s s"], names: Sequence[str]) -> Bool[Tensor, "n s s"]:
        """The masks of these images. ``ConfigError`` where the command fails or leaves some out."""
        with TemporaryDirectory() as folder:
            given, made = Path(folder, "images"), Path(folder, "masks")
            given.mkdir()
            made.mkdir()
            files = [f"{i:07d}.png" for i in range(len(images))]
            for name, image in zip(files, images, strict=True):
                save_image(given / name, image.permute(1, 2, 0).contiguous().cpu().numpy())
            try:
                done = subprocess.run(
                    [*shlex.split(self.command), given, made], capture_output=True, text=True
                )
                said = done.stderr.strip().splitlines() or ["it failed without a word"]
                problem = f": {said[-1]}" if done.returncode else ""
            except OSError as error:
                problem = f": {error}"
            missing = sum(not (made / name).is_file() for name in files)
            if problem or missing:
                raise ConfigError(
                    f"--masks {RUN}{self.command} left {missing} of {len(files)} masks out{problem}; it is "
                    "run with two folders, of images and for masks"
                )
            found = [read_mask(made / name, images.shape[-1], may_be_empty=True) for name in files]
        return torch.from_numpy(np.stack(found))


@dataclass(frozen=True)
class MaskFolder:
    """Masks in files, ``NAME.png``: what is brighter than mid-gray is object."""

    folder: str | Path | None
    wanted: Path  # where images are written that lack their mask

    def __post_init__(self) -> None:
        if self.folder is None or not Path(self.folder).is_dir():
            raise ConfigError(
                f"--masks is {str(self.folder)!r}, expected none, auto, run:COMMAND or a folder of "
                "mask images; make an empty folder for a first run, which writes out the images to mask"
            )

    def __call__(self, images: UInt8[Tensor, "n 3 s s"], names: Sequence[str]) -> Bool[Tensor, "n s s"]:
        """The masks of these images; ``ConfigError`` where some are missing, whose images are written out."""
        paths = [Path(self.folder) / f"{name}.png" for name in names]
        missing = [i for i, path in enumerate(paths) if not path.is_file()]
        for i in missing:
            target = self.wanted / f"{names[i]}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            save_image(target, images[i].permute(1, 2, 0).contiguous().numpy())
        if missing:
            raise ConfigError(
                f"{len(missing)} of {len(paths)} masks are missing, the first is {paths[missing[0]]}: draw "
                f"masks (object white) of the images in {self.wanted}, save them in {self.folder} under the "
                "same names, then run the command again with --resume"
            )
        return torch.from_numpy(np.stack([read_mask(path, images.shape[-1]) for path in paths]))


def read_mask(path: Path, size: int, may_be_empty: bool = False) -> NDArray[np.bool_]:
    """A mask image as bool [size, size]; larger ones, by a whole factor, are averaged.

    Raises ``CorruptFile`` for a file that is no image, ``ConfigError`` for other sizes, for more than 8 bits
    per channel and, unless it ``may_be_empty``, for a mask without any bright pixel.
    """
    try:
        with Image.open(path) as image:
            mode, shape = image.mode, image.size
            pixels = np.asarray(image.convert("L")) if mode in _MODES else None
    except _UNREADABLE as error:
        raise CorruptFile(f"{path} is truncated or no image: {error}") from error
    if pixels is None:
        raise ConfigError(f"{path} has pixels of kind {mode}, expected a mask of 8 bits per channel")
    if shape[0] != shape[1] or shape[0] % size:
        raise ConfigError(
            f"{path} has {shape[0]} x {shape[1]} pixels, expected {size} x {size} or a multiple of it"
        )
    if pixels.max() < 128 and not may_be_empty:
        raise ConfigError(f"{path} has no pixel brighter than {pixels.max()}, expected 255 inside the object")
    factor = shape[0] // size
    return (pixels >= 128).reshape(size, factor, size, factor).mean((1, 3)) >= 0.5
