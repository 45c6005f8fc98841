"""Pictures of maps, grids and contact sheets.

A *picture* is a uint8 array [h, w, 3], sRGB. Maps are float arrays [h, w, ...] with an optional boolean mask
[h, w]; outside of it (and where a value is not finite) a picture shows the background, white by default.
"""

import math
from collections.abc import Sequence
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
Color = tuple[int, int, int]  # sRGB, 0..255

WHITE: Color = (255, 255, 255)
INK: Color = (40, 40, 40)

# Dark violet to light yellow: OKLab lightness rises evenly from 0.25 to 0.92, hue turns from 300 to 95.
_ANCHORS = bytes.fromhex("2b0c4d 282f6a 194f7e 086e8a 248c8f 52a78e 86bf8a c0d487 fbe48d")
_MAP = np.frombuffer(_ANCHORS, np.uint8).reshape(-1, 3) / 255.0


def image_to_rgb(
    image: Float[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"] | None = None, background: Color = WHITE
) -> Picture:
    """Colors in [0, 1] (images, albedo) as a picture."""
    return _on_background(image, mask, background)


def gray_to_rgb(
    values: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"] | None = None, background: Color = WHITE
) -> Picture:
    """Values in [0, 1] (specular intensity) as gray, 0 black."""
    return _on_background(np.repeat(values[..., None], 3, -1), mask, background)


def normals_to_rgb(
    normal: Float[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"] | None = None, background: Color = WHITE
) -> Picture:
    """Unit normals as (n + 1) / 2: +x red, +y green, towards the viewer blue."""
    return _on_background(normal * 0.5 + 0.5, mask, background)


def scalar_to_rgb(
    values: Float[np.ndarray, "h w"],
    low: float,
    high: float,
    mask: Bool[np.ndarray, "h w"] | None = None,
    background: Color = WHITE,
) -> Picture:
    """Values in [low, high] in colors of evenly rising lightness: low dark violet, high light yellow."""
    position = np.clip((values.astype(np.float64) - low) / (high - low if high > low else 1.0), 0.0, 1.0)
    knots = np.linspace(0.0, 1.0, len(_MAP))
    colors = np.stack([np.interp(position, knots, channel) for channel in _MAP.T], -1)
    return _on_background(colors, mask, background)


def depth_to_rgb(
    depth: Float[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"] | None = None,
    near: float | None = None,
    far: float | None = None,
    background: Color = WHITE,
) -> Picture:
    """Depth in colors, near light, far dark; ``near`` and ``far``: by default the extremes in the mask."""
    inside = depth[np.isfinite(depth) if mask is None else mask & np.isfinite(depth)]
    if near is None:
        near = float(inside.min()) if inside.size else 0.0
    if far is None:
        far = float(inside.max()) if inside.size else 1.0
    return scalar_to_rgb(-depth, -far, -near, mask, background)


def grid(images: Sequence[Sequence[np.ndarray | None]], pad: int = 2, background: Color = WHITE) -> Picture:
    """Rows of pictures on one, each centered in its cell; cells fit the largest of their row and column.

    None leaves a cell empty; rows may differ in length. ``pad`` pixels lie between cells and around them.
    """
    for picture in (p for row in images for p in row if p is not None):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ConfigError(f"grid: got {picture.dtype} {picture.shape}, expected uint8 (h, w, 3)")
    n_columns = max((len(row) for row in images), default=0)
    heights = [max((p.shape[0] for p in row if p is not None), default=0) for row in images]
    widths = [0] * n_columns
    for row in images:
        for c, picture in enumerate(row):
            widths[c] = max(widths[c], 0 if picture is None else picture.shape[1])
    out = _blank(pad + sum(h + pad for h in heights), pad + sum(w + pad for w in widths), background)
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
    pad: int = 4,
    background: Color = WHITE,
    font_size: int = 12,
) -> Picture:
    """A ``grid`` with a text before each row and above each column, where labels are given."""
    for kind, labels, count in (
        ("row", row_labels, len(images)),
        ("column", column_labels, max((len(row) for row in images), default=0)),
    ):
        if labels and len(labels) != count:
            raise ConfigError(f"contact sheet: got {len(labels)} {kind} labels for {count} {kind}s")
    rows = [list(row) for row in images]
    if row_labels:
        rows = [[label(t, font_size, background), *row] for t, row in zip(row_labels, rows, strict=True)]
    if column_labels:
        head = [label(t, font_size, background) for t in column_labels]
        rows = [[None, *head] if row_labels else head, *rows]
    return grid(rows, pad, background)


def label(text: str, font_size: int = 12, background: Color = WHITE, color: Color = INK) -> Picture:
    """Text as a picture that just holds it; newlines break lines."""
    font = ImageFont.load_default(font_size)
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left, top, right, bottom = probe.multiline_textbbox((0, 0), text, font=font)
    size = (max(1, math.ceil(right - min(left, 0))), max(1, math.ceil(bottom - min(top, 0))) + 2)
    canvas = Image.new("RGB", size, background)
    ImageDraw.Draw(canvas).multiline_text((-min(left, 0), -min(top, 0)), text, fill=color, font=font)
    return np.array(canvas)


def enlarge(picture: Picture, factor: int) -> Picture:
    """Each pixel as a block of factor x factor."""
    return picture.repeat(factor, 0).repeat(factor, 1)


def save_image(path: Path | str, colors: Float[Tensor, "*h w c"] | UInt8[Tensor, "*h w c"]) -> None:
    """Writes an image file of the kind its name says. ``colors`` [h, w, 3] are in [0, 1], such as
    ``maps.colors[0, 0]``, or bytes, such as ``sample.colors[0, 0]`` of a dataset. Raises ``ConfigError`` for
    other shapes and for unknown kinds.
    """
    if colors.ndim != 3 or colors.shape[-1] != 3:
        raise ConfigError(
            f"colors have the shape {tuple(colors.shape)}, expected (h, w, 3), of one image: "
            "maps.colors[0, 0], say"
        )
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    if kind not in Image.SAVE:
        raise ConfigError(f"{path} has no known image format, expected a name such as head.png or head.jpg")
    save_png(path, colors.cpu().numpy() if colors.dtype == torch.uint8 else to_picture(colors), kind)


def save_png(path: Path | str, picture: Picture, kind: str = "PNG") -> None:
    """Write a picture, as PNG if nothing else is said; folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        Image.fromarray(picture).save(file, format=kind)


def _on_background(colors: np.ndarray, mask: np.ndarray | None, background: Color) -> np.ndarray:
    """Colors [h, w, 3] in [0, 1] as uint8; the background outside the mask and where they are not finite."""
    shown = np.isfinite(colors).all(-1)
    shown = shown if mask is None else shown & mask
    shown = shown[..., None]
    return np.where(shown, to_uint8(np.where(shown, colors, 0.0)), np.uint8(background))


def _blank(height: int, width: int, color: Color) -> np.ndarray:
    return np.tile(np.uint8(color), (height, width, 1))
