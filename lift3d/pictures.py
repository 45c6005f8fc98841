"""Pictures of maps, grids and contact sheets.

A *picture* is a uint8 array [h, w, 3], sRGB. Maps are float arrays [h, w, ...] with an optional boolean mask
[h, w]; outside of it (and where a value is not finite) a picture is white.
"""

import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.scene.images import to_picture, to_uint8
from lift3d.whole_file import replacing

Picture = UInt8[np.ndarray, "_ _ 3"]
INK = (40, 40, 40)  # of labels
FONT = 12  # their size, pixels

# Dark violet to light yellow: OKLab lightness rises evenly from 0.25 to 0.92, hue turns from 300 to 95.
_ANCHORS = bytes.fromhex("2b0c4d 282f6a 194f7e 086e8a 248c8f 52a78e 86bf8a c0d487 fbe48d")
_MAP = np.frombuffer(_ANCHORS, np.uint8).reshape(-1, 3) / 255.0


def image_to_rgb(image: Float[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"] | None = None) -> Picture:
    """Colors in [0, 1] (images, albedo) as a picture."""
    return _on_white(image, mask)


def gray_to_rgb(values: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"] | None = None) -> Picture:
    """Values in [0, 1] (specular intensity) as gray, 0 black."""
    return _on_white(np.repeat(values[..., None], 3, -1), mask)


def normals_to_rgb(
    normal: Float[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"] | None = None
) -> Picture:
    """Unit normals as (n + 1) / 2: +x red, +y green, towards the viewer blue."""
    return _on_white(normal * 0.5 + 0.5, mask)


def scalar_to_rgb(
    values: Float[np.ndarray, "h w"], low: float, high: float, mask: Bool[np.ndarray, "h w"] | None = None
) -> Picture:
    """Values in [low, high] in colors of evenly rising lightness: low dark violet, high light yellow."""
    position = np.clip((values.astype(np.float64) - low) / (high - low if high > low else 1.0), 0.0, 1.0)
    knots = np.linspace(0.0, 1.0, len(_MAP))
    colors = np.stack([np.interp(position, knots, channel) for channel in _MAP.T], -1)
    return _on_white(colors, mask)


def depth_to_rgb(depth: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"] | None = None) -> Picture:
    """Depth in colors, from light at the nearest pixel of the mask to dark at the farthest."""
    inside = depth[np.isfinite(depth) if mask is None else mask & np.isfinite(depth)]
    near, far = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 1.0)
    return scalar_to_rgb(-depth, -far, -near, mask)


def grid(images: Sequence[Sequence[np.ndarray | None]], pad: int = 2) -> Picture:
    """Rows of pictures on one, each centered in its cell; cells fit the largest of their row and column.

    None leaves a cell empty; rows may differ in length. ``pad`` pixels lie between cells and around them.
    """
    for picture in (p for row in images for p in row if p is not None):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ConfigError(f"grid: got {picture.dtype} {picture.shape}, expected uint8 (h, w, 3)")
    heights = [max((p.shape[0] for p in row if p is not None), default=0) for row in images]
    columns = zip_longest(*images)
    widths = [max((p.shape[1] for p in column if p is not None), default=0) for column in columns]
    shape = pad + sum(h + pad for h in heights), pad + sum(w + pad for w in widths), 3
    out = np.full(shape, 255, np.uint8)
    y = pad
    for row, height in zip(images, heights, strict=True):
        x = pad
        for picture, width in zip(row, widths, strict=False):
            if picture is not None:
                h, w = picture.shape[:2]
                top, left = y + (height - h) // 2, x + (width - w) // 2
                out[top : top + h, left : left + w] = picture
            x += width + pad
        y += height + pad
    return out


def contact_sheet(
    images: Sequence[Sequence[np.ndarray | None]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> Picture:
    """A ``grid`` with a text before each row and above each column, where labels are given."""
    n_columns = max((len(row) for row in images), default=0)
    for kind, labels, count in (("row", row_labels, len(images)), ("column", column_labels, n_columns)):
        if labels and len(labels) != count:
            raise ConfigError(f"contact sheet: got {len(labels)} {kind} labels for {count} {kind}s")
    rows = list(images)
    if row_labels:
        rows = [[label(text), *row] for text, row in zip(row_labels, rows, strict=True)]
    if column_labels:
        corner = [None] if row_labels else []
        rows = [[*corner, *map(label, column_labels)], *rows]
    return grid(rows, pad=4)


def label(text: str) -> Picture:
    """Text as a picture that just holds it; newlines break lines."""
    font = ImageFont.load_default(FONT)
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left, top, right, bottom = probe.multiline_textbbox((0, 0), text, font=font)
    size = (max(1, math.ceil(right - min(left, 0))), max(1, math.ceil(bottom - min(top, 0))) + 2)
    canvas = Image.new("RGB", size, "white")
    ImageDraw.Draw(canvas).multiline_text((-min(left, 0), -min(top, 0)), text, fill=INK, font=font)
    return np.array(canvas)


def enlarge(picture: Picture, factor: int) -> Picture:
    """Each pixel as a block of factor x factor."""
    return picture.repeat(factor, 0).repeat(factor, 1)


def image_kind(path: Path | str) -> str:
    """The format that a file is named for, as Pillow calls it. ``ConfigError`` where it knows none."""
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    if kind not in Image.SAVE:
        raise ConfigError(f"{path} has no known image format, expected a name such as head.png or head.jpg")
    return kind


def save_image(path: Path | str, colors: Picture | Float[Tensor, "*h w c"] | UInt8[Tensor, "*h w c"]) -> None:
    """Writes an image file of the kind its name says; folders are made. ``colors`` [h, w, 3] are a picture,
    numbers in [0, 1], such as ``maps.colors[0, 0]``, or bytes, such as ``sample.colors[0, 0]`` of a dataset.
    Raises ``ConfigError`` for other shapes and for unknown kinds.
    """
    if colors.ndim != 3 or colors.shape[-1] != 3:
        raise ConfigError(
            f"colors have the shape {tuple(colors.shape)}, expected (h, w, 3), of one image: "
            "maps.colors[0, 0], say"
        )
    kind, path = image_kind(path), Path(path)
    if isinstance(colors, Tensor):
        colors = colors.cpu().numpy() if colors.dtype == torch.uint8 else to_picture(colors)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        Image.fromarray(colors).save(file, format=kind)


def _on_white(colors: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Colors [h, w, 3] in [0, 1] as uint8; white outside the mask and where they are not finite."""
    shown = np.isfinite(colors).all(-1) if mask is None else np.isfinite(colors).all(-1) & mask
    return to_uint8(np.where(shown[..., None], colors, 1.0))
