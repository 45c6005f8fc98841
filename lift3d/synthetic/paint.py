"""Procedural materials for heads: skin, lips, brows, hair, eyes, painted on the mean head ("rest").

Painting per pixel rather than per vertex keeps irises and brows sharp at any resolution. Lengths are world
units of the mean head, colors display-referred. No number here may change lightly: the bundled GAN was
trained on renders of exactly this paint.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lift3d.scene.shading import Material
from lift3d.synthetic.heads import HeadModel, stream

SKIN = np.array([(0.95, 0.80, 0.71), (0.88, 0.68, 0.56), (0.72, 0.51, 0.38), (0.50, 0.33, 0.23),
                 (0.33, 0.21, 0.15)])  # fmt: skip
HAIR = np.array([(0.07, 0.06, 0.06), (0.22, 0.14, 0.09), (0.40, 0.26, 0.15), (0.72, 0.56, 0.33),
                 (0.50, 0.20, 0.09), (0.62, 0.61, 0.60)])  # fmt: skip
IRIS = np.array([(0.28, 0.17, 0.09), (0.20, 0.33, 0.45), (0.25, 0.36, 0.22), (0.12, 0.08, 0.06)])
SCLERA, MOUTH = (0.88, 0.86, 0.84), (0.35, 0.12, 0.11)
EYE_SHININESS, EYE_SPECULAR = 80.0, 0.6


@dataclass(frozen=True)
class Look:
    """Colors and styles of one person; all the randomness of ``paint``."""

    skin: tuple[float, float, float]
    lips: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    hairline: float  # world units upwards
    hair_slope: float  # of the hair border, rise over run towards the back
    beard: float  # [0, 1] opacity
    brow_height: float  # world units above the eye
    brow_width: float  # half thickness, world units
    mottle: float  # amplitude of the skin's low-frequency variation
    phase: tuple[float, float, float]  # radians, of that variation and of the hair border's ridge
    skin_specular: float  # [0, 1]
    skin_shininess: float  # Phong exponent
    lip_specular: float
    lip_shininess: float


def sample_look(split: str, index: int) -> Look:
    """Look ``index`` of a split."""
    rng = stream(split, "look", index)

    def mix(palette: np.ndarray) -> np.ndarray:
        position = rng.uniform(0, len(palette) - 1)
        low = int(position)
        return palette[low] + (position - low) * (palette[min(low + 1, len(palette) - 1)] - palette[low])

    jitter = lambda color, amount: tuple(np.clip(color + rng.normal(0, amount, 3), 0.03, 0.97))  # noqa: E731
    skin = mix(SKIN)
    red = rng.uniform(-0.06, 0.10) * np.array((1.0, -0.3, -0.2))
    lips = np.clip(skin * (0.92, 0.62, 0.64) + red, 0.05, 0.95)
    return Look(
        skin=jitter(skin, 0.015),
        lips=jitter(lips, 0.02),
        hair=jitter(HAIR[rng.integers(len(HAIR))] * rng.uniform(0.8, 1.2), 0.015),
        iris=jitter(IRIS[rng.integers(len(IRIS))], 0.02),
        hairline=rng.uniform(-0.08, 0.07),
        hair_slope=rng.uniform(0.75, 0.98),
        beard=rng.uniform(0.3, 0.85) if rng.random() < 0.2 else 0.0,
        brow_height=rng.uniform(0.115, 0.14),
        brow_width=rng.uniform(0.018, 0.034),
        mottle=rng.uniform(0.0, 0.05),
        phase=tuple(rng.uniform(0, 2 * np.pi, 3)),
        skin_specular=rng.uniform(0.05, 0.3),
        skin_shininess=rng.uniform(8, 40),
        lip_specular=rng.uniform(0.2, 0.45),
        lip_shininess=rng.uniform(25, 60),
    )


def smoothstep(low: float, high: float, x: Tensor) -> Tensor:
    """0 below ``low``, 1 above ``high``, cubic between; reversed bounds give the mirrored step."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def attributes(model: HeadModel) -> Float[np.ndarray, "m 8"]:
    """Per-vertex inputs of ``paint``: rest position (3), lips, eyelids, ears, mouth interior, eye."""
    part = np.stack((model.part == 1, model.part == 2), -1)
    return np.concatenate((model.mean, model.regions, part), -1).astype(np.float32)


def eye_geometry(model: HeadModel) -> tuple[tuple[float, float, float], float]:
    """Center of the right-hand (x > 0) eyeball and its radius, in rest coordinates."""
    ball = model.mean[(model.part == 2) & (model.mean[:, 0] > 0)]
    center = (ball.max(0) + ball.min(0)) / 2
    return tuple(float(c) for c in center), float(np.linalg.norm(ball - center, axis=1).mean())


def paint(points: Float[Tensor, "*s 8"], look: Look, model: HeadModel) -> Material:
    """Material at interpolated ``attributes``; evaluated per pixel or per vertex."""
    rest, lips, _, ears, mouth, eye = points.split((3, 1, 1, 1, 1, 1), -1)
    x, y, z = rest.split(1, -1)
    (eye_x, eye_y, eye_z), eye_radius = eye_geometry(model)
    side = torch.cat((x.abs() - eye_x, y - eye_y, z - eye_z), -1)  # relative to the nearer eye
    color = lambda rgb: points.new_tensor(rgb)  # noqa: E731

    first, second, third = look.phase
    wave = torch.sin(9.0 * x + first) * torch.sin(7.0 * y + second) * torch.sin(8.0 * z + third)
    albedo = color(look.skin) * (1.0 + look.mottle * wave)
    cheek = torch.exp(-((side[..., :1] - 0.08) ** 2 + (side[..., 1:2] + 0.24) ** 2) / 0.015) * (z > 0.2)
    albedo = albedo * (1.0 - cheek * color((0.02, 0.10, 0.09)))
    specular = torch.full_like(x, look.skin_specular)
    shininess = torch.full_like(x, look.skin_shininess)

    def lay(weight: Tensor, rgb: tuple, s: float, p: float) -> None:
        nonlocal albedo, specular, shininess
        albedo = albedo + weight * (color(rgb) - albedo)
        specular = specular + weight * (s - specular)
        shininess = shininess + weight * (p - shininess)

    ridge = 0.02 * torch.sin(14.0 * x + look.phase[0]) + 0.015 * torch.sin(23.0 * z + look.phase[1])
    scalp = smoothstep(-0.025, 0.025, y - look.hair_slope * z + 0.10 - look.hairline + ridge)
    scalp = scalp * (1.0 - ears) * smoothstep(-0.62, -0.52, y)
    lay(scalp, look.hair, 0.15, 12.0)
    if look.beard:
        jaw = smoothstep(-0.02, 0.05, -(y - eye_y) - 0.30 - 0.25 * (x.abs() < 0.2) * (z > 0.5) * 0.4)
        jaw = jaw * smoothstep(-0.05, 0.05, z) * smoothstep(-0.72, -0.6, y) * (1.0 - lips)
        lay(jaw * look.beard, look.hair, 0.12, 12.0)
    arc = look.brow_height - 1.4 * (side[..., :1] - 0.01) ** 2
    brow = smoothstep(look.brow_width, 0.4 * look.brow_width, (side[..., 1:2] - arc).abs())
    brow = brow * smoothstep(0.17, 0.12, (side[..., :1] - 0.01).abs()) * (z > 0.2)
    lay(0.9 * brow, tuple(0.8 * c for c in look.hair), 0.12, 12.0)
    lay(smoothstep(0.2, 0.7, lips), look.lips, look.lip_specular, look.lip_shininess)
    lay(mouth, MOUTH, 0.3, 40.0)
    lay(eye, SCLERA, EYE_SPECULAR, EYE_SHININESS)
    off_axis = side[..., :2].norm(dim=-1, keepdim=True) / eye_radius
    front = eye * (side[..., 2:] > 0)
    lay(front * smoothstep(0.50, 0.44, off_axis), look.iris, EYE_SPECULAR, EYE_SHININESS)
    lay(front * smoothstep(0.22, 0.17, off_axis), (0.03, 0.03, 0.03), EYE_SPECULAR, EYE_SHININESS)
    return Material(albedo, specular, shininess)
