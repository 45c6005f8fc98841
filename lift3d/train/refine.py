"""Shading-based refinement of one image (GAN2X supplement, Tables 5 and 6): the joint model predicts fields,
code, view and light, and all of them are then fitted to that image alone.

b images of s x s pixels, r pixels of each. A pixel is shaded where its ray first hits the surface, one point
a pixel, so that normals and material see many pixels in every step. Shading alone says nothing of the outline
and of sides that are not seen: the mask and the joint model do. Colors are in [0, 1], channels last.
"""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lift3d import losses
from lift3d.config.schema import Refinement
from lift3d.masks.background import interior
from lift3d.model import LiftedGAN
from lift3d.networks.fields import condition
from lift3d.observer import Observer, SilentObserver
from lift3d.render.surface_hits import first_hits
from lift3d.scene.images import images_to_colors
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, shade
from lift3d.scene.surface import Surface, sdf_and_gradient, smooth_normal
from lift3d.train.anchors import Anchors, change, near_surface
from lift3d.train.outline import around_outline, outline_loss
from lift3d.train.phase import Group, Losses, Phase
from lift3d.train.pixels import at, pick, pixel_rays, with_neighbors
from lift3d.train.runner import Runner

N_ANCHORS, N_ANCHORS_A_STEP = 2000, 96  # points where the joint model's signed distances are remembered
N_OUTLINE = 128  # pixels around the outline in a step
HELD_OUT = 15  # one pixel in so many says when to stop
CHECK_EVERY = 10  # steps
GAIN = 0.005  # of the error of these pixels, that counts as one


class Instance(nn.Module):
    """Fields, code, view and light of b images of one object."""

    def __init__(
        self,
        model: LiftedGAN,
        code: Float[Tensor, "b c"],
        view: Float[Tensor, "b 6"],
        light: Float[Tensor, "b 5"],
    ) -> None:
        super().__init__()
        self.shape, self.material = copy.deepcopy(model.shape), copy.deepcopy(model.material)
        self.code, self.view, self.light = (nn.Parameter(x.detach().clone()) for x in (code, view, light))
        self.open_bands = float(model.open_bands)
        self.requires_grad_(True)

    def surface(self) -> Surface:
        """The refined fields, as callables."""
        return condition(self.shape, self.material, self.code, self.open_bands)

    def into(self, model: LiftedGAN) -> LiftedGAN:
        """A copy of ``model`` with these fields, without gradients; it shares all other networks."""
        refined = copy.copy(model)
        refined._modules = dict(model._modules)
        refined._buffers = {
            **model._buffers,
            "open_bands": torch.full_like(model.open_bands, self.open_bands),
        }
        refined.shape, refined.material = (copy.deepcopy(x) for x in (self.shape, self.material))
        for field in (refined.shape, refined.material):
            field.requires_grad_(False)
        return refined


@dataclass(frozen=True)
class Target:
    """What the fields are fitted to, and what they must not forget."""

    colors: Float[Tensor, "b s s 3"]
    mask: Bool[Tensor, "b s s"]
    inside: Bool[Tensor, "b s s"]  # without pixels that the background shares, and those held out
    held_out: Bool[Tensor, "b s s"]  # pixels inside that nothing is fitted to
    outline: Bool[Tensor, "b s s"]  # pixels around the mask's border
    view: Float[Tensor, "b 6"]  # predicted
    light: Float[Tensor, "b 5"]
    anchors: Anchors  # near the joint model's surface


def new_target(
    instance: Instance, images: Float[Tensor, "b 3 s s"], masks: Bool[Tensor, "b s s"], rng: torch.Generator
) -> Target:
    """The target of images in [-1, 1] and of an instance that is still as the joint model predicts it."""
    masks = masks.to(images.device)
    view = instance.view.detach()
    anchors = near_surface(instance.surface(), view, N_ANCHORS, rng)
    inside = interior(masks)
    held_out = inside & (inside.flatten(1).cumsum(1) % HELD_OUT == 1).view_as(inside)
    return Target(
        images_to_colors(images),
        masks,
        inside & ~held_out,
        held_out,
        around_outline(masks),
        view.clone(),
        instance.light.detach().clone(),
        anchors,
    )


def refine_groups(instance: Instance, config: Refinement) -> list[Group]:
    """What trains: both fields, the code, the view and the light."""
    return [
        Group(list(instance.shape.parameters()), config.fields),
        Group(list(instance.material.parameters()), config.material),
        Group([instance.code], config.code),
        Group([instance.view], config.view),
        Group([instance.light], config.light),
    ]


def refine_loss(instance: Instance, target: Target, config: Refinement, rng: torch.Generator) -> Losses:
    """One step: colors and smooth albedo of random pixels and their neighbors, the outline, and the joint
    model's signed distances, most of all on the unseen side.
    """
    surface, size = instance.surface(), target.mask.shape[-1]
    pixels = with_neighbors(pick(target.inside, config.n_pixels // 2, rng), size, rng)
    observed, known = at(target.colors, pixels), at(target.inside, pixels)
    colors, material, gradient, hit = _shaded(instance, surface, pixels, size)
    counts = known & hit
    half = pixels.shape[1] // 2
    everywhere = torch.arange(2 * half, device=pixels.device)
    near = everywhere[:half]
    far = torch.randperm(2 * half, generator=rng).to(pixels.device)

    def smooth(
        map_: Float[Tensor, "b p c"], i: Int64[Tensor, " q"], j: Int64[Tensor, " q"], edge: float
    ) -> Float[Tensor, ""]:
        seen = counts[:, i] & counts[:, j]
        return losses.pair_smoothness(
            map_[:, i], map_[:, j], observed[:, i], observed[:, j], seen, config.beta, edge
        )

    k = torch.randint(N_ANCHORS, (N_ANCHORS_A_STEP,), generator=rng).to(pixels.device)
    some = Anchors(*(x[:, k] for x in (target.anchors.points, target.anchors.sdf, target.anchors.seen)))
    away = [
        (now - then).square().sum(-1).mean()
        for now, then in ((instance.view, target.view), (instance.light, target.light))
    ]
    terms = {
        "l1": losses.l1(colors, observed, counts[..., None]),
        "near": config.smooth_albedo * smooth(material.albedo, near, near + half, config.edges[0]),
        "far": config.smooth_far * smooth(material.albedo, everywhere, far, config.edges[1]),
        "specular": config.smooth_specular * smooth(material.specular, near, near + half, config.edges[0]),
        "eikonal": config.eikonal * losses.eikonal(gradient),
        "outline": config.outline
        * outline_loss(surface, instance.view, target.outline, target.mask, N_OUTLINE, rng),
        "joint": change(surface, some, config.seen, config.unseen),
        "prior": config.hold_view * away[0] + config.hold_light * away[1],
    }
    return {"total": sum(terms.values()), **terms}


def refine(
    model: LiftedGAN,
    images: Float[Tensor, "b 3 s s"],
    masks: Bool[Tensor, "b s s"],
    config: Refinement | None = None,
    view: Float[Tensor, "b 6"] | None = None,
    light: Float[Tensor, "b 5"] | None = None,
    code: Float[Tensor, "b c"] | None = None,
    seed: int = 0,
    observer: Observer | None = None,
) -> Instance:
    """Images in [-1, 1] of one object, refined from what ``model`` predicts of them; ``config`` defaults to
    its preset's.

    ``view``, ``light`` and ``code`` replace its predictions where something better is known: pseudo-labels.
    Refinement ends before ``config.iterations`` where pixels that nothing is fitted to no longer gain, and
    goes back to the best state of them."""
    config = model.config.refine if config is None else config
    with torch.no_grad():
        code = model.image_encoder(images) if code is None else code
        view = model.view_encoder(images) if view is None else view
        light = model.light_encoder(images) if light is None else light
    instance, rng = Instance(model, code, view, light), torch.Generator().manual_seed(seed)
    target = new_target(instance, images, masks, rng)
    low, high = config.open_bands
    watch = Watch(instance, target, config.patience)

    def step(number: int) -> Losses:
        instance.open_bands = low + (high - low) * number / max(1, config.iterations - 1)
        return refine_loss(instance, target, config, rng)

    phase = Phase(
        "refine", "refine", {"phase": "refine"}, config.iterations, refine_groups(instance, config),
        lambda state: step, cooldown=config.cooldown, until=watch,
    )  # fmt: skip
    Runner(None, {}, {}, rng, observer or SilentObserver()).run([phase])
    watch.restore()
    return instance.requires_grad_(False)


class Watch:
    """Says when a refinement no longer helps: its pixels that are held out have not gained for a while."""

    def __init__(self, instance: Instance, target: Target, patience: int) -> None:
        self.instance, self.target, self.patience = instance, target, patience
        index = torch.arange(target.held_out[0].numel(), device=target.held_out.device)
        self.pixels = index.expand(len(target.held_out), -1)[:, target.held_out.any(0).flatten()]
        self.best, self.best_step = self.error(), 0
        self.kept = copy.deepcopy(instance.state_dict()), instance.open_bands

    @torch.no_grad()
    def error(self) -> float:
        """Mean absolute error of the held-out pixels' colors."""
        size = self.target.mask.shape[-1]
        colors, _, _, hit = _shaded(self.instance, self.instance.surface(), self.pixels, size)
        seen = hit & at(self.target.held_out, self.pixels)
        return losses.l1(colors, at(self.target.colors, self.pixels), seen[..., None]).item()

    def __call__(self, step: int) -> bool:
        """After a step: whether it is enough."""
        if (step + 1) % CHECK_EVERY:
            return False
        error = self.error()
        if error < (1 - GAIN) * self.best:
            self.best, self.best_step = error, step
            self.kept = copy.deepcopy(self.instance.state_dict()), self.instance.open_bands
        return step - self.best_step >= self.patience

    def restore(self) -> None:
        """Back to the best state."""
        state, self.instance.open_bands = self.kept
        self.instance.load_state_dict(state)


def _shaded(
    instance: Instance, surface: Surface, pixels: Int64[Tensor, "b n"], size: int
) -> tuple[Float[Tensor, "b n 3"], Material, Float[Tensor, "b n 3"], Bool[Tensor, "b n"]]:
    """Colors, material and gradient where the pixels' rays first hit the surface, and which do."""
    origins, directions = pixel_rays(instance.view, pixels, size)
    t, hit = first_hits(surface, origins, directions)
    points = origins + t[..., None] * directions
    _, feature, gradient = sdf_and_gradient(surface, points, create_graph=torch.is_grad_enabled())
    normal = smooth_normal(gradient)
    material = surface.material(points, normal, feature)
    lights = Lights.from_vector(instance.light)[:, None]
    return shade(normal, -directions, material, lights), material, gradient, hit
