"""The losses of the three steps of a stage (method.md, section 3): explore -> align -> exploit.

Each ``*_loss`` draws one batch from what the stage trains on and returns named losses; which parameters train
is ``*_groups``. The random generator is explicit, so a step depends on the state alone."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lift3d import losses
from lift3d.config.schema import Schedule
from lift3d.gan.stylegan2 import Discriminator
from lift3d.masks.background import interior
from lift3d.model import LiftedGAN
from lift3d.pseudo_labels.labeler import PseudoLabels
from lift3d.render.surface_hits import first_hits
from lift3d.render.volume import RaySamples, render_rays, trace
from lift3d.scene.cameras import Cameras
from lift3d.scene.cameras import mirrored as mirrored_views
from lift3d.scene.geometry import normalize
from lift3d.scene.images import resize, to_float
from lift3d.scene.lights import Lights
from lift3d.scene.lights import mirrored as mirrored_lights
from lift3d.scene.shading import Material, shade
from lift3d.scene.surface import Surface, sdf_and_gradient, smooth_normal
from lift3d.train.data import Rerendered, SampleSet, own_view_and_light
from lift3d.train.runner import Group, Losses

N_FEATURES = 4  # discriminator blocks in the projection loss
N_BALL = 64  # uniform points per object in the eikonal loss
FAR = 0.1  # chance of a pixel far from the object, relative to one near it or inside


@dataclass(frozen=True)
class Rays:
    """Pixels of b images: r random ones, or the p x p pixels of a patch, row by row."""

    position: Float[Tensor, "b r 2"]  # (x, y) centers, pixels
    target: Float[Tensor, "b r 3"]  # [0, 1]
    mask: Bool[Tensor, "b r"]
    patch: int  # p, or 0


def explore_groups(model: LiftedGAN, stage: int) -> list[Group]:
    """Step 1 trains F_m, and in the first stage E_I, without which a code means nothing."""
    rates = model.config.rates
    groups = [Group(list(model.material.parameters()), rates.material_explore)]
    if stage == 0:
        groups.append(Group(list(model.image_encoder.parameters()), rates.encoders))
    return groups


def align_groups(model: LiftedGAN) -> list[Group]:
    """Step 2 trains E_w."""
    return [Group(list(model.gan_encoder.parameters()), model.config.rates.gan_encoder)]


def exploit_groups(model: LiftedGAN) -> list[Group]:
    """Step 3 trains the fields, their sharpness, E_I, E_v and E_l."""
    rates = model.config.rates
    encoders = (model.image_encoder, model.view_encoder, model.light_encoder)
    return [
        Group([*model.shape.parameters(), *model.material.parameters()], rates.fields),
        Group([model.log_sharpness], 4 * rates.fields),
        Group([p for e in encoders for p in e.parameters()], rates.encoders),
    ]


def explore_loss(
    model: LiftedGAN, samples: SampleSet, schedule: Schedule, stage: int, rng: torch.Generator
) -> Losses:
    """Step 1: fit the material of the fixed shape to the samples' own images, seen at predicted views and
    lights.

    In the first stage, those that the samples bring, or else the prior's means.
    """
    config = model.config
    count, is_patch = _draw(model, config.batch.n_surface, rng)
    index = torch.randint(len(samples.w), (count,), generator=rng)
    image = to_float(samples.images[index].to(model.device))
    masks = interior(samples.masks[index])  # a surface point has no share of the background
    rays = _rays(model, image, masks, config.batch.n_surface, is_patch, rng)
    view, light = own_view_and_light(model, samples, index, first=stage == 0)
    with torch.set_grad_enabled(stage == 0):
        code = model.image_encoder(image)
    color, material, hit = _shade_hits(model, model.surface(code), view, light, rays, fixed_shape=True)
    seen = rays.mask & hit
    terms = {"l1": losses.l1(color, rays.target, seen[..., None])}
    total = terms["l1"]
    if is_patch:
        terms["smooth"] = _smoothness(
            material.albedo, material.specular, rays, seen, schedule, config.weights.beta
        )
        total = total + terms["smooth"]
    return {"total": total, **terms}


def latent_loss(
    model: LiftedGAN, unlabeled: SampleSet, rerendered: Rerendered, rng: torch.Generator
) -> Losses:
    """Before the first step 2: E_w learns by which latents GAN samples differ, w_a + dw(I_b) = w_b.

    I_b is cut out like a pseudo image of the first stage, and the latents are compared by the styles that
    they give: that teaches E_w views and lights at a fraction of the cost of images. Relative loss: 1 is what
    dw = 0 scores."""
    n = model.config.batch.n_latent
    a, b = torch.randint(len(unlabeled.w), (2, n), generator=rng)
    shapes = rerendered.pseudo_masks.flatten(0, 1)
    shapes = shapes[torch.randint(len(shapes), (n,), generator=rng)].to(model.device)
    image = to_float(unlabeled.images[b].to(model.device))
    inside = unlabeled.masks[b, None].to(image)
    tone = (image * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp_min(1)
    image = torch.where(inside > 0, image, tone)
    image = torch.where(shapes[:, None], image, 2 * model.background[0] - 1)
    step = model.offset(image, to_float(unlabeled.images[a].to(model.device)))
    w = unlabeled.w.to(model.device)
    styles = model.generator.styles
    error = styles(w[a] + step) - styles(w[b])
    total = error.square().sum(-1).mean() / (styles(w[a]) - styles(w[b])).square().sum(-1).mean()
    return {"total": total, "latent": total}


def align_loss(
    model: LiftedGAN,
    samples: SampleSet,
    rerendered: Rerendered,
    discriminator: Discriminator,
    stage: int,
    rng: torch.Generator,
) -> Losses:
    """Step 2: E_w learns to project pseudo images onto the GAN.

    Once the surface is more than the prior, a constant background is part of the picture: the outline says
    much of the view. Then E_v and E_l can also tell whether the projection shows what was requested."""
    weights, device = model.config.weights, model.device
    n, m = rerendered.views.shape[:2]
    i = torch.randint(n, (model.config.batch.n_align,), generator=rng)
    j = torch.randint(m, (len(i),), generator=rng)
    pseudo, original = to_float(rerendered.pseudo[i, j].to(device)), to_float(samples.images[i].to(device))
    delta = model.offset(pseudo, original)
    projected = resize(model.synthesize(samples.w[i].to(device) + delta), model.config.size)
    mask = None
    if stage == 0 or model.config.background is None:
        mask = rerendered.pseudo_masks[i, j][:, None].to(device)
    loss = losses.projection(
        projected, pseudo, mask, delta,
        lambda x: discriminator.features(x, N_FEATURES), weights.features, weights.offset,
    )  # fmt: skip
    terms = {"pixels": loss.pixels, "features": loss.features, "offset": loss.offset}
    total = loss.total
    if weights.consistency and stage > 0:
        view, light = rerendered.views[i, j].to(device), rerendered.lights[i, j].to(device)
        terms["consistency"] = losses.view_light(
            model.view_encoder.tanh(projected), model.view_encoder.to_tanh(view),
            model.light_encoder.tanh(projected), model.light_encoder.to_tanh(light),
        )  # fmt: skip
        total = total + weights.consistency * terms["consistency"]
    return {"total": total, **terms}


def exploit_loss(
    model: LiftedGAN,
    samples: SampleSet,
    rerendered: Rerendered,
    schedule: Schedule,
    perceptual: torch.nn.Module,
    stage: int,
    rng: torch.Generator,
    pseudo_labels: PseudoLabels | None = None,
) -> Losses:
    """Step 3: geometry, material, views and lights from the projections and from clean samples: those that
    were projected, or the unlabeled samples of the ``pseudo_labels``.
    """
    weights = model.config.weights
    n, m = rerendered.views.shape[:2]
    batch = model.config.batch
    count, is_patch = _draw(model, batch.n_rays, rng)
    index = torch.randint(n, (count,), generator=rng)
    j = torch.randint(m, (count,), generator=rng)
    own = torch.rand(count, generator=rng) < (1 / (m + 1) if batch.p_original is None else batch.p_original)
    clean = samples if pseudo_labels is None else pseudo_labels.unlabeled  # the more people, the better
    k = torch.randint(len(clean.images), (count,), generator=rng)
    pick = own[:, None, None, None]
    original = torch.where(pick, clean.images[k], samples.images[index])
    image = torch.where(pick, clean.images[k], rerendered.projected[index, j])
    mask = torch.where(pick[:, 0], clean.masks[k], rerendered.projected_masks[index, j])
    original, image = to_float(original.to(model.device)), to_float(image.to(model.device))
    rays = _rays(model, image, mask, batch.n_rays, is_patch, rng)

    view, light, code = model.view_encoder(image), model.light_encoder(image), model.image_encoder(original)
    mirror = None
    if stage == 0:  # symmetry assumption: finds the canonical pose
        mirror = 1.0 - 2.0 * torch.randint(2, index.shape, generator=rng).to(image)
    color, traced = _render(model, code, view, light, rays, rng, mirror=mirror)

    ball = normalize(torch.randn(len(index), N_BALL, 3, generator=rng))
    ball = (ball * torch.rand(len(index), N_BALL, 1, generator=rng) ** (1 / 3)).to(image)
    gradient = torch.cat((traced.gradient, _gradient(model, code, ball, mirror)), 1)
    share = F.pad(traced.share, (0, N_BALL), value=1.0)
    terms = {"l1": losses.l1(color, rays.target), "eikonal": losses.eikonal(gradient, share)}
    total = terms["l1"] + weights.eikonal * terms["eikonal"]
    if (
        batch.n_surface_pixels and not is_patch
    ):  # normals and material, of many more pixels than rays can pay for
        dense = _rays(model, image, interior(mask), batch.n_surface_pixels, False, rng)
        shaded, _, hit = _shade_hits(model, model.surface(code, mirror), view, light, dense)
        terms["shaded"] = losses.l1(shaded, dense.target, (dense.mask & hit)[..., None])
        total = total + terms["shaded"]
    if weights.view_light:
        terms["view_light"] = _view_light(model, rerendered, pseudo_labels, rng)
        total = total + weights.view_light * terms["view_light"]
    if weights.mask:
        terms["mask"] = losses.mask_bce(traced.opacity, rays.mask)
        total = total + weights.mask * terms["mask"]
    if is_patch:
        side = (-1, rays.patch, rays.patch, 3)
        patches = [x.reshape(side).permute(0, 3, 1, 2) * 2 - 1 for x in (color, rays.target)]
        terms["perceptual"] = perceptual(*patches).mean()
        opacity = traced.opacity.detach()[..., None].clamp_min(1e-3)
        albedo = traced.composite(traced.material.albedo) / opacity
        specular = traced.composite(traced.material.specular) / opacity
        seen = rays.mask & (traced.opacity > 0.5)
        terms["smooth"] = _smoothness(albedo, specular, rays, seen, schedule, weights.beta)
        total = total + weights.perceptual * terms["perceptual"] + terms["smooth"]
    return {"total": total, **terms}


def _view_light(
    model: LiftedGAN, rerendered: Rerendered, pseudo_labels: PseudoLabels | None, rng: torch.Generator
) -> Float[Tensor, ""]:
    """Predicted against known views and lights, over images of their own: they cost no rendering.

    Projections know what was sampled, or what the ``pseudo_labels`` say of them; then half of the images
    are GAN samples with theirs. Half of all images are mirrored, as objects are taken to be symmetric."""
    n, m = rerendered.views.shape[:2]
    i = torch.randint(n, (model.config.batch.n_view_light,), generator=rng)
    j = torch.randint(m, i.shape, generator=rng)
    flip = torch.rand(len(i), 1, generator=rng) < 0.5
    known = rerendered if pseudo_labels is None else pseudo_labels
    image, view, light = rerendered.projected[i, j], known.views[i, j], known.lights[i, j]
    if pseudo_labels is not None:
        n_read = len(i) // 2
        k = torch.randint(len(pseudo_labels.unlabeled.images), (n_read,), generator=rng)
        image[:n_read], view[:n_read] = pseudo_labels.unlabeled.images[k], pseudo_labels.unlabeled_views[k]
        light[:n_read] = pseudo_labels.unlabeled_lights[k]
    image = torch.where(flip[..., None, None], image.flip(-1), image)
    view = torch.where(flip, mirrored_views(view), view)
    light = torch.where(flip, mirrored_lights(light), light)
    image = to_float(image.to(model.device))
    if model.config.batch.jitter:
        image = jittered(image, model.config.batch.jitter, rng)
    views, lights = model.view_encoder.tanh(image), model.light_encoder.tanh(image)
    return losses.view_light(
        views,
        model.view_encoder.to_tanh(view.to(image)),
        lights,
        model.light_encoder.to_tanh(light.to(image)),
    )


def jittered(
    images: Float[Tensor, "b 3 s s"], share: float, rng: torch.Generator
) -> Float[Tensor, "b 3 s s"]:
    """Every image stretched along both axes by up to ``share``, moved and slanted by half as much at most,
    its edge continued: sizes and proportions say nothing of views and lights.
    """
    n = len(images)
    draw = lambda limit: limit * (2 * torch.rand(n, generator=rng) - 1)  # noqa: E731
    zero = torch.zeros(n)
    x = torch.stack((1 + draw(share), draw(share / 2), draw(share / 2)), -1)
    y = torch.stack((zero, 1 + draw(share), draw(share / 2)), -1)
    grid = F.affine_grid(torch.stack((x, y), 1), list(images.shape), align_corners=False).to(images)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _draw(model: LiftedGAN, n_rays: int, rng: torch.Generator) -> tuple[int, bool]:
    """Number of images of one iteration: a coin decides between random pixels and patches [S]."""
    batch = model.config.batch
    is_patch = bool(torch.randint(2, (), generator=rng))
    return (max(1, n_rays // batch.patch**2) if is_patch else batch.n_images), is_patch


def _rays(
    model: LiftedGAN,
    images: Float[Tensor, "b 3 s s"],
    masks: Bool[Tensor, "b s s"],
    n_rays: int,
    is_patch: bool,
    rng: torch.Generator,
) -> Rays:
    """n_rays / b random pixels of each image or one patch, rarely far from the object: there is little to
    learn there.
    """
    size, patch, count = model.config.size, model.config.batch.patch, len(images)
    reach = size // 16
    near = F.max_pool2d(masks[:, None].float(), 2 * reach + 1, 1, reach)[:, 0]
    density = near.clamp_min(FAR).flatten(1)
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


def _render(
    model: LiftedGAN,
    code: Float[Tensor, "b c"],
    view: Float[Tensor, "b 6"],
    light: Float[Tensor, "b 5"],
    rays: Rays,
    rng: torch.Generator,
    mirror: Float[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b r 3"], RaySamples]:
    """Colors of rays at given views and lights; gradients flow into the fields, the code, the view and the
    light.
    """
    origins, directions = Cameras.from_view(view).rays(rays.position, model.config.size)
    surface = model.surface(code, mirror)
    traced = trace(
        surface,
        origins,
        directions,
        model.sharpness,
        model.config.sampling,
        rng,
        create_graph=True,
    )
    background = rays.target if model.config.background is None else model.config.background
    return render_rays(traced, directions, Lights.from_vector(light), background), traced


def _shade_hits(
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


def _gradient(
    model: LiftedGAN, code: Tensor, points: Float[Tensor, "b p 3"], mirror: Tensor | None
) -> Float[Tensor, "b p 3"]:
    return sdf_and_gradient(model.surface(code, mirror), points, create_graph=True)[2]


def _smoothness(
    albedo: Float[Tensor, "b r 3"],
    specular: Float[Tensor, "b r 1"],
    rays: Rays,
    seen: Bool[Tensor, "b r"],
    schedule: Schedule,
    beta: float,
) -> Float[Tensor, ""]:
    """Chromaticity-based smoothness of the albedo and specularity maps of patches, weighted."""

    def patches(x: Tensor) -> Tensor:
        return x.view(-1, rays.patch, rays.patch, *x.shape[2:])

    target, inside = patches(rays.target), patches(seen)
    smooth_albedo = losses.smoothness(patches(albedo), target, inside, beta)
    smooth_specular = losses.smoothness(patches(specular), target, inside, beta)
    return schedule.smooth_albedo * smooth_albedo + schedule.smooth_specular * smooth_specular
