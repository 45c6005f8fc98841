"""Shading-based refinement of one image (GAN2X supplement, Tables 5 and 6): the joint model predicts fields,
code, view and light, and all of them are then fitted to that image alone.

b images of s x s pixels, r pixels of each. A pixel is shaded where its ray first hits the surface, one point
a pixel, so that normals and material see many pixels in every step. As in distillation, shape learns from the
albedo that the image implies (implied.py), and F_m from colors on a surface that is fixed; highlights are
where colors show them (highlights.py). Shading alone says nothing of the outline and of sides that are not
seen: the mask and the joint model do. Colors are in [0, 1], channels last.
"""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lift3d import losses
from lift3d.config.schema import Refinement
from lift3d.masks.morphology import around_outline, interior
from lift3d.model import LiftedGAN
from lift3d.networks.fields import condition
from lift3d.networks.sharing import sharing
from lift3d.observer import Observer, SilentObserver
from lift3d.scene.images import images_to_colors, resize
from lift3d.scene.lights import Lights
from lift3d.scene.shading import shading
from lift3d.scene.surface import Surface
from lift3d.train.anchors import Anchors, change, near_surface
from lift3d.train.highlights import highlight_loss
from lift3d.train.implied import implied_albedo, shape_loss, smoothness
from lift3d.train.outline import outline_loss
from lift3d.train.phase import Group, Losses, Phase
from lift3d.train.pixels import at, pick, see, with_neighbors
from lift3d.train.runner import Runner

N_ANCHORS, N_ANCHORS_A_STEP = 2000, 96  # points where the joint model's signed distances are remembered
N_OUTLINE = 128  # pixels around the outline in a step
SMOOTH = 0.05  # of the smoothness of the albedo is left beside the robust loss, which keeps its edges
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
        shape, material = (
            copy.deepcopy(field).requires_grad_(False) for field in (self.shape, self.material)
        )
        bands = torch.full_like(model.open_bands, self.open_bands)
        return sharing(model, shape=shape, material=material, open_bands=bands)


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
        Group.of(config.fields, instance.shape),
        Group.of(config.material, instance.material),
        Group([instance.code], config.code),
        Group([instance.view], config.view),
        Group([instance.light], config.light),
    ]


def refine_loss(instance: Instance, target: Target, config: Refinement, rng: torch.Generator) -> Losses:
    """One step: what random pixels and their neighbors imply, their colors and smooth material, the outline,
    and the joint model's signed distances, most of all on the unseen side.
    """
    surface, size = instance.surface(), target.mask.shape[-1]
    pixels = with_neighbors(pick(target.inside, config.n_pixels // 2, rng), size, rng)
    observed, seen = at(target.colors, pixels), see(surface, instance.view, pixels, size)
    counts, material = at(target.inside, pixels) & seen.hit, seen.fixed.material
    implied = implied_albedo(observed, seen.shading(instance.light), counts, rng)

    lamps = Lights.from_vector(instance.light).per_point(1)
    mirrored = shading(seen.normal, seen.to_camera, material, lamps).specular

    def smooth(values: Float[Tensor, "b p c"], pairs: Int64[Tensor, "2 q"]) -> Float[Tensor, ""]:
        return smoothness(implied, values, pairs, config.beta)

    chosen = torch.randint(N_ANCHORS, (N_ANCHORS_A_STEP,), generator=rng).to(pixels.device)
    anchors = target.anchors.some(chosen.expand(len(pixels), -1))
    away = [
        (now - then).square().sum(-1).mean()
        for now, then in ((instance.view, target.view), (instance.light, target.light))
    ]
    terms = {
        "shape": config.shape * shape_loss(implied),
        "l1": losses.l1(seen.fixed.colors(instance.light), observed, counts[..., None]),
        "highlights": config.highlights * highlight_loss(mirrored, observed, material.albedo, counts),
        "near": SMOOTH * config.smooth_albedo * smooth(material.albedo, implied.near),
        "far": SMOOTH * config.smooth_far * smooth(material.albedo, implied.far),
        "specular": config.smooth_specular
        * (smooth(material.specular, implied.near) + smooth(material.specular, implied.far)),
        "eikonal": config.eikonal * losses.eikonal(seen.gradient),
        "outline": config.outline
        * outline_loss(surface, instance.view, target.outline, target.mask, N_OUTLINE, rng),
        "joint": change(surface, anchors, config.hold_seen, config.hold_unseen),
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
        pairs = zip((code, view, light), model.encode(resize(images, model.config.size)), strict=True)
    start = [predicted if given is None else given for given, predicted in pairs]
    instance, rng = Instance(model, *start), torch.Generator().manual_seed(seed)
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
        anywhere = target.held_out.any(0).flatten().nonzero()[:, 0]
        self.pixels = anywhere.expand(len(target.held_out), -1)
        self.best, self.best_step = self.error(), 0
        self.kept = copy.deepcopy(instance.state_dict()), instance.open_bands

    @torch.no_grad()
    def error(self) -> float:
        """Mean absolute error of the held-out pixels' colors."""
        instance, target, pixels = self.instance, self.target, self.pixels
        seen = see(instance.surface(), instance.view, pixels, target.mask.shape[-1])
        counts = seen.hit & at(target.held_out, pixels)
        colors = seen.colors(instance.light)
        return losses.l1(colors, at(target.colors, pixels), counts[..., None]).item()

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
        """Back to the best state, if the last steps, since it was looked at, have not made a better one."""
        if self.error() >= (1 - GAIN) * self.best:
            state, self.instance.open_bands = self.kept
            self.instance.load_state_dict(state)
