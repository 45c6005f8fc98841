"""Which pixels an iteration looks at, and what the fields show there.

Half of the iterations of steps 1 and 3 take random pixels, half a patch [S]; both keep near the object.
Refinement and distillation take random pixels and a neighbor of each, numbered row by row."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lift3d import losses
from lift3d.model import LiftedGAN
from lift3d.render.surface_hits import first_hits
from lift3d.scene.cameras import Cameras
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, shade
from lift3d.scene.surface import Surface, sdf_and_gradient, smooth_normal

FAR = 0.1  # chance of a pixel far from the object, relative to one near it or inside
CHUNK = 64  # masks at a time


@dataclass(frozen=True)
class Smoothing:
    """Weights of the chromaticity-based smoothness of the materials of patches."""

    albedo: float  # lambda_reg1
    specular: float  # lambda_reg2
    beta: float  # how alike two pixels must be


@dataclass(frozen=True)
class Rays:
    """Pixels of b images: r random ones, or the p x p pixels of a patch, row by row."""

    position: Float[Tensor, "b r 2"]  # (x, y) centers, pixels
    target: Float[Tensor, "b r 3"]  # [0, 1]
    mask: Bool[Tensor, "b r"]
    patch: int  # p, or 0


def near(masks: Bool[Tensor, "*n s s"]) -> Bool[Tensor, "*n s s"]:
    """The masks and what lies around them, up to a sixteenth of the side."""
    size = masks.shape[-1]
    reach = size // 16
    parts = masks.reshape(-1, 1, size, size).split(CHUNK)
    wide = [F.max_pool2d(m.float(), 2 * reach + 1, 1, reach) > 0 for m in parts]
    return torch.cat(wide).view(masks.shape)


def draw(model: LiftedGAN, n_rays: int, rng: torch.Generator) -> tuple[int, bool]:
    """Number of images of one iteration: a coin decides between random pixels and patches [S]."""
    batch = model.config.batch
    is_patch = bool(torch.randint(2, (), generator=rng))
    return (max(1, n_rays // batch.patch**2) if is_patch else batch.n_images), is_patch


def draw_rays(
    model: LiftedGAN,
    images: Float[Tensor, "b 3 s s"],
    masks: Bool[Tensor, "b s s"],
    near_masks: Bool[Tensor, "b s s"],
    n_rays: int,
    is_patch: bool,
    rng: torch.Generator,
) -> Rays:
    """n_rays / b random pixels of each image or one patch, rarely far from the object: there is little to
    learn there. ``near_masks``: ``near(masks)``, which is made once and not in every step.
    """
    size, patch, count = model.config.size, model.config.batch.patch, len(images)
    density = near_masks.float().clamp_min(FAR).flatten(1).cpu()
    chosen = torch.multinomial(density, 1 if is_patch else n_rays // count, True, generator=rng)
    pixels = torch.stack((chosen % size, chosen // size), -1)
    if is_patch:
        corner = (pixels - patch // 2).clamp(0, size - patch)
        y, x = torch.meshgrid(*(torch.arange(patch),) * 2, indexing="ij")
        pixels = corner + torch.stack((x, y), -1).reshape(1, -1, 2)
    x, y = pixels.to(model.device).unbind(-1)
    rows = torch.arange(count, device=model.device)[:, None]
    target = (images.permute(0, 2, 3, 1)[rows, y, x] + 1) / 2
    inside = masks.to(model.device)[rows, y, x]
    return Rays(torch.stack((x, y), -1) + 0.5, target, inside, patch if is_patch else 0)


def shade_hits(
    model: LiftedGAN,
    surface: Surface,
    view: Float[Tensor, "b 6"],
    light: Float[Tensor, "b 5"],
    rays: Rays,
    fixed_shape: bool = False,
) -> tuple[Float[Tensor, "b r 3"], Material, Bool[Tensor, "b r"]]:
    """Colors and material where rays first hit the surface, and which do: one point a pixel.

    Distances are constants, so a shape that is not fixed learns its normals from this, not its depth."""
    origins, directions = Cameras.from_view(view).rays(rays.position, model.config.size)
    t, hit = first_hits(surface, origins, directions)
    points = origins + t[..., None] * directions
    _, feature, gradient = sdf_and_gradient(surface, points, create_graph=not fixed_shape)
    if fixed_shape:
        feature, gradient = feature.detach(), gradient.detach()
    normal = smooth_normal(gradient)
    material = surface.material(points, normal, feature)
    color = shade(normal, -directions, material, Lights.from_vector(light).per_point(1))
    return color, material, hit


def smoothness(
    albedo: Float[Tensor, "b r 3"],
    specular: Float[Tensor, "b r 1"],
    rays: Rays,
    seen: Bool[Tensor, "b r"],
    smoothing: Smoothing,
) -> Float[Tensor, ""]:
    """Chromaticity-based smoothness of the albedo and specularity maps of patches, weighted."""

    def patches(x: Tensor) -> Tensor:
        return x.view(-1, rays.patch, rays.patch, *x.shape[2:])

    target, inside = patches(rays.target), patches(seen)
    smooth_albedo = losses.smoothness(patches(albedo), target, inside, smoothing.beta)
    smooth_specular = losses.smoothness(patches(specular), target, inside, smoothing.beta)
    return smoothing.albedo * smooth_albedo + smoothing.specular * smooth_specular


def pick(where: Bool[Tensor, "b s s"], n: int, rng: torch.Generator) -> Int64[Tensor, "b n"]:
    """Numbers of n random pixels of each image."""
    return torch.multinomial(where.flatten(1).float().cpu() + 1e-9, n, True, generator=rng).to(where.device)


def with_neighbors(pixels: Int64[Tensor, "b n"], size: int, rng: torch.Generator) -> Int64[Tensor, "b two_n"]:
    """The pixels, then for each of them the one to the right or the one below."""
    right = (torch.rand(pixels.shape, generator=rng) < 0.5).to(pixels.device)
    return torch.cat((pixels, torch.where(right, pixels + 1, pixels + size).clamp_max(size * size - 1)), 1)


def at(maps: Tensor, pixels: Int64[Tensor, "b n"]) -> Tensor:
    """Values of maps [b, s, s, ...] at pixels."""
    return maps.flatten(1, 2)[torch.arange(len(pixels), device=pixels.device)[:, None], pixels]


def pixel_rays(
    view: Float[Tensor, "b 6"], pixels: Int64[Tensor, "b n"], size: int
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 3"]]:
    """Origins and directions of the pixels' rays; gradients reach the view."""
    return Cameras.from_view(view).rays(torch.stack((pixels % size, pixels // size), -1) + 0.5, size)
