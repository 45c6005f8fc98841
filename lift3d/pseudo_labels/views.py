"""Views of images by registration with the mean look of their category (multi-reference alignment).

All images are seen on one mean shape. Unprojected at the right views, thousands of them average to a sharp
mean texture; at one and the same view, to a blur that still knows where a face is darker. So rounds of
*average the textures at the current views* and *give every image the view where the mean matches it best*
start from one view for all and end with views of all, up to a common turn, which the prior settles.

What is compared is local contrast, which light changes little, and the outline. The object is taken to be
symmetric in x, so every image counts for its mirror image, too.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from lift3d.render.mesh import prepare
from lift3d.render.rasterize import Fragments, interpolate
from lift3d.scene.cameras import Cameras, ViewPrior, mirrored, placed
from lift3d.scene.geometry import visibility
from lift3d.scene.mesh import Mesh

SIZE = 64  # pixels a side at which images are compared, at most
STEP = 0.06  # radians between neighbors of the grid of views
ROUNDS = 5
SURROUNDINGS = 3 / 64  # standard deviation of what contrast is relative to, of the picture's side
DARKEST = 0.03  # intensity below which contrast is noise
OUTLINE = 0.5  # weight of the masks' IoU beside the correlation of the looks
PRIOR = 0.01  # weight of the prior's log density beside them
STRETCH = 1.3  # by which views are spread to match the prior, at most; roll is measured too coarsely for more
CHUNK = 256  # images or views at a time


@dataclass(frozen=True)
class Template:
    """The mean look of a category from a grid of views."""

    views: Float[Tensor, "g 6"]  # about the pivot; pitch-major, then yaw, then roll
    shape: tuple[int, int, int]  # of the grid
    looks: Float[Tensor, "g d"]  # features of the renders, unit norm
    masks: Float[Tensor, "g p"]
    log_prior: Float[Tensor, " g"]
    mean: Float[Tensor, "6"]
    stretch: Float[Tensor, "6"]  # of views about the mean
    pivot: tuple[float, ...]  # of the prior

    def find(self, images: UInt8[Tensor, "n 3 s s"], masks: Bool[Tensor, "n s s"]) -> Float[Tensor, "n 6"]:
        """Views of images: the best of the grid, refined by parabolas through its neighbors, stretched."""
        turns = self.mean + (self._find(*features(images, masks)) - self.mean) * self.stretch
        return placed(turns, self.pivot)

    def _find(self, looks: Float[Tensor, "n c h h"], masks: Float[Tensor, "n h h"]) -> Float[Tensor, "n 6"]:
        parts = zip(looks.flatten(1).split(CHUNK), masks.flatten(1).split(CHUNK))
        return torch.cat([self._best(*part) for part in parts])

    def _best(self, looks: Float[Tensor, "n d"], masks: Float[Tensor, "n p"]) -> Float[Tensor, "n 6"]:
        shared = masks @ self.masks.T
        iou = shared / (masks.sum(1, keepdim=True) + self.masks.sum(1) - shared).clamp_min(1)
        score = F.normalize(looks) @ self.looks.T + OUTLINE * iou + PRIOR * self.log_prior
        index = score.argmax(1)
        views, score = self.views[index].clone(), score.unflatten(1, self.shape)
        at = torch.stack(torch.unravel_index(index, self.shape))
        for axis, n in enumerate(self.shape):
            views[:, axis] += STEP * _parabola(score, at, axis, n)
        return views


def _parabola(
    score: Float[Tensor, "n p y r"], at: Int64[Tensor, "3 n"], axis: int, n: int
) -> Float[Tensor, " n"]:
    """Where between its neighbors along an axis a maximum lies, -0.5..0.5 cells; 0 at the grid's ends."""
    rows = torch.arange(len(score), device=score.device)

    def beside(offset: int) -> Tensor:
        where = at.clone()
        where[axis] = (where[axis] + offset).clamp(0, n - 1)
        return score[(rows, *where)]

    low, top, high = beside(-1), beside(0), beside(1)
    bend = low - 2 * top + high
    inside = (at[axis] > 0) & (at[axis] < n - 1) & (bend < -1e-9)
    return torch.where(inside, 0.5 * (low - high) / bend, torch.zeros_like(bend)).clamp(-0.5, 0.5)


def features(
    images: UInt8[Tensor, "n 3 s s"], masks: Bool[Tensor, "n s s"]
) -> tuple[Float[Tensor, "n 2 h h"], Float[Tensor, "n h h"]]:
    """Local contrast of logarithmic brightness and redness inside the masks, and the masks, at ``SIZE``."""
    size = min(SIZE, images.shape[-1])
    parts = []
    for some, inside in zip(images.split(CHUNK), masks.split(CHUNK)):
        rgb, weight = some.float() / 255, inside[:, None].float()
        if size < images.shape[-1]:
            rgb, weight = (F.interpolate(x, (size, size), mode="area") for x in (rgb, weight))
            weight = (weight >= 0.5).float()
        log = rgb.clamp_min(DARKEST).log() * weight
        around = blurred(log) / blurred(weight).clamp_min(1e-3)
        red, green, blue = ((log - around) * weight).clamp(-1, 1).unbind(1)
        looks = torch.stack(((red + green + blue) / 3, 2 * red - green - blue), 1)
        parts.append((looks, weight[:, 0]))
    return tuple(torch.cat(p) for p in zip(*parts))


def blurred(x: Float[Tensor, "n c h h"]) -> Float[Tensor, "n c h h"]:
    """Gaussian means over the ``SURROUNDINGS``; zeros beyond the edge."""
    std, c = SURROUNDINGS * x.shape[-1], x.shape[1]
    reach = int(3 * std)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / std) ** 2)
    kernel = (kernel / kernel.sum()).expand(c, 1, -1)
    x = F.conv2d(x, kernel[:, :, None], padding=(0, reach), groups=c)
    return F.conv2d(x, kernel[..., None], padding=(reach, 0), groups=c)


@torch.no_grad()
def register(
    mesh: Mesh, prior: ViewPrior, images: UInt8[Tensor, "n 3 s s"], masks: Bool[Tensor, "n s s"]
) -> Template:
    """The template that the images of a category give on its mean shape, after ``ROUNDS`` rounds.

    The prior is that of the images. It settles what they cannot: the mean of their views is its mean, and as
    deep shapes that turn little look like flat ones that turn far, their spread is its spread, as far as
    ``STRETCH`` allows."""
    views, shape = view_grid(prior)
    looks, inside = features(images, masks)
    scene, views = prepare(mesh, images.device), views.to(looks)
    cameras = [Cameras.from_view(placed(part, prior.pivot)) for part in views.split(CHUNK)]
    fragments = [scene.fragments(some, looks.shape[-1]) for some in cameras]
    outlines = torch.cat([f.mask for f in fragments]).to(looks).flatten(1)
    mean, spread = torch.tensor(prior.mean).to(looks), torch.tensor(prior.std).to(looks)
    log_prior = -0.5 * ((views - mean) / spread.clamp_min(1e-6)).square().sum(-1)
    found = mean.repeat(len(images), 1)
    for _ in range(ROUNDS):
        rendered = _render(mean_texture(mesh, looks, inside, placed(found, prior.pivot)), mesh, fragments)
        template = Template(
            views, shape, rendered, outlines, log_prior, mean, torch.ones_like(mean), prior.pivot
        )
        found = template._find(looks, inside)
        found = found - (found.mean(0) - mean)
    stretch = torch.where(spread > 0, spread / found.std(0).clamp_min(1e-6), 1.0)
    return replace(template, stretch=stretch.clamp(1 / STRETCH, STRETCH))


def view_grid(prior: ViewPrior) -> tuple[Float[Tensor, "g 6"], tuple[int, int, int]]:
    """Rotations within the prior's limits, ``STEP`` apart, and the numbers of pitches, yaws and rolls."""
    axes = []
    for mean, std, limit in list(zip(prior.mean, prior.std, prior.limit))[:3]:
        reach = round(limit / STEP) if std else 0
        axes.append(mean + STEP * torch.arange(-reach, reach + 1))
    rotations = torch.cartesian_prod(*axes)
    rest = torch.tensor(prior.mean[3:]).expand(len(rotations), 3)
    return torch.cat((rotations, rest), 1), tuple(len(a) for a in axes)


def mean_texture(
    mesh: Mesh,
    looks: Float[Tensor, "n c h h"],
    masks: Float[Tensor, "n h h"],
    views: Float[Tensor, "n 6"],
) -> Float[Tensor, "v c"]:
    """Mean of the looks and of their mirror images at the vertices that face the camera."""
    points, normals = (torch.from_numpy(x).to(looks) for x in (mesh.vertices, mesh.normals))
    layers = torch.cat((looks, masks[:, None]), 1)
    total = looks.new_zeros(len(points), looks.shape[1])
    count = looks.new_zeros(len(points), 1)
    for part, view in zip(layers.split(CHUNK), views.split(CHUNK)):
        for image, pose in ((part, view), (part.flip(-1), mirrored(view))):
            cameras = Cameras.from_view(pose)
            grid = cameras.project(points.expand(len(pose), -1, -1), looks.shape[-1])
            grid = grid / looks.shape[-1] * 2 - 1
            at = F.grid_sample(image, grid[:, None], align_corners=False)[:, :, 0]
            weight = visibility(normals, points, cameras.origins[:, None]) * (at[:, -1] > 0.9)
            total += torch.einsum("nv,ncv->vc", weight, at[:, :-1])
            count += weight.sum(0)[:, None]
    return total / count.clamp_min(1)


def _render(texture: Float[Tensor, "v c"], mesh: Mesh, fragments: list[Fragments]) -> Float[Tensor, "g d"]:
    faces = torch.from_numpy(mesh.faces).to(texture.device)
    parts = [interpolate(texture, faces, f).permute(0, 3, 1, 2).flatten(1) for f in fragments]
    return F.normalize(torch.cat(parts))
