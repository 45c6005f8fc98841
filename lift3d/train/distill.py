"""Distillation of shading into one forward pass: what refinement finds of one image (refine.py), E_I and the
fields learn to find of any (docs/method.md, Training).

b images of s x s pixels, p pairs of pixels of each. Geometry does not learn from the colors of F_m, which
follow new textures too slowly: what they leave unexplained would become shape. It learns from the albedo that
an image implies (implied.py). Views are those of E_v, lights are solved for in every step. The specular
intensity is held until normals are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lift3d import losses
from lift3d.masks.morphology import around_outline
from lift3d.model import LiftedGAN
from lift3d.observer import Observer, observed
from lift3d.scene.batch import Batch
from lift3d.scene.images import images_to_colors, to_float
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, shading
from lift3d.train.anchors import Anchors, change, near_surface
from lift3d.train.data import Images, mirrored
from lift3d.train.implied import implied_albedo, shape_loss, smoothness
from lift3d.train.outline import outline_loss
from lift3d.train.phase import Group, Losses
from lift3d.train.pixels import at, draw_pixels, patch_distance, pick, see, with_neighbors

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


@dataclass(frozen=True, repr=False)
class Gallery(Batch):
    """n images of the category, of which only views and lights are known, as E_v and E_l predict them."""

    images: UInt8[Tensor, "*n 3 s s"]
    masks: Bool[Tensor, "*n s s"]
    inside: Bool[Tensor, "*n s s"]
    near: Bool[Tensor, "*n s s"]
    outline: Bool[Tensor, "*n s s"]
    views: Float[Tensor, "*n 6"]
    lights: Float[Tensor, "*n 5"]
    points: Float[Tensor, "*n a 3"]  # anchors
    sdf: Float[Tensor, "*n a"]
    seen: Bool[Tensor, "*n a"]

    @property
    def anchors(self) -> Anchors:
        """What the joint model says of the surfaces."""
        return Anchors(self.points, self.sdf, self.seen)


def distill_groups(model: LiftedGAN) -> list[Group]:
    """The fields and E_I."""
    rates = model.config.rates
    return [
        Group.of(rates.fields, model.shape, model.material),
        Group.of(rates.encoders, model.image_encoder),
    ]


@torch.no_grad()
def read(
    model: LiftedGAN, images: UInt8[Tensor, "n 3 s s"], rng: torch.Generator, observer: Observer
) -> dict[str, Tensor]:
    """What ``gallery`` wants to know of images, as the model says before it learns from them."""
    found = []
    for part in observed(observer, "reading views and lights", images.split(CHUNK), len):
        code, view, light = model.encode(to_float(part.to(model.device)))
        anchors = near_surface(model.surface(code), view, N_ANCHORS, rng)
        found.append({"views": view, "lights": light, **vars(anchors)})
    return {name: torch.cat([part[name] for part in found]).cpu() for name in found[0]}


def gallery(images: Images, known: dict[str, Tensor]) -> Gallery:
    """Images with what was ``read`` of them."""
    outline = around_outline(images.masks)
    return Gallery(images.images, images.masks, images.inside, images.near, outline, **known)


def draw(galleries: Sequence[Gallery], n: int, rng: torch.Generator, device: torch.device) -> Gallery:
    """n images of one gallery, every image as likely as any other, and some of their anchors; half of the
    images are mirrored.
    """
    sizes = torch.tensor([float(len(g)) for g in galleries])
    chosen = galleries[int(torch.multinomial(sizes, 1, generator=rng))]
    images = chosen[torch.randint(len(chosen), (n,), generator=rng)]
    some = images.anchors.some(torch.randint(N_ANCHORS, (n, N_ANCHORS_A_STEP), generator=rng))
    flip = torch.rand(n, generator=rng) < 0.5
    return mirrored(replace(images, **vars(some)), flip).to(device)


def distill_loss(
    model: LiftedGAN, galleries: Sequence[Gallery], perceptual: torch.nn.Module, rng: torch.Generator
) -> Losses:
    """One step, on ``batch.n_images`` images and ``batch.n_surface_pixels`` (or ``n_rays``) pixel pairs."""
    size, sizes, weights = model.config.size, model.config.batch, model.config.weights
    batch = draw(galleries, sizes.n_images, rng, model.device)
    images = to_float(batch.images)
    code = model.image_encoder(images)
    surface = model.surface(code)
    half = max(2, (sizes.n_surface_pixels or sizes.n_rays) // sizes.n_images)
    pixels = with_neighbors(pick(batch.inside, half, rng), size, rng)
    observed, known = at(images_to_colors(images), pixels), at(batch.inside, pixels)
    seen = see(surface, batch.views, pixels, size)
    counts, material = known & seen.hit, seen.fixed.material
    lights = solve_lights(
        observed, seen.held, seen.fixed.normal, seen.to_camera, counts, batch.lights,
        model.config.light_prior.coupling,
    )  # fmt: skip
    implied = implied_albedo(observed, seen.shading(lights), counts, rng)
    away = (material.specular - SPECULAR).square() + 1e-5 * (material.shininess - SHININESS).square()
    terms = {
        "shape": shape_loss(implied),
        "l1": losses.l1(seen.fixed.colors(lights), observed, counts[..., None]),
        "smooth": SMOOTH * smoothness(implied, material.albedo, implied.near, weights.beta)
        + SMOOTH_FAR * smoothness(implied, material.albedo, implied.far, weights.beta),
        "held": away.mean(),
        "eikonal": EIKONAL * losses.eikonal(seen.gradient),
        "outline": OUTLINE * outline_loss(surface, batch.views, batch.outline, batch.masks, N_OUTLINE, rng),
        "joint": change(surface, batch.anchors, SEEN, UNSEEN),
        "perceptual": weights.perceptual
        * _patches(model, code[:N_PATCHES], lights[:N_PATCHES], batch[:N_PATCHES], perceptual, rng),
    }
    return {"total": sum(terms.values()), **terms}


def _patches(
    model: LiftedGAN,
    code: Float[Tensor, "k c"],
    lights: Float[Tensor, "k 5"],
    batch: Gallery,
    perceptual: torch.nn.Module,
    rng: torch.Generator,
) -> Float[Tensor, ""]:
    """Perceptual distance of a patch of each image; F_m learns what is small by it: eyes and brows."""
    n, size = len(code) * model.config.batch.patch**2, model.config.size
    pixels = draw_pixels(model, to_float(batch.images), batch.masks, batch.near, n, True, rng)
    seen = see(model.surface(code), batch.views, pixels.numbers, size, create_graph=False)
    shown = torch.where((seen.hit & pixels.mask)[..., None], seen.colors(lights), pixels.colors)
    return patch_distance(perceptual, shown, pixels)


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
