"""How much of a face is in the normals of a lifted model, and in the images that they are learned from?

Relief is what normals keep when their blurred map is taken away. It is compared with that of the benchmark's
heads, by slope (1: as strong) and correlation, in two ways:

* *head by head*, in camera space: what is individual counts. Rows: the joint forward pass at its predicted
  view and at the true one, the same with the mean code in place of each head's own, heads after refinement
  (``--refined`` images, one a head), and the mean true head, which knows no head but all views.
* *mean against mean*, as normals at the vertices of the model's mean shape: what heads have in common counts.
  Rows: the forward pass, and images, in which photometric stereo (Woodham 1980) finds normals from brightness
  under thousands of lights, as views and lights are known or as ``pseudo_labels/labeler.py`` reads them.

    python benchmarks/relief.py --model demo --refined 8
"""

import argparse

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lift3d.evaluation.benchmark import Predictor, baselines, benchmark_renders
from lift3d.masks.background import background_masks
from lift3d.model import LiftedGAN, load
from lift3d.pseudo_labels.labeler import new_labeler
from lift3d.pseudo_labels.views import blurred
from lift3d.render.maps import Renders
from lift3d.render.rasterize import get_rasterizer, interpolate
from lift3d.renderers import MeshRenderer
from lift3d.scene.batch import stack
from lift3d.scene.cameras import Cameras, mirrored
from lift3d.scene.geometry import normalize, visibility
from lift3d.scene.images import colors_to_images, to_bytes
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh
from lift3d.seeds import UNLABELED_SEED
from lift3d.synthetic.render import VIEWS_PER_HEAD
from lift3d.train.data import draw_samples
from lift3d.train.refine import refine

SIZE, CHUNK = 64, 64
LIT = 0.15  # cosine to the light from which a point's brightness is used
EDGE = 3  # pixels off the outline that do not count


def relief(normals: Float[Tensor, "n h w 3"], mask: Bool[Tensor, "n h w"]) -> Float[Tensor, "p 3"]:
    """Normals less their mean over the pixels around (a Gaussian), off the outline."""
    inside = mask[:, None].float()
    x = normals.permute(0, 3, 1, 2) * inside
    left = x - blurred(x) / blurred(inside).clamp_min(1e-3)
    core = 1 - F.max_pool2d(1 - inside, 2 * EDGE + 1, 1, EDGE)
    return left.permute(0, 2, 3, 1)[core[:, 0] > 0]


def report(name: str, found: Tensor, true: Tensor) -> None:
    """One line: slope and correlation."""
    shared = (found * true).sum()
    slope = shared / true.square().sum()
    correlation = shared / (found.square().sum() * true.square().sum()).sqrt()
    print(f"{name}: slope {slope:.3f}, correlation {correlation:.3f}", flush=True)


def lifted_at(view: str, code: Tensor | None, model: LiftedGAN) -> Predictor:
    """The forward pass at its "predicted" or at the "true" view, with its own or with a given code."""

    @torch.no_grad()
    def predict(_: int, head: Renders) -> Renders:
        image = colors_to_images(head.image[None])
        own = model.image_encoder(image)[0] if code is None else code
        at = head.view if view == "true" else model.view_encoder(image)[0]
        return rendered(model, own, at, model.light_encoder(image)[0])

    return predict


def refined(model: LiftedGAN) -> Predictor:
    """Heads after shading-based refinement of the one image, from predicted view and light."""

    def predict(_: int, head: Renders) -> Renders:
        image = colors_to_images(head.image[None])
        instance = refine(model, image, background_masks(to_bytes(image), model.background[0]))
        return rendered(instance.into(model), instance.code[0], instance.view[0], instance.light[0])

    return predict


def rendered(model: LiftedGAN, code: Tensor, view: Tensor, light: Tensor) -> Renders:
    """Maps of one code from one view."""
    cameras, lights = Cameras.from_view(view[None]), Lights.from_vector(light[None])
    maps = model.render(code, cameras, lights, SIZE, MeshRenderer(resolution=SIZE))
    return Renders(maps[0], view, light)


def head_by_head(name: str, predictions: Renders, heads: Renders) -> None:
    """Relief of every prediction against that of its head, both in camera space."""
    both = predictions.maps.mask & heads.maps.mask
    found, true = (relief(r.maps.normals_in_camera(r.cameras), both) for r in (predictions, heads))
    report(f"head by head: {name}", found, true)


def photometric_stereo(
    mesh: Mesh, images: Tensor, masks: Tensor, views: Tensor, lights: Tensor
) -> Float[Tensor, "v 3"]:
    """Normals at vertices, by least squares of brightness / albedo = k_a + k_d n.l over all images and their
    mirror images; a head's albedo is the mean of brightness / shading on the mean shape.
    """
    points, normals = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.normals)
    a, b = torch.zeros(len(points), 4, 4), torch.zeros(len(points), 4)
    side = torch.tensor([-1.0, 1.0, 1.0])
    for image, mask, view, light in zip(*(x.split(CHUNK) for x in (images, masks, views, lights))):
        layers = torch.cat((image.float().mean(1, keepdim=True) / 255, mask[:, None].float()), 1)
        lamps = Lights.from_vector(light)
        for x, pose, direction in (
            (layers, view, lamps.direction),
            (layers.flip(-1), mirrored(view), lamps.direction * side),
        ):
            cameras = Cameras.from_view(pose)
            grid = cameras.project(points.expand(len(pose), -1, -1), SIZE) / SIZE * 2 - 1
            value, inside = F.grid_sample(x, grid[:, None], align_corners=False)[:, :, 0].unbind(1)
            cosine = direction @ normals.T
            weight = visibility(normals, points, cameras.origins[:, None]) * (inside > 0.9)
            shading = lamps.ambient[:, None] + lamps.diffuse[:, None] * cosine.clamp_min(0)
            albedo = (weight * value / shading).sum(1) / weight.sum(1)
            weight = weight * (cosine > LIT)
            known = torch.cat(((lamps.ambient / lamps.diffuse)[:, None], direction), 1)
            a += torch.einsum("nv,ni,nj->vij", weight, known, known)
            b += torch.einsum("nv,ni,nv->vi", weight, known, value / (albedo * lamps.diffuse)[:, None])
    size = a.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    found = torch.linalg.solve(a + (1e-3 + 1e-2 * size) * torch.eye(4), b[..., None])[..., 0]
    return normalize(found[:, 1:])


def mean_normals(
    mesh: Mesh, normals: Float[Tensor, "n h w 3"], masks: Bool[Tensor, "n h w"], views: Float[Tensor, "n 6"]
) -> Float[Tensor, "v 3"]:
    """Mean of normal maps and of their mirror images at the vertices of the mean shape."""
    points, outwards = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.normals)
    total = torch.zeros_like(points)
    for normal, mask, view in zip(normals, masks, views, strict=True):
        layers = torch.cat((normal, mask[..., None].float()), -1).permute(2, 0, 1)
        for x, pose, side in ((layers, view[None], 1.0), (layers.flip(-1), mirrored(view[None]), -1.0)):
            camera = Cameras.from_view(pose)
            grid = camera.project(points[None], SIZE) / SIZE * 2 - 1
            at = F.grid_sample(x[None], grid[:, None], align_corners=False)[0, :, 0]
            weight = visibility(outwards, points, camera.origins) * (at[3] > 0.9)
            total += weight[:, None] * at[:3].T * torch.tensor([side, 1.0, 1.0])
    return normalize(total)


@torch.no_grad()
def main() -> None:
    """Prints slopes and correlations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--refined", type=int, default=8, help="images that are refined, one a head")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = load(args.model)
    heads = benchmark_renders()
    codes = [model.image_encoder(colors_to_images(head.image[None])) for head in heads]
    mean_code = torch.cat(codes).mean(0)
    for name, predictor in {
        "forward pass": lifted_at("predicted", None, model),
        "forward pass, true view": lifted_at("true", None, model),
        "mean code": lifted_at("predicted", mean_code, model),
        "mean true head, true view": baselines()["mean head, true pose"],
    }.items():
        predictions = stack([predictor(i, head) for i, head in enumerate(heads)])
        head_by_head(name, predictions, heads)
        if name == "forward pass, true view":
            forward = predictions
    some = heads[::VIEWS_PER_HEAD][: args.refined]
    if len(some):
        for name, predictor in (
            ("forward pass", lifted_at("predicted", None, model)),
            ("refined", refined(model)),
        ):
            with torch.enable_grad():
                predictions = stack([predictor(0, head) for head in some])
                head_by_head(f"{name}, first {len(some)}", predictions, some)

    unlabeled = draw_samples(model, args.samples, UNLABELED_SEED)
    labeler = new_labeler(model, unlabeled.images, unlabeled.masks)
    mesh = labeler.mesh
    faces = torch.from_numpy(mesh.faces)
    scene = get_rasterizer("auto").prepare(torch.from_numpy(mesh.vertices), faces)
    front = scene.fragments(Cameras.from_view(torch.zeros(1, 6)), SIZE)

    def seen(normals: Float[Tensor, "v 3"]) -> Float[Tensor, "p 3"]:
        return relief(normalize(interpolate(normals, faces, front)), front.mask)

    known = heads.view, heads.light
    true, lifted = (
        seen(mean_normals(mesh, renders.maps.normals, renders.maps.mask, heads.view))
        for renders in (heads, forward)
    )
    report("mean against mean: forward pass, true view", lifted, true)
    images = to_bytes(colors_to_images(heads.image))
    masks = background_masks(images, model.background[0])
    for name, data in (
        ("renders of heads, views and lights known", (images, masks, *known)),
        ("renders of heads, read", (images, masks, *labeler.label(images, masks))),
        (
            "GAN samples, read",
            (unlabeled.images, unlabeled.masks, *labeler.label(unlabeled.images, unlabeled.masks)),
        ),
    ):
        report(f"mean against mean: {name}", seen(photometric_stereo(mesh, *data)), true)


if __name__ == "__main__":
    main()
