"""Photographs as a model wants them: opened, cropped like the GAN's own images, cut out.

A *frame* is a square of a picture, (left, top, side) in pixels from its upper left corner; it may reach
beyond the picture. How large objects and faces are in the GAN's images, and where, is measured on its own
samples, so that every category has its frame. Pictures and opacities are bytes until they have their frame.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lift3d.errors import ConfigError, CorruptFile
from lift3d.masks.background import background_masks
from lift3d.masks.sources import mask_source
from lift3d.model import LiftedGAN
from lift3d.scene.images import colors_to_images, to_bytes, to_uint8
from lift3d.seeds import STREAMS

MAX_PIXELS = 64_000_000  # of a file
LEAST = 16  # pixels a side of a picture
N_SAMPLES = 48  # of the GAN, that say what its images are like
SEGMENTED = 256  # pixels a side of a crop that is segmented
FACES_AT = 512  # pixels of the longer side of a picture in which faces are looked for
SAME = 3  # colors of a picture that shows nothing differ by less
BORDER = 0.9  # of a crop's border that shows the preset's background: it is cut out already

Number = int | float
Frame = tuple[Number, Number, Number]
Picture = UInt8[np.ndarray, "h w 3"]
Opacity = UInt8[np.ndarray, "h w"]


@dataclass(frozen=True)
class Photograph:
    """A picture at a model's working size."""

    image: Float[Tensor, "3 s s"]  # [-1, 1], on the preset's background where it has one
    mask: Bool[Tensor, "s s"]
    frame: Frame  # of the file's picture
    notes: tuple[str, ...] = ()  # how the frame and the mask were found, where nobody said


@dataclass(frozen=True)
class Kind:
    """What a model's own images are like; positions and sizes as fractions of their side."""

    object: Frame  # center x, y and the square root of the object's area
    face: Frame | None  # center x, y and width, where a detector of faces finds some
    code: Float[Tensor, " c"]  # mean of E_I's codes
    spread: Float[Tensor, " c"]  # their standard deviation
    farthest: float  # root mean square of a code's deviations, in spreads, at most


def read_photograph(
    path: str | Path,
    model: LiftedGAN,
    box: Sequence[Number] | None = None,
    masks: str | Path | None = None,
    kind: Kind | None = None,
) -> Photograph:
    """An image file, whatever its colors, as an image of the model's kind.

    ``box`` (left, top, right, bottom, pixels) is what becomes the frame, a square around it; without one the
    frame follows from the object's mask, or from a face, or is the middle of the picture. ``masks`` is "auto"
    (a segmenter), "none" (the background is the preset's), or a mask image of the picture's size; by default
    the file's transparency, else "none" where the border shows the preset's background, else "auto".

    Raises ``ConfigError`` for pictures that are too small, too large or empty and for boxes and masks that do
    not fit, ``CorruptFile`` for what is no image."""
    colors, alpha = read_image(path)
    if (colors.max((0, 1)) - colors.min((0, 1))).max() < SAME and alpha is None:
        raise ConfigError(f"{path} shows nothing: all its pixels have the same color")
    if masks is not None and str(masks) not in ("none", "auto"):
        alpha = _mask_file(masks, colors.shape[:2])
    kind = kind_of(model) if kind is None else kind
    frame, note = _frame(colors, alpha, kind, box)
    size, background = model.config.size, model.config.background
    image = torch.from_numpy(cropped(colors, frame, size)).float() / 255
    if alpha is None:
        share, how = _found_mask(colors, frame, model, masks)
    else:
        share, how = cropped(alpha, frame, size, outside=0), ""
    share = torch.from_numpy(share).float() / 255
    if not (share > 0.5).any():
        raise ConfigError(f"{path} shows no object in its frame: give --box around it, or --masks")
    if background is not None:
        image = torch.lerp(torch.full_like(image, background), image, share[..., None])
    notes = tuple(text for text in (note, how) if text)
    return Photograph(colors_to_images(image), share > 0.5, frame, notes)


def read_image(path: str | Path) -> tuple[Picture, Opacity | None]:
    """Colors and opacity (None: opaque) of a file that Pillow opens: any mode and bit depth, the first frame,
    upright.
    """
    if Path(path).is_dir():
        raise ConfigError(f"{path} is a folder, expected one image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise ConfigError(
                        f"{path} has {width} x {height} pixels, expected {MAX_PIXELS // 10**6} million at "
                        "most; make it smaller"
                    )
                if min(width, height) < LEAST:
                    raise ConfigError(
                        f"{path} has {width} x {height} pixels, expected {LEAST} a side or more"
                    )
                colors, alpha = _decoded(ImageOps.exif_transpose(picture))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist") from error
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise CorruptFile(f"{path} is truncated or no image: {error}") from error
    return colors, alpha


def _decoded(picture: Image.Image) -> tuple[Picture, Opacity | None]:
    """Colors and opacity of a picture, by its mode."""
    if picture.mode.startswith(("I", "F")):  # 16 bits or more, gray
        gray = np.nan_to_num(np.asarray(picture, np.float32))
        top = 65535.0 if picture.mode.startswith("I") else max(float(gray.max()), 1e-6)
        return np.repeat(to_uint8(gray / top)[..., None], 3, 2), None
    transparent = "A" in picture.getbands() or "transparency" in picture.info
    values = np.asarray(picture.convert("RGBA" if transparent else "RGB"))
    return np.ascontiguousarray(values[..., :3]), (values[..., 3] if transparent else None)


def cropped(
    values: UInt8[np.ndarray, "h w *c"], frame: Frame, size: int, outside: int | None = None
) -> UInt8[np.ndarray, "s s *c"]:
    """A frame at size x size pixels, antialiased; beyond the picture its edge goes on, or ``outside`` is."""
    left, top = round(frame[0]), round(frame[1])
    side, (height, width) = max(round(frame[2]), 1), values.shape[:2]
    y, x = np.arange(top, top + side), np.arange(left, left + side)
    found = values[y.clip(0, height - 1)[:, None], x.clip(0, width - 1)]
    if outside is not None:
        beyond = ((y < 0) | (y >= height))[:, None] | ((x < 0) | (x >= width))
        found = np.where(beyond, np.uint8(outside), found)
    return np.array(Image.fromarray(found).resize((size, size), Image.Resampling.BILINEAR))


@torch.no_grad()
def kind_of(model: LiftedGAN, n: int = N_SAMPLES) -> Kind:
    """Measured on the model's samples."""
    samples = model.sample(range(STREAMS["photographs"].start, STREAMS["photographs"].start + n))
    images = to_bytes(samples.image).cpu()
    masks = torch.ones_like(images[:, 0], dtype=torch.bool)
    if model.config.masks in ("background", "auto"):
        masks = mask_source(model.config)(images, [str(i) for i in range(n)])
    size = images.shape[-1]
    objects = torch.tensor([_extent(m.numpy()) for m in masks]) / size
    large = [cropped(image.permute(1, 2, 0).numpy(), (0, 0, size), SEGMENTED) for image in images]
    faces = [face for face in map(find_face, large) if face is not None]
    face = tuple((np.median(faces, 0) / SEGMENTED).tolist()) if len(faces) > n // 5 else None
    code, spread = samples.code.mean(0), samples.code.std(0).clamp_min(1e-6)
    farthest = ((samples.code - code) / spread).square().mean(1).sqrt().max().item()
    return Kind(tuple(objects.mean(0).tolist()), face, code, spread, farthest)


def find_face(picture: UInt8[np.ndarray, "h w 3"]) -> Frame | None:
    """Center x, y and width of the largest frontal face, pixels, by the cascade that scikit-image brings."""
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    scale = min(1.0, FACES_AT / max(picture.shape[:2]))
    if scale < 1:
        shape = [max(1, round(s * scale)) for s in picture.shape[1::-1]]
        picture = np.asarray(Image.fromarray(picture).resize(shape, Image.Resampling.BILINEAR))
    side = min(picture.shape[:2])
    found = Cascade(lbp_frontal_face_cascade_filename()).detect_multi_scale(
        img=picture, scale_factor=1.1, step_ratio=1, min_size=(max(24, side // 8),) * 2, max_size=(side, side)
    )
    if not found:
        return None
    best = max(found, key=lambda f: f["width"])
    x, y = best["c"] + best["width"] / 2, best["r"] + best["height"] / 2
    return x / scale, y / scale, best["width"] / scale


def _extent(mask: Bool[np.ndarray, "h w"]) -> Frame:
    """Center x, y and the square root of the area, pixels."""
    y, x = np.nonzero(mask)
    if not len(x):
        return mask.shape[1] / 2, mask.shape[0] / 2, float(min(mask.shape))
    return x.mean() + 0.5, y.mean() + 0.5, float(len(x)) ** 0.5


def _frame(
    colors: Picture, alpha: Opacity | None, kind: Kind, box: Sequence[Number] | None
) -> tuple[Frame, str]:
    """The frame, and what to say of how it was found."""
    height, width = colors.shape[:2]
    if box is not None:
        left, top, right, bottom = box
        if not (left < right and top < bottom and 0 < right and left < width and 0 < bottom and top < height):
            raise ConfigError(
                f"box is {', '.join(f'{v:g}' for v in box)}, expected left,top,right,bottom in a picture of "
                f"{width} x {height} pixels"
            )
        side = max(right - left, bottom - top)
        return ((left + right - side) / 2, (top + bottom - side) / 2, side), ""
    if alpha is not None:
        x, y, extent = _extent(alpha > 127)
        return _around(x, y, extent, kind.object), ""
    face = None if kind.face is None else find_face(colors)
    if face is not None:
        return _around(*face, kind.face), ""
    side = min(width, height)
    square = ((width - side) / 2, (height - side) / 2, side)
    note = "no face was found: the middle of the picture is taken; --box says better" if kind.face else ""
    return square, note if width != height or kind.face else ""


def _around(x: Number, y: Number, extent: Number, usual: Frame) -> Frame:
    """The frame in which something at (x, y) is as large and where it usually is."""
    side = extent / usual[2]
    return x - usual[0] * side, y - usual[1] * side, side


def _found_mask(
    colors: Picture, frame: Frame, model: LiftedGAN, masks: str | Path | None
) -> tuple[UInt8[np.ndarray, "s s"], str]:
    """How much of every pixel is object where no mask is given, and what to say of it."""
    config = model.config
    large = torch.from_numpy(cropped(colors, frame, SEGMENTED)).permute(2, 0, 1)[None]
    note = ""
    if masks is None:
        plain = config.background is not None and _on_background(large[0], config.background)
        masks = "none" if plain or config.masks == "none" else "auto"
        note = "the object is cut out by a segmenter; --masks FILE says better" if masks == "auto" else ""
    if masks == "auto":
        from lift3d.masks.grabcut import get_segmenter

        inside = cropped(np.full(colors.shape[:2], 255, np.uint8), frame, SEGMENTED, outside=0)
        found = get_segmenter(config.radii, config.bars)(large, [""])[0]
        found &= torch.from_numpy(inside > 127)
    elif config.background is not None:
        found = background_masks(large, config.background)[0]
    else:
        found = torch.ones(SEGMENTED, SEGMENTED, dtype=torch.bool)
    return cropped(found.numpy().astype(np.uint8) * 255, (0, 0, SEGMENTED), config.size), note


def _on_background(image: UInt8[Tensor, "3 s s"], background: float) -> bool:
    differs = (image.float() / 255 - background).abs().amax(0) > 0.1
    border = torch.cat((differs[0], differs[:, 0], differs[:, -1]))
    return bool((~border).float().mean() > BORDER)


def _mask_file(path: str | Path, shape: tuple[int, int]) -> Opacity:
    """A mask image, bright inside, of the picture's size."""
    colors, alpha = read_image(path)
    if colors.shape[:2] != tuple(shape):
        raise ConfigError(
            f"{path} has {colors.shape[1]} x {colors.shape[0]} pixels, its picture {shape[1]} x {shape[0]}: "
            "draw the mask over the picture"
        )
    bright = colors.mean(-1) > 127
    return np.where(bright if alpha is None else bright & (alpha > 127), 255, 0).astype(np.uint8)
