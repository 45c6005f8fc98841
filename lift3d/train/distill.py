"""Distillation of shading into one forward pass: what refinement finds of one image (refine.py), E_I and the
fields learn to find of any (docs/method.md, Training).

b images of s x s pixels, p pairs of pixels of each. Geometry does not learn from the colors of F_m, which
follow new textures too slowly: what they leave unexplained would become shape. It learns from the albedo that
an image implies (implied.py). Views are those of E_v, lights are solved for in every step. The specular
intensity is held until normals are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lift3d import losses
from lift3d.masks.background import interior
from lift3d.model import LiftedGAN
from lift3d.observer import Observer
from lift3d.render.surface_hits import first_hits
from lift3d.scene.cameras import mirrored as mirrored_views
from lift3d.scene.images import colors_to_images, images_to_colors, to_float
from lift3d.scene.lights import Lights
from lift3d.scene.lights import mirrored as mirrored_lights
from lift3d.scene.shading import Material, shading
from lift3d.scene.surface import sdf_and_gradient, smooth_normal
from lift3d.train.anchors import Anchors, change, near_surface
from lift3d.train.implied import implied_albedo, shape_loss, smoothness
from lift3d.train.outline import around_outline, outline_loss
from lift3d.train.phase import Group, Losses
from lift3d.train.pixels import (
    at,
    draw_rays,
    near,
    pick,
    pixel_rays,
    shade_hits,
    with_neighbors,
)

CHUNK = 32  # images that are looked at together before training
N_ANCHORS, N_ANCHORS_A_STEP = 128, 64  # of an image
N_OUTLINE = 32  # pixels around the outline of an image, in a step
N_PATCHES = 4  # images of a step of which a patch is looked at
SEEN, UNSEEN = 1.0, 4.0  # weights of the joint model's signed distances
SMOOTH, SMOOTH_FAR = 0.05, 0.025  # weights of F_m's albedo between neighbors and any two pixels
OUTLINE, EIKONAL = 0.2, 0.1  # weights
SPECULAR, SHININESS = 0.15, 20.0  # what F_m's are held to
LIGHT_TIE = 0.1  # of a light to the predicted one, relative to what all pixels say
N_LIGHT = 4  # rounds in which lit pixels are found


@dataclass(frozen=True)
class Gallery:
    """n images of the category, of which only views and lights are known, as E_v and E_l predict them."""

    images: UInt8[Tensor, "n 3 s s"]
    masks: Bool[Tensor, "n s s"]
    views: Float[Tensor, "n 6"]
    lights: Float[Tensor, "n 5"]
    anchors: Anchors

    def inside(self) -> Bool[Tensor, "n s s"]:
        """Pixels that the background has no share in."""
        return torch.cat([interior(part) for part in self.masks.split(CHUNK)])


def distill_groups(model: LiftedGAN) -> list[Group]:
    """The fields and E_I."""
    rates = model.config.rates
    return [
        Group([*model.shape.parameters(), *model.material.parameters()], rates.fields),
        Group(list(model.image_encoder.parameters()), rates.encoders),
    ]


@torch.no_grad()
def read(
    model: LiftedGAN,
    images: UInt8[Tensor, "n 3 s s"],
    masks: Bool[Tensor, "n s s"],
    rng: torch.Generator,
    observer: Observer,
) -> dict[str, Tensor]:
    """What ``gallery`` wants to know of images, as the model says before it learns from them."""
    found = []
    observer.start("reading views and lights", len(images))
    for part in images.split(CHUNK):
        x = to_float(part.to(model.device))
        view, light = model.view_encoder(x), model.light_encoder(x)
        anchors = near_surface(model.surface(model.image_encoder(x)), view, N_ANCHORS, rng)
        found.append((view, light, anchors.points, anchors.sdf, anchors.seen))
        observer.advance(len(part))
    observer.finish()
    names = ("views", "lights", "points", "sdf", "seen")
    return {name: torch.cat(parts).cpu() for name, parts in zip(names, zip(*found), strict=True)}


def gallery(
    images: UInt8[Tensor, "n 3 s s"], masks: Bool[Tensor, "n s s"], known: dict[str, Tensor]
) -> Gallery:
    """Images with what was ``read`` of them."""
    anchors = Anchors(*(known[name] for name in ("points", "sdf", "seen")))
    return Gallery(images, masks, known["views"], known["lights"], anchors)


@dataclass(frozen=True)
class Batch:
    """Some images of a gallery; half of them are mirrored, as objects are taken to be symmetric."""

    images: Float[Tensor, "b 3 s s"]  # [-1, 1]
    masks: Bool[Tensor, "b s s"]
    inside: Bool[Tensor, "b s s"]
    outline: Bool[Tensor, "b s s"]
    near: Bool[Tensor, "b s s"]
    views: Float[Tensor, "b 6"]
    lights: Float[Tensor, "b 5"]
    anchors: Anchors


class Lesson:
    """Draws batches from galleries; every image is as likely as any other."""

    def __init__(self, galleries: Sequence[Gallery]) -> None:
        self.galleries = galleries
        self.inside = [g.inside() for g in galleries]
        self.outline = [around_outline(g.masks) for g in galleries]
        self.near = [near(g.masks) for g in galleries]

    def draw(self, n: int, rng: torch.Generator, device: torch.device) -> Batch:
        """n images of one gallery."""
        sizes = torch.tensor([float(len(g.images)) for g in self.galleries])
        which = int(torch.multinomial(sizes, 1, generator=rng))
        g = self.galleries[which]
        i = torch.randint(len(g.images), (n,), generator=rng)
        k = torch.randint(N_ANCHORS, (n, N_ANCHORS_A_STEP), generator=rng)
        flip = torch.rand(n, 1, generator=rng) < 0.5
        maps = [torch.where(flip[..., None], x[i].flip(-1), x[i]) for x in
                (g.masks, self.inside[which], self.outline[which], self.near[which])]  # fmt: skip
        images = torch.where(flip[..., None, None], g.images[i].flip(-1), g.images[i])
        views = torch.where(flip, mirrored_views(g.views[i]), g.views[i])
        lights = torch.where(flip, mirrored_lights(g.lights[i]), g.lights[i])
        points, sdf, seen = (x[i[:, None], k] for x in (g.anchors.points, g.anchors.sdf, g.anchors.seen))
        points = torch.where(flip[..., None], points * torch.tensor([-1.0, 1.0, 1.0]), points)
        tensors = [x.to(device) for x in (*maps, views, lights, points, sdf, seen)]
        return Batch(to_float(images.to(device)), *tensors[:6], Anchors(*tensors[6:]))


def distill_loss(
    model: LiftedGAN, lesson: Lesson, perceptual: torch.nn.Module, rng: torch.Generator
) -> Losses:
    """One step, on ``batch.n_images`` images and ``batch.n_surface_pixels`` (or ``n_rays``) pixel pairs."""
    size, sizes, beta = model.config.size, model.config.batch, model.config.weights.beta
    batch = lesson.draw(sizes.n_images, rng, model.device)
    code = model.image_encoder(batch.images)
    surface = model.surface(code)
    half = max(2, (sizes.n_surface_pixels or sizes.n_rays) // sizes.n_images)
    pixels = with_neighbors(pick(batch.inside, half, rng), size, rng)
    observed, known = at(images_to_colors(batch.images), pixels), at(batch.inside, pixels)
    origins, directions = pixel_rays(batch.views, pixels, size)
    t, hit = first_hits(surface, origins, directions)
    points = origins + t[..., None] * directions
    _, feature, gradient = sdf_and_gradient(surface, points, create_graph=True)
    normal = smooth_normal(gradient)
    material = surface.material(points, normal.detach(), feature.detach())
    counts = known & hit

    held = Material(*(x.detach() for x in (material.albedo, material.specular, material.shininess)))
    lights = solve_lights(
        observed, held, normal.detach(), -directions, counts, batch.lights, model.config.light_prior.coupling
    )
    lamps = Lights.from_vector(lights)[:, None]
    factors = shading(normal, -directions, held, lamps)
    implied = implied_albedo(observed, factors, counts, rng)
    own = shading(normal.detach(), -directions, material, lamps)
    colors = material.albedo * own.diffuse + own.specular
    away = (material.specular - SPECULAR).square() + 1e-5 * (material.shininess - SHININESS).square()
    terms = {
        "shape": shape_loss(implied),
        "l1": losses.l1(colors, observed, counts[..., None]),
        "smooth": SMOOTH * smoothness(implied, material.albedo, implied.near, beta)
        + SMOOTH_FAR * smoothness(implied, material.albedo, implied.far, beta),
        "held": away.mean(),
        "eikonal": EIKONAL * losses.eikonal(gradient),
        "outline": OUTLINE * outline_loss(surface, batch.views, batch.outline, batch.masks, N_OUTLINE, rng),
        "joint": change(surface, batch.anchors, SEEN, UNSEEN),
        "perceptual": model.config.weights.perceptual
        * _patches(model, code[:N_PATCHES], lights[:N_PATCHES], batch, perceptual, rng),
    }
    return {"total": sum(terms.values()), **terms}


def _patches(
    model: LiftedGAN,
    code: Float[Tensor, "k c"],
    lights: Float[Tensor, "k 5"],
    batch: Batch,
    perceptual: torch.nn.Module,
    rng: torch.Generator,
) -> Float[Tensor, ""]:
    """Perceptual distance of patches of the first images; F_m learns what is small by it: eyes and brows."""
    k, n_rays = len(code), len(code) * model.config.batch.patch**2
    rays = draw_rays(model, batch.images[:k], batch.masks[:k], batch.near[:k], n_rays, True, rng)
    colors, _, hit = shade_hits(model, model.surface(code), batch.views[:k], lights, rays, fixed_shape=True)
    shown = torch.where((hit & rays.mask)[..., None], colors, rays.target)
    side = (k, rays.patch, rays.patch, 3)
    return perceptual(*(colors_to_images(x.reshape(side)) for x in (shown, rays.target))).mean()


@torch.no_grad()
def solve_lights(
    observed: Float[Tensor, "b p 3"],
    material: Material,
    normal: Float[Tensor, "b p 3"],
    to_camera: Float[Tensor, "b p 3"],
    counts: Bool[Tensor, "b p"],
    start: Float[Tensor, "b 5"],
    coupling: float,
) -> Float[Tensor, "b 5"]:
    """Lights that explain brightness best, given shape and material: least squares in k_a and k_d l, tied to
    the lights to ``start`` from. k_a + ``coupling`` k_d, the exposure, stays: brightness alone cannot tell it
    from the albedo.
    """
    first = Lights.from_vector(start)
    highlights = shading(normal, to_camera, material, first[:, None]).specular[..., 0]
    diffuse = (observed.mean(-1) - highlights).clamp_min(0.0)
    albedo = material.albedo.mean(-1) * counts
    predicted = torch.cat((first.ambient[:, None], first.diffuse[:, None] * first.direction), 1)
    weight = albedo.square()
    tie = (LIGHT_TIE * weight.sum(1)[:, None] + 1e-6) * torch.tensor([1.0, 1 / 3, 1 / 3, 1 / 3]).to(weight)
    found = predicted
    for _ in range(N_LIGHT):
        lit = torch.einsum("bpi,bi->bp", normal, found[:, 1:]) > 0
        basis = torch.cat((torch.ones_like(normal[..., :1]), normal * lit[..., None]), -1)
        matrix = torch.einsum("bp,bpi,bpj->bij", weight, basis, basis) + torch.diag_embed(tie)
        right = torch.einsum("bp,bpi->bi", albedo * diffuse, basis) + tie * predicted
        found = torch.linalg.solve(matrix, right)
        found = torch.cat((found[:, :1].clamp_min(0.05), found[:, 1:3], found[:, 3:].clamp_min(0.05)), 1)
    strength = found[:, 1:].norm(dim=1)
    level = (first.ambient + coupling * first.diffuse) / (found[:, 0] + coupling * strength)
    return torch.stack(
        (found[:, 0] * level, strength * level, found[:, 1] / found[:, 3], found[:, 2] / found[:, 3],
         first.negative), 1,
    )  # fmt: skip
