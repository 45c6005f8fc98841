"""What a stage trains on: GAN samples, their re-renderings under random views and lights (pseudo images), and
the projections of those.

n samples, m re-renderings each, working size s. Images are stored as uint8, channels first; ``to_float``
brings them to [-1, 1]."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.gan.training.images import open_images, packed_images
from lift3d.masks import morphology
from lift3d.masks.sources import MaskSource, mask_source
from lift3d.model import LiftedGAN
from lift3d.observer import Observer, observed
from lift3d.pseudo_labels.labeler import new_labeler
from lift3d.render.maps import Maps, shade_maps
from lift3d.render.mesh import gbuffer, prepare, render_mesh
from lift3d.scene.batch import Batch
from lift3d.scene.cameras import Cameras
from lift3d.scene.cameras import mirrored as mirrored_views
from lift3d.scene.geometry import visibility
from lift3d.scene.images import colors_to_images, images_to_colors, resize, to_bytes, to_float
from lift3d.scene.lights import Lights
from lift3d.scene.lights import mirrored as mirrored_lights
from lift3d.scene.mesh import Mesh
from lift3d.train.ranks import ALONE, Ranks

TRAINING_MESH = 48  # grid cells a side of the meshes that are re-rendered
AT_ONCE = 256  # pictures
SYNTHESIS_BATCH = 16  # images that the GAN draws at a time: at 512 pixels, about 1 GB per layer
OCCLUDED = 0.05  # world units behind the visible surface: another part of it hides the point
DARKEST = 0.2  # diffuse factor below which an image says nothing of the albedo
Same = TypeVar("Same", bound=Batch)
Label = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # images and masks -> views and lights


@dataclass(frozen=True, repr=False)
class Images(Batch):
    """Images of objects of a category: photographs, GAN samples [n], pseudo images or projections [n, m]."""

    images: UInt8[Tensor, "*n 3 s s"]
    masks: Bool[Tensor, "*n s s"]
    views: Float[Tensor, "*n 6"] | None = None  # where they are known, if only by pseudo-labels
    lights: Float[Tensor, "*n 5"] | None = None

    @cached_property
    def near(self) -> Bool[Tensor, "*n s s"]:
        """Where the objects are near."""
        return morphology.near(self.masks)

    @cached_property
    def inside(self) -> Bool[Tensor, "*n s s"]:
        """The masks without pixels that the background has a share in."""
        return morphology.interior(self.masks)

    @cached_property
    def near_inside(self) -> Bool[Tensor, "*n s s"]:
        """``near`` what is ``inside``."""
        return morphology.near(self.inside)

    def tensors(self, *names: str) -> dict[str, Tensor]:
        """The tensors of these names, or all that are there."""
        found = {name: getattr(self, name) for name in names or [f.name for f in fields(self)]}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def labeled(self: Same, label: Label) -> Same:
        """The same images with their pseudo-labels."""
        shape = self.batch_shape
        views, lights = label(self.images.flatten(0, -4), self.masks.flatten(0, -3))
        return replace(self, views=views.unflatten(0, shape), lights=lights.unflatten(0, shape))


@dataclass(frozen=True, repr=False)
class SampleSet(Images):
    """Images that the GAN drew."""

    w: Float[Tensor, "*n w"] = field(kw_only=True)
    seeds: Int64[Tensor, "*n"] = field(kw_only=True)


def mirrored(batch: Same, flip: Bool[Tensor, " n"]) -> Same:
    """Images [n] with what belongs to them, of which some are mirrored: objects are taken to be symmetric."""
    others = {
        "views": mirrored_views,
        "lights": mirrored_lights,
        "points": lambda points: points * points.new_tensor((-1.0, 1.0, 1.0)),
        "sdf": lambda sdf: sdf,
        "seen": lambda seen: seen,
    }
    changed = {}
    for f in fields(batch):
        own = getattr(batch, f.name)
        other = others.get(f.name, lambda image: image.flip(-1))(own)
        changed[f.name] = torch.where(flip.view(-1, *(1,) * (own.ndim - 1)), other, own)
    return replace(batch, **changed)


def open_photographs(
    path: Path, out: Path, size: int, masks: MaskSource, observer: Observer, resume: bool = False
) -> Images:
    """The pictures of a folder, or of a .npy file [n, side, side, 3] of bytes, at ``size`` pixels; ``out`` is
    where a folder is packed. ``ConfigError`` for other files, ``CorruptFile`` for damaged ones.
    """
    array = packed_images(path, out, size, observer, resume) if path.is_dir() else open_images(path)
    if array.ndim != 4 or array.dtype != np.uint8 or array.shape[1] != array.shape[2] or array.shape[3] != 3:
        raise ConfigError(f"{path} holds {array.dtype} {array.shape}, expected bytes [n, side, side, 3]")
    found, cut = [], []
    for start in range(0, len(array), AT_ONCE):
        part = torch.from_numpy(array[start : start + AT_ONCE].copy()).permute(0, 3, 1, 2).contiguous()
        if part.shape[-1] != size:
            part = to_bytes(resize(to_float(part), size))
        found.append(part)
        cut.append(masks(part, [f"photographs/{start + i}" for i in range(len(part))]))
    return Images(torch.cat(found), torch.cat(cut))


def draw_samples(model: LiftedGAN, n: int, first_seed: int, masks: MaskSource | None = None) -> SampleSet:
    """Samples of seeds first_seed..first_seed + n - 1 at the preset's truncation; ``masks`` defaults to the
    preset's source.
    """
    seeds = torch.arange(first_seed, first_seed + n)
    w = [model.to_w(model.latents(part.tolist())) for part in seeds.split(SYNTHESIS_BATCH)]
    return samples_of(model, torch.cat(w), seeds, masks)


@torch.no_grad()
def samples_of(
    model: LiftedGAN, w: Float[Tensor, "n w"], seeds: Int64[Tensor, " n"], masks: MaskSource | None = None
) -> SampleSet:
    """Samples of latents; ``seeds`` name them, for their masks."""
    parts = w.to(model.device).split(SYNTHESIS_BATCH)
    images = torch.cat([to_bytes(model.images(part)).cpu() for part in parts])
    found = (masks or mask_source(model.config))(images, [str(seed) for seed in seeds.tolist()])
    return SampleSet(images, found, w=w.cpu(), seeds=seeds)


@torch.no_grad()
def rerender(
    model: LiftedGAN,
    samples: Images,
    m: int,
    rng: torch.Generator,
    observer: Observer,
    *,
    one_shape: bool,
    predict: bool,
    ranks: Ranks = ALONE,
) -> Images:
    """m views and lights per sample from the priors, rendered from the current surface and material.
    ``ranks`` share out the samples.

    ``one_shape``: all codes still have the prior's, whose mesh is found once and only repainted. ``predict``
    as in ``own_view_and_light``."""
    config, n = model.config, len(samples)
    views = config.view_prior.sample(n * m, rng).view(n, m, 6)
    lights = config.light_prior.sample(n * m, rng).view(n, m, 5)

    def draw(index: Int64[Tensor, " k"]) -> tuple[UInt8[Tensor, "k m 3 s s"], Bool[Tensor, "k m s s"]]:
        geometry, shape = None, (len(index), m, config.size, config.size)
        pseudo = torch.empty(*shape[:2], 3, *shape[2:], dtype=torch.uint8)
        masks = torch.empty(shape, dtype=torch.bool)
        for k, i in enumerate(observed(observer, "re-rendering", index.tolist())):
            image = to_float(samples.images[i].to(model.device))
            code = model.image_encoder(image[None])[0]
            if geometry is None or not one_shape:
                geometry = model.geometry(code, TRAINING_MESH)
            mesh, found = model.evaluate_material(geometry, code, shown=False), None
            if config.transfer_residual:
                view, light = own_view_and_light(model, samples, torch.tensor([i]), predict)
                found = residual(mesh, image, samples.inside[i].to(model.device), view[0], light[0])
            cameras = Cameras.from_view(views[i].to(model.device))
            lamps = Lights.from_vector(lights[i, :, None].to(model.device))
            out = render_detailed(mesh, found, cameras, lamps, config.size, model.background)
            pseudo[k], masks[k] = to_bytes(colors_to_images(out.colors[:, 0])), out.mask
        return pseudo, masks

    return Images(*ranks.divided(draw)(torch.arange(n)), views, lights)


@torch.no_grad()
def own_view_and_light(
    model: LiftedGAN, samples: Images, index: Int64[Tensor, " k"], predict: bool
) -> tuple[Float[Tensor, "k 6"], Float[Tensor, "k 5"]]:
    """View and light of some samples' own images: what E_v and E_l ``predict``, or else those of ``samples``,
    or else the prior's means.
    """
    if predict:
        images = to_float(samples.images[index].to(model.device))
        return model.view_encoder(images), model.light_encoder(images)
    means = model.config.view_prior.typical(), model.config.light_prior.mean()
    view, light = (
        mean.expand(len(index), -1) if known is None else known[index]
        for mean, known in zip(means, (samples.views, samples.lights), strict=True)
    )
    return view.to(model.device), light.to(model.device)


@dataclass(frozen=True)
class Residual:
    """What a mesh's material leaves unexplained of an image, to be looked up at points of the surface."""

    layers: Float[Tensor, "5 s s"]  # unexplained colors, where they are known, z-depth
    camera: Cameras  # [1], of the image
    light: Lights  # of one

    def albedo(self, points: Float[Tensor, "p 3"], normals: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
        """By how much the albedo of points must change to explain the image; 0 where it does not show them,
        fading out towards the outline.
        """
        grid = self.camera.project(points[None], self.layers.shape[-1])[0] / self.layers.shape[-1] * 2 - 1
        at = F.grid_sample(self.layers[None], grid[None, None], align_corners=False)[0, :, 0].T
        hidden = self.camera.z_depth(points[None])[0] > at[:, 4] / at[:, 3].clamp_min(1e-3) + OCCLUDED
        weight = visibility(normals, points, self.camera.origins) * ~hidden
        diffuse = self.light.ambient + self.light.diffuse * (normals @ self.light.direction).clamp_min(0.0)
        return weight[:, None] * at[:, :3] / diffuse[:, None].clamp_min(DARKEST)


def residual(
    mesh: Mesh,
    image: Float[Tensor, "3 s s"],
    inside: Bool[Tensor, "s s"],
    view: Float[Tensor, "6"],
    light: Float[Tensor, "5"],
) -> Residual:
    """The residual of an image that was seen from ``view`` under ``light``, known ``inside``: what F_m would
    learn if it had the time.
    """
    camera, lamp = Cameras.from_view(view[None]), Lights.from_vector(light[None])
    out = render_mesh(mesh, camera, lamp, image.shape[-1], (0.0, 0.0, 0.0))
    known = (out.mask[0] & inside)[..., None]
    unexplained = (images_to_colors(image) - out.colors[0, 0]) * known
    layers = torch.cat((unexplained, known.to(unexplained), out.depth[0, ..., None]), -1)
    return Residual(layers.permute(2, 0, 1), camera, Lights.from_vector(light))


def render_detailed(
    mesh: Mesh,
    found: Residual | None,
    cameras: Cameras,
    lights: Lights,
    size: int,
    background: tuple[float, float, float],
) -> Maps:
    """``render_mesh`` with a residual added to the albedo of every pixel: vertices of a training mesh are
    farther apart than pixels, and would blur it.
    """
    if found is None:
        return render_mesh(mesh, cameras, lights, size, background)
    g = gbuffer(mesh, prepare(mesh, cameras.device).fragments(cameras, size), cameras)
    change = found.albedo(g.position.reshape(-1, 3), g.normal.reshape(-1, 3)).view_as(g.position)
    albedo = (g.material.albedo + change).clamp(0, 1) * g.mask[..., None]
    return shade_maps(replace(g, material=replace(g.material, albedo=albedo)), lights, background)


@torch.no_grad()
def project(
    model: LiftedGAN,
    samples: SampleSet,
    pseudo: Images,
    observer: Observer,
    masks: MaskSource,
    folder: str = "stage-0",
    ranks: Ranks = ALONE,
) -> Images:
    """The projections of all pseudo images [n, m] through the trained E_w, with the views and lights that
    were requested, and ``masks``, in which their names stand in a ``folder``. ``ranks`` share out the
    samples; the first one finds the masks.
    """

    def draw(index: Int64[Tensor, " k"]) -> UInt8[Tensor, "k m 3 s s"]:
        projected = torch.empty(len(index), *pseudo.images.shape[1:], dtype=torch.uint8)
        for k, i in enumerate(observed(observer, "projecting", index.tolist())):
            w, original = samples.w[i].to(model.device), to_float(samples.images[i].to(model.device))
            parts = []
            for part in to_float(pseudo.images[i].to(model.device)).split(SYNTHESIS_BATCH):
                images = model.synthesize(w + model.offset(part, original.expand(len(part), -1, -1, -1)))
                parts.append(to_bytes(resize(images, model.config.size)).cpu())
            projected[k] = torch.cat(parts)
        return projected

    images = ranks.divided(draw)(torch.arange(len(samples)))
    names = [f"{folder}/{seed}-{j}" for seed in samples.seeds.tolist() for j in range(images.shape[1])]
    found = ranks.first(lambda: {"masks": masks(images.flatten(0, 1), names)})["masks"]
    return replace(pseudo, images=images, masks=found.view(pseudo.masks.shape))


def label(model: LiftedGAN, projected: Images, unlabeled: SampleSet) -> tuple[Images, SampleSet]:
    """Both with their pseudo-labels after the projections of a stage."""
    find = new_labeler(model, unlabeled.images, unlabeled.masks).label
    return projected.labeled(find), unlabeled.labeled(find)
