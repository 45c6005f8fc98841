"""Where the object masks of a training run come from (``--masks``).

A mask source takes n images of s x s pixels and their names, and gives one mask each. A GAN sample is named
by its seed, ``1000007``; the j-th projection of it in stage k, both from 0, is ``stage-k/1000007-j``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lift3d.config.schema import Preset
from lift3d.errors import ConfigError, CorruptFile
from lift3d.masks.background import background_masks
from lift3d.pictures import save_png

MaskSource = Callable[[UInt8[Tensor, "n 3 s s"], Sequence[str]], Bool[Tensor, "n s s"]]
MASK_LOSS = 0.2  # lambda_m of Table 4, for presets without masks that are given some
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")  # 8 bits per channel at most
_UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def with_masks(preset: Preset, choice: str | Path | None) -> Preset:
    """The preset with masks as chosen: "none", "auto" or a folder; without masks, there is no mask loss. None
    leaves it as it is, but for a preset that wants files, which then goes without.
    """
    if choice is None:
        if preset.masks != "files":
            return preset
        choice = "none"
    kind = str(choice) if str(choice) in ("none", "auto") else "files"
    weight = 0.0 if kind == "none" else preset.weights.mask or MASK_LOSS
    return replace(preset, masks=kind, weights=replace(preset.weights, mask=weight))


def mask_source(
    preset: Preset, folder: str | Path | None = None, wanted: str | Path = "to-mask"
) -> MaskSource:
    """The source that ``preset.masks`` names; "files" are in ``folder``, and images that lack theirs are
    written to ``wanted``. Black bars of the pictures are never object.
    """
    if preset.masks == "background":
        inner: MaskSource = lambda images, names: background_masks(images, preset.background)  # noqa: E731
    elif preset.masks == "files":
        inner = MaskFolder(folder, Path(wanted))
    elif preset.masks == "auto":
        from lift3d.masks.grabcut import get_segmenter

        inner = get_segmenter(preset.radii, preset.bars)
    else:
        inner = lambda images, names: torch.ones_like(images[:, 0], dtype=torch.bool)  # noqa: E731

    def masks(images: UInt8[Tensor, "n 3 s s"], names: Sequence[str]) -> Bool[Tensor, "n s s"]:
        found, bar = inner(images, names).clone(), round(preset.bars * images.shape[-1])
        found[:, :bar] = found[:, images.shape[-2] - bar :] = False
        return found

    return masks


@dataclass(frozen=True)
class MaskFolder:
    """Masks in files, ``NAME.png``: what is brighter than mid-gray is object."""

    folder: str | Path | None
    wanted: Path  # where images are written that lack their mask

    def __post_init__(self) -> None:
        if self.folder is None or not Path(self.folder).is_dir():
            raise ConfigError(
                f"--masks is {str(self.folder)!r}, expected none, auto or a folder of mask images; make an "
                "empty folder for a first run, which writes out the images to mask"
            )

    def __call__(self, images: UInt8[Tensor, "n 3 s s"], names: Sequence[str]) -> Bool[Tensor, "n s s"]:
        """The masks of these images; ``ConfigError`` where some are missing, whose images are written out."""
        paths = [Path(self.folder) / f"{name}.png" for name in names]
        missing = [i for i, path in enumerate(paths) if not path.is_file()]
        for i in missing:
            target = self.wanted / f"{names[i]}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            save_png(target, images[i].permute(1, 2, 0).contiguous().numpy())
        if missing:
            raise ConfigError(
                f"{len(missing)} of {len(paths)} masks are missing, the first is {paths[missing[0]]}: draw "
                f"masks (object white) of the images in {self.wanted}, save them in {self.folder} under the "
                "same names, then run the command again with --resume"
            )
        return torch.from_numpy(np.stack([read_mask(path, images.shape[-1]) for path in paths]))


def read_mask(path: Path, size: int) -> NDArray[np.bool_]:
    """A mask image as bool [size, size]; larger ones, by a whole factor, are averaged.

    Raises ``CorruptFile`` for a file that is no image, ``ConfigError`` for other sizes, for more than 8 bits
    per channel and for a mask without any bright pixel.
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
    if pixels.max() < 128:
        raise ConfigError(f"{path} has no pixel brighter than {pixels.max()}, expected 255 inside the object")
    factor = shape[0] // size
    return (pixels >= 128).reshape(size, factor, size, factor).mean((1, 3)) >= 0.5
