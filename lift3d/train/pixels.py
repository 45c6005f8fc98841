"""Which pixels an iteration looks at, and what a surface shows there.

Pixels are numbered row by row. Half of the iterations of steps 1 and 3 take random pixels, half a patch [S];
both keep near the object. Refinement and distillation take random pixels and a neighbor of each."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lift3d import losses
from lift3d.config.schema import Schedule
from lift3d.model import LiftedGAN
from lift3d.render.surface_hits import first_hits
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import colors_to_images
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, Shading, shade, shading
from lift3d.scene.surface import Surface, sdf_and_gradient, smooth_normal

FAR = 0.1  # chance of a pixel far from the object, relative to one near it or inside


@dataclass(frozen=True)
class Pixels:
    """Pixels of b images: r random ones, or the p x p pixels of a patch, row by row."""

    numbers: Int64[Tensor, "b r"]
    colors: Float[Tensor, "b r 3"]  # [0, 1]
    mask: Bool[Tensor, "b r"]
    patch: int  # p, or 0

    def patches(self, x: Float[Tensor, "b r c"] | Bool[Tensor, "b r"]) -> Tensor:
        """Values of the pixels of patches as [b, p, p, ...]."""
        return x.reshape(-1, self.patch, self.patch, *x.shape[2:])


def pick(
    density: Float[Tensor, "b s s"] | Bool[Tensor, "b s s"], n: int, rng: torch.Generator
) -> Int64[Tensor, "b n"]:
    """n random pixels of each image, as likely as ``density`` says; any, if it is 0 everywhere."""
    chances = density.flatten(1).float().cpu() + 1e-9
    return torch.multinomial(chances, n, True, generator=rng).to(density.device)


def with_neighbors(pixels: Int64[Tensor, "b n"], size: int, rng: torch.Generator) -> Int64[Tensor, "b two_n"]:
    """The pixels, then for each of them the one to the right or the one below."""
    right = (torch.rand(pixels.shape, generator=rng) < 0.5).to(pixels.device)
    return torch.cat((pixels, torch.where(right, pixels + 1, pixels + size).clamp_max(size * size - 1)), 1)


def at(maps: Tensor, pixels: Int64[Tensor, "b n"]) -> Tensor:
    """Values of maps [b, s, s, ...] at pixels."""
    return maps.flatten(1, 2)[torch.arange(len(pixels), device=pixels.device)[:, None], pixels]


def draw(model: LiftedGAN, n_rays: int, rng: torch.Generator) -> tuple[int, bool]:
    """Number of images of one iteration: a coin decides between random pixels and patches [S]."""
    batch = model.config.batch
    is_patch = bool(torch.randint(2, (), generator=rng))
    return (max(1, n_rays // batch.patch**2) if is_patch else batch.n_images), is_patch


def draw_pixels(
    model: LiftedGAN,
    images: Float[Tensor, "b 3 s s"],
    masks: Bool[Tensor, "b s s"],
    near: Bool[Tensor, "b s s"],
    n: int,
    is_patch: bool,
    rng: torch.Generator,
) -> Pixels:
    """n / b random pixels of each image or one patch, rarely far from what is ``near`` the object: there is
    little to learn there.
    """
    size, patch = model.config.size, model.config.batch.patch
    numbers = pick(near.float().clamp_min(FAR), 1 if is_patch else n // len(images), rng)
    if is_patch:
        x, y = ((c - patch // 2).clamp(0, size - patch) for c in (numbers % size, numbers // size))
        steps = torch.arange(patch, device=numbers.device)
        numbers = y * size + x + (steps[:, None] * size + steps).flatten()
    numbers = numbers.to(model.device)
    colors = (at(images.movedim(1, -1), numbers) + 1) / 2
    return Pixels(numbers, colors, at(masks.to(model.device), numbers), patch if is_patch else 0)


def rays(
    view: Float[Tensor, "b 6"], pixels: Int64[Tensor, "b n"], size: int
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 3"]]:
    """Origins and directions of the rays of pixels; gradients reach the view."""
    return Cameras.from_view(view).rays(torch.stack((pixels % size, pixels // size), -1) + 0.5, size)


@dataclass(frozen=True)
class Seen:
    """A surface where the rays of n pixels of each of b images first hit it: one point a pixel. Distances are
    constants, so a shape learns its normals from this, not its depth.
    """

    surface: Surface
    points: Float[Tensor, "b n 3"]
    feature: Float[Tensor, "b n h"]
    gradient: Float[Tensor, "b n 3"]
    to_camera: Float[Tensor, "b n 3"]  # unit
    hit: Bool[Tensor, "b n"]

    @cached_property
    def normal(self) -> Float[Tensor, "b n 3"]:
        """Unit normals."""
        return smooth_normal(self.gradient)

    @cached_property
    def material(self) -> Material:
        """What F_m says."""
        return self.surface.material(self.points, self.normal, self.feature)

    @cached_property
    def fixed(self) -> "Seen":
        """The same of a shape that does not learn."""
        return replace(self, feature=self.feature.detach(), gradient=self.gradient.detach())

    @cached_property
    def held(self) -> Material:
        """The material of a surface that does not learn."""
        return Material(*(x.detach() for x in vars(self.fixed.material).values()))

    def shading(self, light: Float[Tensor, "b 5"]) -> Shading:
        """Of the normals under given lights; the material is held."""
        return shading(self.normal, self.to_camera, self.held, Lights.from_vector(light).per_point(1))

    def colors(self, light: Float[Tensor, "b 5"]) -> Float[Tensor, "b n 3"]:
        """Under given lights."""
        return shade(self.normal, self.to_camera, self.material, Lights.from_vector(light).per_point(1))


def see(
    surface: Surface,
    view: Float[Tensor, "b 6"],
    pixels: Int64[Tensor, "b n"],
    size: int,
    create_graph: bool = True,
) -> Seen:
    """What pixels see of a surface; without ``create_graph`` it is ``fixed``."""
    origins, directions = rays(view, pixels, size)
    t, hit = first_hits(surface, origins, directions)
    points = origins + t[..., None] * directions
    _, feature, gradient = sdf_and_gradient(surface, points, create_graph)
    seen = Seen(surface, points, feature, gradient, -directions, hit)
    return seen if create_graph else seen.fixed


def smoothness(
    albedo: Float[Tensor, "b r 3"],
    specular: Float[Tensor, "b r 1"],
    pixels: Pixels,
    seen: Bool[Tensor, "b r"],
    schedule: Schedule,
    beta: float,
) -> Float[Tensor, ""]:
    """Chromaticity-based smoothness of the albedo and specularity maps of patches, weighted by the schedule;
    ``beta``: how alike two pixels must be.
    """
    colors, inside = pixels.patches(pixels.colors), pixels.patches(seen)
    smooth_albedo, smooth_specular = (
        losses.smoothness(pixels.patches(x), colors, inside, beta) for x in (albedo, specular)
    )
    return schedule.smooth_albedo * smooth_albedo + schedule.smooth_specular * smooth_specular


def patch_distance(
    perceptual: torch.nn.Module, shown: Float[Tensor, "b r 3"], pixels: Pixels
) -> Float[Tensor, ""]:
    """Mean perceptual distance of patches from what the pixels show."""
    return perceptual(*(colors_to_images(pixels.patches(x)) for x in (shown, pixels.colors))).mean()
