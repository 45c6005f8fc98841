"""How far single shapes lean: the depth that outlines of turned objects tell (docs/method.md, Training).

Shading tells how normals vary over an image, but hardly whether a whole face leans forwards or back against
other faces: view, light and albedo make up for that. Outlines tell it wherever an object is turned; but one
step of training sees few pixels of few of them, while remembered distances (anchors.py) hold every surface in
its place. All unlabeled images together tell it well. A lean that is linear in the code moves the front of
every object along z, in proportion to y. It is fitted to pixels near all outlines by logistic regression, of
the same likelihood as ``outline_loss``. Then the fields learn the leaning surfaces; E_I and the codes stay.

n objects, a points of each, p pixels of each image; lengths in world units.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lift3d.model import LiftedGAN
from lift3d.observer import Observer, observed
from lift3d.scene.batch import Batch
from lift3d.scene.images import to_float
from lift3d.scene.surface import Surface, sdf_and_gradient, smooth_normal
from lift3d.train.anchors import near_surface
from lift3d.train.data import Images
from lift3d.train.outline import SHARPNESS, distances_along
from lift3d.train.phase import Group, Losses
from lift3d.train.pixels import at, pick, rays

CHUNK = 16  # images that are looked at together
N_OUTLINE = 64  # pixels near the outline of an image
N_ALONG = 40  # samples along the ray of each
N_ROUNDS = 6  # of the regression (Newton's method)
RIDGE = 1e-3  # of squared leans per code direction, relative to all evidence
TINY = 1e-9  # evidence that is as good as none
SOFT = 0.05  # depth over which the front ends
N_POINTS, N_A_STEP = 160, 96  # of an object
GRADIENT, MATERIAL, SHININESS = 0.1, 0.1, 1e-3  # weights beside the signed distance's


@dataclass(frozen=True)
class Evidence:
    """What pixels near the outlines of n images say, at the point where each ray comes closest."""

    sdf: Float[Tensor, "n p"]
    per_lean: Float[Tensor, "n p"]  # derivative of the signed distance by the lean
    inside: Bool[Tensor, "n p"]  # whether the mask has the pixel


@dataclass(frozen=True)
class Lean:
    """The lean of any code, dz / dy: what is linear in it."""

    mean: Float[Tensor, " c"]
    per_code: Float[Tensor, " c"]
    of_mean: Float[Tensor, ""]

    def __call__(self, codes: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        return self.of_mean + (codes - self.mean) @ self.per_code


def forwards(
    points: Float[Tensor, "b p 3"], lean: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b p 1"], Float[Tensor, "b p 3"]]:
    """How far along z leaning objects have moved at points, and the gradient of that: the back stays."""
    _, y, z = points.split(1, -1)
    front = torch.sigmoid(z / SOFT)
    slope = torch.cat((torch.zeros_like(y), front, y * front * (1 - front) / SOFT), -1)
    return lean[:, None, None] * y * front, lean[:, None, None] * slope


@torch.no_grad()
def look(
    surface: Surface,
    view: Float[Tensor, "b 6"],
    outline: Bool[Tensor, "b s s"],
    mask: Bool[Tensor, "b s s"],
    rng: torch.Generator,
) -> Evidence:
    """Evidence of some images with masks; ``outline`` is where pixels are taken from."""
    pixels = pick(outline, N_OUTLINE, rng)
    origins, directions = rays(view, pixels, mask.shape[-1])
    points = origins + lowest(*distances_along(surface, origins, directions, N_ALONG)) * directions
    sdf, _, gradient = sdf_and_gradient(surface, points, create_graph=False)
    one = torch.ones(len(view), device=view.device)
    return Evidence(sdf[..., 0], -gradient[..., 2] * forwards(points, one)[0][..., 0], at(mask, pixels))


def lowest(t: Float[Tensor, "*s k"], values: Float[Tensor, "*s k"]) -> Float[Tensor, "*s 1"]:
    """Where the values at even distances t are lowest: the vertex of the parabola through the lowest one and
    its neighbors.
    """
    middle = values.argmin(-1, keepdim=True).clamp(1, t.shape[-1] - 2)
    before, here, after = (values.gather(-1, middle + i) for i in (-1, 0, 1))
    shift = 0.5 * (before - after) / (before - 2 * here + after).clamp_min(1e-6)
    return t.gather(-1, middle) + (t[..., 1:2] - t[..., :1]) * shift.clamp(-1.0, 1.0)


def fit(codes: Float[Tensor, "n c"], evidence: Evidence) -> Lean:
    """The lean that makes the masks most likely, in double precision on the CPU: -``SHARPNESS`` times the
    signed distance is the logit of a pixel. Directions of the code in which objects differ little are held
    back.
    """
    codes = codes.double().cpu()
    sdf, per_lean, inside = (x.double().cpu() for x in vars(evidence).values())
    mean, spread = codes.mean(0), codes.var(0).sum().sqrt().clamp_min(TINY)
    columns = torch.cat((torch.ones_like(codes[:, :1]), (codes - mean) / spread), 1)
    weights = columns.new_zeros(columns.shape[1])
    for _ in range(N_ROUNDS):
        likely = torch.sigmoid(-SHARPNESS * (sdf + (columns @ weights)[:, None] * per_lean))
        change = -SHARPNESS * (per_lean * (inside - likely)).sum(1)
        known = SHARPNESS**2 * (per_lean.square() * likely * (1 - likely)).sum(1)
        ridge = (RIDGE * known.sum() + TINY) * torch.eye(len(weights)).to(columns)
        ridge[0, 0] = TINY  # the mean is free
        matrix = columns.T @ (known[:, None] * columns) + ridge
        weights = weights + torch.linalg.solve(matrix, columns.T @ change - ridge @ weights)
    return Lean(mean.float(), (weights[1:] / spread).float(), weights[0].float())


@dataclass(frozen=True, repr=False)
class Lesson(Batch):
    """What the fields shall say of n objects near their leaning surfaces."""

    codes: Float[Tensor, "*n c"]
    points: Float[Tensor, "*n a 3"]
    sdf: Float[Tensor, "*n a 1"]
    gradient: Float[Tensor, "*n a 3"]
    albedo: Float[Tensor, "*n a 3"]
    specular: Float[Tensor, "*n a 1"]
    shininess: Float[Tensor, "*n a 1"]


@torch.no_grad()
def prepare(
    model: LiftedGAN, images: Images, outline: Bool[Tensor, "n s s"], rng: torch.Generator, observer: Observer
) -> Lesson:
    """The lean of the shapes of images, of which the masks are known, and what the fields shall learn of it;
    on the images' device.
    """
    codes, views, seen = [], [], []
    chosen = torch.arange(len(images)).split(CHUNK)
    for some in observed(observer, "reading outlines", chosen, len):
        code, view, _ = model.encode(to_float(images.images[some].to(model.device)))
        where, mask = outline[some].to(view.device), images.masks[some].to(view.device)
        seen.append(look(model.surface(code), view, where, mask, rng))
        codes.append(code)
        views.append(view)
    evidence = Evidence(*(torch.cat(x) for x in zip(*(vars(part).values() for part in seen), strict=True)))
    lean = fit(torch.cat(codes), evidence)
    lean = Lean(*(x.to(model.device) for x in vars(lean).values()))
    rows = zip(codes, views, strict=True)
    lessons = [leaning(model.surface(code), code, view, lean(code), rng) for code, view in rows]
    columns = zip(*(vars(lesson).values() for lesson in lessons), strict=True)
    return Lesson(*(torch.cat(x) for x in columns)).to(images.device)


def leaning(
    surface: Surface,
    code: Float[Tensor, "b c"],
    view: Float[Tensor, "b 6"],
    lean: Float[Tensor, " b"],
    rng: torch.Generator,
) -> Lesson:
    """What the fields say near surfaces now, at the places where these have leaned to."""
    points = near_surface(surface, view, N_POINTS, rng).points
    points = torch.cat((points[..., :2], points[..., 2:] + forwards(points, lean)[0]), -1)
    moved, slope = forwards(points, lean)
    before = torch.cat((points[..., :2], points[..., 2:] - moved), -1)
    sdf, feature, gradient = sdf_and_gradient(surface, before, create_graph=False)
    material = surface.material(before, smooth_normal(gradient), feature)
    gradient = gradient - gradient[..., 2:] * slope
    return Lesson(code, points, sdf, gradient, *vars(material).values())


def lean_groups(model: LiftedGAN) -> list[Group]:
    """The fields."""
    return [Group.of(model.config.rates.fields, model.shape, model.material)]


def lean_loss(model: LiftedGAN, lesson: Lesson, rng: torch.Generator) -> Losses:
    """One step, on ``batch.n_images`` objects."""
    chosen = torch.randint(len(lesson), (model.config.batch.n_images,), generator=rng)
    batch = lesson[chosen]
    points = torch.randint(N_POINTS, (len(batch), N_A_STEP), generator=rng)
    rows = torch.arange(len(batch))[:, None]
    told = {name: x[rows, points].to(model.device) for name, x in vars(batch).items() if name != "codes"}
    surface = model.surface(batch.codes.to(model.device))
    sdf, feature, gradient = sdf_and_gradient(surface, told["points"], create_graph=True)
    material = surface.material(told["points"], smooth_normal(told["gradient"]), feature)
    terms = {
        "sdf": F.l1_loss(sdf, told["sdf"]),
        "gradient": GRADIENT * (gradient - told["gradient"]).norm(dim=-1).mean(),
        "albedo": MATERIAL * F.l1_loss(material.albedo, told["albedo"]),
        "specular": MATERIAL * F.l1_loss(material.specular, told["specular"]),
        "shininess": SHININESS * F.l1_loss(material.shininess, told["shininess"]),
    }
    return {"total": sum(terms.values()), **terms}
