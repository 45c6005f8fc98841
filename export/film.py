"""Films of a lifted instance: it turns, its light moves, or it becomes another.

A *path* says what camera and light every frame has; frames are what ``LiftedGAN.render`` draws for them.
Angles are radians, time runs from 0 to 1 over a film, and every path but "morph" ends where it began.
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from lift3d.errors import ConfigError, optional
from lift3d.model import LiftedGAN, Samples
from lift3d.observer import Observer, observed
from lift3d.pictures import grid
from lift3d.renderers import MeshRenderer
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import colors_to_images, images_to_colors, resize, to_picture
from lift3d.scene.lights import Lights
from lift3d.whole_file import write_whole

Picture = UInt8[np.ndarray, "h w 3"]
SUFFIXES = (".gif", ".mp4", ".png")
SWING = (0.12, 0.6)  # pitch and yaw of a swinging head at most
SUN = (0.9, 0.35, 0.25)  # l_x, l_y and the rise of l_y of a moving light at most
STRIP = 8  # frames of a .png strip


@dataclass(frozen=True)
class Path3D:
    """What happens in a film, as functions of the time."""

    view: Callable[[float], tuple[float, float]]  # pitch and yaw
    light: Callable[[float], tuple[float, float]] | None  # l_x and l_y; None: the instance's own light


def _swing(t: float) -> tuple[float, float]:
    return SWING[0] * math.sin(4 * math.pi * t), SWING[1] * math.sin(2 * math.pi * t)


def _sun(t: float) -> tuple[float, float]:
    return SUN[0] * math.cos(2 * math.pi * t), SUN[1] + SUN[2] * math.sin(2 * math.pi * t)


PATHS = {
    "turntable": Path3D(lambda t: (0.0, 2 * math.pi * t), None),
    "swing": Path3D(_swing, None),
    "light": Path3D(lambda t: (0.0, 0.35), _sun),
    "both": Path3D(_swing, _sun),
    "morph": Path3D(lambda t: (0.0, 0.35), lambda t: (-0.5, 0.3)),
}


def film(
    model: LiftedGAN,
    samples: Samples,
    path: str,
    n_frames: int,
    size: int = 256,
    with_gan: bool = False,
    observer: Observer | None = None,
) -> Iterator[Picture]:
    """The frames of a film of ``samples[0]``; "morph" goes on to all further samples.

    ``with_gan`` shows the projection through the 2D GAN beside the render. Raises ``ConfigError`` for an
    unknown path, no frames, and a morph of a single sample.
    """
    if path not in PATHS:
        raise ConfigError(f"path is {path!r}, expected one of {', '.join(PATHS)}")
    if n_frames < 1 or size < 16:
        raise ConfigError(f"{n_frames} frames of {size} pixels, expected at least 1 of 16 or more")
    if (path == "morph") != (len(samples) > 1):
        raise ConfigError(f"{len(samples)} seeds for path {path!r}: morph takes two or more, others one")

    def frames() -> Iterator[Picture]:
        renderer = MeshRenderer(model.mesh(samples.code[0], max(128, size // 2)))
        for i in observed(observer, "frames", range(n_frames)):
            code, w = samples.code[0], samples.w[0]
            if path == "morph":
                position = i / max(1, n_frames - 1) * (len(samples) - 1)
                first = min(int(position), len(samples) - 2)
                code, w = (x[first].lerp(x[first + 1], position - first) for x in (samples.code, samples.w))
                renderer = MeshRenderer(model.mesh(code, 128))
            cameras, lights = scene_at(model, samples, PATHS[path], i / n_frames)
            colors = model.render(code, cameras, lights, size, renderer).colors[0]
            shown = [to_picture(colors[0])]
            if with_gan:
                projected = resize(model.project(w, colors_to_images(colors)), size)
                shown.append(to_picture(images_to_colors(projected)[0].clamp(0, 1)))
            yield np.concatenate(shown, 1)

    return frames()


def scene_at(model: LiftedGAN, samples: Samples, path: Path3D, t: float) -> tuple[Cameras, Lights]:
    """Camera [1] and light [1] of a path at time t."""
    pitch, yaw = path.view(t)
    view = torch.tensor([[pitch, yaw, 0.0, 0.0, 0.0, 0.0]], device=model.device)
    light = samples.light[:1].clone()
    if path.light is not None:
        light[:, 2:4] = light.new_tensor(path.light(t))
    return Cameras.from_view(view), Lights.from_vector(light)


def check_film(path: Path | str, fps: float | int) -> None:
    """Refuses, before any frame is drawn, a file that ``write_film`` could not write."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path} is no film, expected a name that ends in {', '.join(SUFFIXES)}")
    if not 1 <= fps <= 60:
        raise ConfigError(f"fps is {fps:g}, expected 1 to 60 frames a second")
    if Path(path).suffix.lower() == ".mp4":
        _ffmpeg()


def write_film(path: Path | str, frames: Sequence[Picture], fps: float | int = 20.0) -> None:
    """Writes a .gif that repeats, an .mp4, or a .png strip of up to 8 of the frames; whole or not at all."""
    check_film(path, fps)
    suffix = Path(path).suffix.lower()
    write_whole(path, {".gif": _gif, ".mp4": _mp4, ".png": _strip}[suffix](frames, fps))


def _gif(frames: Sequence[Picture], fps: float | int) -> bytes:
    """One palette for all frames, without dithering, which would flicker."""
    sample = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // STRIP)], 1))
    palette = sample.quantize(256, dither=Image.Dither.NONE)
    pictures = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    out = io.BytesIO()
    settings = {"append_images": pictures[1:], "duration": round(1000 / fps), "loop": 0, "optimize": True}
    pictures[0].save(out, "GIF", save_all=True, **settings)
    return out.getvalue()


def _strip(frames: Sequence[Picture], fps: float | int) -> bytes:
    chosen = np.linspace(0, len(frames) - 1, min(STRIP, len(frames))).round().astype(int)
    out = io.BytesIO()
    Image.fromarray(grid([[frames[i] for i in chosen]])).save(out, "PNG")
    return out.getvalue()


def _mp4(frames: Sequence[Picture], fps: float | int) -> bytes:
    """H.264 by the encoder that imageio-ffmpeg brings; sides are padded to even numbers."""
    import tempfile

    height, width = (s + s % 2 for s in frames[0].shape[:2])
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "film.mp4"
        writer = _ffmpeg().write_frames(
            str(target), (width, height), fps=fps, quality=8, macro_block_size=2, pix_fmt_out="yuv420p"
        )
        writer.send(None)
        for frame in frames:
            pad = ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0))
            writer.send(np.ascontiguousarray(np.pad(frame, pad, mode="edge")))
        writer.close()
        return target.read_bytes()


def _ffmpeg() -> ModuleType:
    return optional(
        "imageio_ffmpeg", ".mp4 films need an encoder: pip install imageio-ffmpeg, or write a .gif"
    )
