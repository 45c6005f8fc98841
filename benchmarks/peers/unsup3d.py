"""unsup3d (Wu et al., CVPR 2020), an ancestor of the method, on our heads: trained on the renders that the
demo GAN was trained on, measured on the benchmark.

    git clone https://github.com/elliottwu/unsup3d runs/unsup3d-code
    python -m lift3d.synthetic.pack runs/heads64.npy --heads 10000 --size 64
    OMP_NUM_THREADS=1 python benchmarks/peers/unsup3d.py --code runs/unsup3d-code --images runs/heads64.npy

Its model and losses run as they are, with the settings of its faces. What is not theirs: the depth buffer,
which stands in for ``neural_renderer`` (CUDA) and keeps its conventions; EfficientNet-Lite0 in the place of
VGG-16 behind the perceptual loss; our field of view, so that depths can be compared, and a range of depths
that is to its width as theirs is; batches of 8 instead of 64 images. Of every image it gets the middle,
enlarged: its faces fill the image, and on whole heads before a plain background depth ends as a plateau and
views as zero. Depth starts as the ellipsoid that ours starts from, as GAN2Shape (Pan et al., ICLR 2021)
starts the same network, and waits until albedo, views and lights have learned a little: before a plain
background the network otherwise darkens the object by ripples (docs/experiments.md). State is kept in
``--out``, where an interrupted run goes on; ``curve.jsonl`` has a line per measurement.

The protocol is that of ``lift3d eval``: log z-depth up to a constant, normals in camera space, over pixels
inside the true mask and the reconstruction's, eroded by one, here of the middle. Depth and normals are those
that unsup3d itself measures: of the depth map at the predicted view. It has no mask of the object, so there
is no IoU.
"""

import argparse
import importlib
import json
import math
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lift3d.config.presets import DEMO
from lift3d.evaluation.benchmark import (
    CANONICAL,
    Predictor,
    baselines,
    benchmark_renders,
    lifted,
    measure,
)
from lift3d.model import load
from lift3d.networks.perceptual import EfficientNetTrunk
from lift3d.render.maps import Maps, Renders
from lift3d.scene.cameras import DISTANCE, FOV_DEG
from lift3d.scene.geometry import normalize

SIZE = 64
CROP = 36  # pixels a side of the middle, of ``SIZE``
WIDTH = math.tan(math.radians(FOV_DEG / 2)) * CROP / SIZE  # half of the middle's, at distance 1
REACH = 0.1 * WIDTH / math.tan(math.radians(5))  # of depths around 1; theirs is 0.1, at a field of 10 degrees
FAR = 100.0  # depth of the background, as neural_renderer has it
SUPERSAMPLE = 2  # rays a side of a pixel, whose depths neural_renderer averages
N_START = 120  # steps that teach the depth network its first shape
STATE, CURVE = "state.pt", "curve.jsonl"
CONFIG = {  # experiments/train_celeba.yml
    "image_size": SIZE,
    "min_depth": 1 - REACH,
    "max_depth": 1 + REACH,
    "xyz_rotation_range": 60,
    "xy_translation_range": 0.1,
    "z_translation_range": 0,
    "lam_perc": 1,
    "lam_flip": 0.5,
    "lr": 1e-4,
    "rot_center_depth": 1.0,
    # The corners of its frame are the centers of corner pixels; ours lie half a pixel further out.
    "fov": 2 * math.degrees(math.atan(WIDTH * (SIZE - 1) / SIZE)),
}


@torch.no_grad()
def visible_faces(corners: Float[Tensor, "f 3 3"], n_images: int, size: int) -> Int[Tensor, " n_pixels"]:
    """The nearest face at every pixel of all images, -1 where there is none. Corners are (x, y, depth) in
    pixels whose centers are whole; the faces of an image stand together, as many for each.
    """
    xy = corners[..., :2]
    low = xy.amin(1).ceil().clamp(0, size).long()
    extent = (xy.amax(1).floor().clamp(-1, size - 1).long() - low + 1).clamp_min(0)
    count = extent.prod(1)  # pixels whose centers a face's box holds
    face = torch.repeat_interleave(torch.arange(len(corners)), count)
    nth = torch.arange(len(face)) - (count.cumsum(0) - count)[face]
    width = extent[face, 0]
    pixel = low[face] + torch.stack((nth % width, nth // width), -1)
    weights = barycentric(corners[face], pixel)
    inside = (weights >= 0).all(1)
    face, pixel, weights = face[inside], pixel[inside], weights[inside]
    depth = interpolated(corners[face], weights)
    image = face // (len(corners) // n_images)
    where = (image * size + pixel[:, 1]) * size + pixel[:, 0]
    nearest = depth.new_full((n_images * size * size,), FAR).scatter_reduce_(0, where, depth, "amin")
    found = torch.full((len(nearest),), -1)
    wins = depth == nearest[where]
    found[where[wins]] = face[wins]
    return found


def barycentric(corners: Float[Tensor, "n 3 3"], pixel: Int[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
    """Weights of the corners at pixels, NaN where a face has no area."""
    x, y = (corners[..., :2] - pixel[:, None]).unbind(-1)
    twice = x.roll(-1, 1) * y.roll(-2, 1) - x.roll(-2, 1) * y.roll(-1, 1)
    return twice / twice.sum(1, keepdim=True)


def interpolated(corners: Float[Tensor, "n 3 3"], weights: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Depth: its inverse is linear in the image."""
    return 1.0 / (weights / corners[..., 2]).sum(1)


class DepthRenderer:
    """What unsup3d uses of ``neural_renderer.Renderer``; gradients lead to all coordinates of vertices."""

    def __init__(self, K: Float[Tensor, "1 3 3"], image_size: int, **_: object) -> None:
        self.intrinsics, self.size = K[0], image_size

    def render_depth(
        self, vertices: Float[Tensor, "b v 3"], faces: Int[Tensor, "b f 3"]
    ) -> Float[Tensor, "b s s"]:
        """z-depths of images; both sides of faces are seen. A pixel of the grid is centered at +0.5."""
        n, fine = len(vertices), SUPERSAMPLE * self.size
        z = vertices[..., 2:]
        xy = ((vertices / z) @ self.intrinsics.T)[..., :2] * SUPERSAMPLE - 0.5
        corners = torch.cat((xy, z), -1)[:, faces[0].long()].flatten(0, 1)
        face = visible_faces(corners, n, fine)
        (seen,) = (face >= 0).nonzero(as_tuple=True)
        pixel = torch.stack((seen % fine, seen // fine % fine), -1)
        mine = corners[face[seen]]
        depth = interpolated(mine, barycentric(mine, pixel))
        image = depth.new_full((n * fine * fine,), FAR).index_put((seen,), depth)
        return F.avg_pool2d(image.view(n, 1, fine, fine), SUPERSAMPLE)[:, 0]


class Features(nn.Module):
    """A trunk's maps of a quarter of the pixels, of images normalized as VGG-16 wants them."""

    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetTrunk()

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h/4 w/4"]:
        mean, std = (images.new_tensor(x).view(3, 1, 1) for x in (self.MEAN, self.STD))
        return self.trunk((images * std + mean) * 2.0 - 1.0)[1]


def vgg16(**_: object) -> SimpleNamespace:
    """Features in the place of relu3_3, the one level that the perceptual loss reads."""
    layers = [nn.Identity() for _ in range(23)]
    layers[9] = Features()
    return SimpleNamespace(features=nn.Sequential(*layers))


def foreign_model(code: Path) -> "Unsup3D":  # noqa: F821
    """``Unsup3D`` of a checkout, ready to be trained."""
    package = ModuleType("unsup3d")
    package.__path__ = [str(code / "unsup3d")]  # without its __init__, which wants the data loaders
    stand_ins = {
        "unsup3d": package,
        "neural_renderer": SimpleNamespace(Renderer=DepthRenderer),
        "torchvision": SimpleNamespace(models=SimpleNamespace(vgg16=vgg16)),
        "yaml": SimpleNamespace(),
        "cv2": SimpleNamespace(),
    }
    with patch.dict(sys.modules, stand_ins):
        model = importlib.import_module("unsup3d.model").Unsup3D(CONFIG)
    model.trainer = SimpleNamespace(current_epoch=0)
    for name in model.network_names:
        getattr(model, name).to(memory_format=torch.channels_last)
    model.init_optimizers()
    for name in model.optimizer_names:
        getattr(model, name).param_groups[0]["fused"] = True
    return model


def forward(model: "Unsup3D", images: Float[Tensor, "n 3 s s"]) -> Tensor:  # noqa: F821
    """The loss. Old torch, which the code was written for, aligned corners."""
    with patch("torch.nn.functional.grid_sample", partial(F.grid_sample, align_corners=True)):
        return model.forward(images.contiguous(memory_format=torch.channels_last))["loss"]


def middle(images: Float[Tensor, "n c s s"]) -> Float[Tensor, "n c s s"]:
    """What unsup3d gets of images."""
    edge = (SIZE - CROP) // 2
    inner = images[..., edge : edge + CROP, edge : edge + CROP]
    return F.interpolate(inner, size=(SIZE, SIZE), mode="bilinear", antialias=True)


def framed(maps: Float[Tensor, "n c s s"]) -> Float[Tensor, "n c s s"]:
    """Maps of the middle in whole images, 0 around it."""
    edge = (SIZE - CROP) // 2
    return F.pad(F.interpolate(maps, size=(CROP, CROP), mode="area"), (edge,) * 4)


def ellipsoid() -> Float[Tensor, "s s"]:
    """Depth of the middle of the ellipsoid that our heads start from, -1 to 1 over the range of depths."""
    side = ((torch.arange(SIZE) + 0.5) / SIZE * 2 - 1) * WIDTH
    y, x = torch.meshgrid(side, side, indexing="ij")
    radii = torch.tensor(DEMO.radii) / DISTANCE
    ray = torch.stack((x, y, torch.ones_like(x)), -1) / radii  # meets the unit sphere about ``center``
    center = 1.0 / radii[2]
    along, square = ray[..., 2] * center, ray.square().sum(-1)
    root = along.square() - square * (center.square() - 1.0)
    depth = torch.where(root > 0, (along - root.clamp_min(0.0).sqrt()) / square, 1.0)
    return (depth - 1.0) / REACH


def start(model: "Unsup3D", images: np.ndarray, batch: int) -> None:  # noqa: F821
    """Teaches the depth network the ellipsoid, whatever the image; its tanh flattens it a little."""
    wanted = ellipsoid()
    optimizer = torch.optim.Adam(model.netD.parameters(), CONFIG["lr"])
    for step in range(N_START):
        depth = model.netD(middle(drawn(images, batch, [1, step])) * 2 - 1)[:, 0]
        off = depth - depth.mean((1, 2), keepdim=True) - (wanted - wanted.mean())
        optimizer.zero_grad()
        off.square().mean().backward()
        optimizer.step()


def drawn(images: np.ndarray, n: int, seed: list[int]) -> Float[Tensor, "n 3 s s"]:
    """Some of the images."""
    chosen = np.random.default_rng(seed).integers(len(images), size=n)
    return torch.from_numpy(images[np.sort(chosen)]).movedim(-1, 1) / 255


@torch.no_grad()
def evaluate(model: "Unsup3D", renders: Renders) -> dict[str, float]:  # noqa: F821
    """SIDE and MAD over renders."""
    depths, normals, masks = [], [], []
    for part in renders.image.movedim(-1, 1).split(32):
        forward(model, middle(part))
        n, limit = len(part), (3 * model.max_depth - model.min_depth) / 2
        depths.append(framed(model.recon_depth[:n, None])[:, 0] * DISTANCE)
        normal = framed(model.recon_normal[:n].movedim(-1, 1)).movedim(1, -1)
        normals.append(normalize(normal) * torch.tensor((-1.0, 1.0, 1.0)))
        masks.append(framed((model.recon_depth[:n, None] < limit).float())[:, 0] > 0.999)
    found = [torch.cat(maps) for maps in (depths, normals, masks)]

    def predict(i: int, render: Renders) -> Renders:
        depth, normal, mask = (x[i] for x in found)
        true = render.maps
        maps = Maps(
            mask, depth, normal, true.albedo, true.specular, true.shininess,
            true.diffuse_shading, true.specular_shading, true.colors,
        )  # fmt: skip
        return Renders(maps, torch.tensor(CANONICAL), None)

    row = measure("unsup3d", predict, renders)
    return {"side_x100": row.side_x100, "mad_deg": row.mad_deg, "n_empty": row.n_empty}


def compare(renders: Renders) -> None:
    """Prints what the bundled model and the benchmark's baselines reach on the same middle."""
    inside = framed(torch.ones(1, 1, SIZE, SIZE))[0, 0] > 0

    def cut(predictor: Predictor) -> Predictor:
        def predict(i: int, render: Renders) -> Renders:
            found = predictor(i, render)
            return replace(found, maps=replace(found.maps, mask=found.maps.mask & inside))

        return predict

    for name, predictor in ({"lifted": lifted(load("demo"))} | baselines()).items():
        row = measure(name, cut(predictor), renders)
        print(f"{name}: SIDE {row.side_x100:.3f}, MAD {row.mad_deg:.2f}")


def save(model: "Unsup3D", path: Path, step: int, seconds: float) -> None:  # noqa: F821
    """Everything that a resumed run needs, at once or not at all."""
    state = {"step": step, "seconds": seconds, **model.get_model_state(), **model.get_optimizer_state()}
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def main() -> None:
    """Command line of the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--code", type=Path, default=Path("runs/unsup3d-code"))
    parser.add_argument("--images", type=Path, default=Path("runs/heads64.npy"))
    parser.add_argument("--out", type=Path, default=Path("runs/unsup3d"))
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--wait", type=int, default=2_500, help="steps with the depth that it starts from")
    parser.add_argument("--every", type=int, default=500, help="steps between measurements")
    parser.add_argument("--compare", action="store_true", help="the bundled model and baselines, instead")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    if args.compare:
        return compare(benchmark_renders())
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", "torch.meshgrid")
    args.out.mkdir(parents=True, exist_ok=True)
    model, images, renders = (
        foreign_model(args.code),
        np.load(args.images, mmap_mode="r"),
        benchmark_renders(),
    )
    step, seconds = 0, 0.0
    if (args.out / STATE).exists():
        state = torch.load(args.out / STATE, weights_only=True)
        step, seconds = state.pop("step"), state.pop("seconds")
        model.load_model_state(state)
        model.load_optimizer_state(state)
    else:
        start(model, images, args.batch)
    all_optimizers = model.optimizer_names
    while step < args.steps:
        begun = time.process_time()
        learns = step >= args.wait
        model.netD.requires_grad_(learns)
        model.optimizer_names = [n for n in all_optimizers if learns or n != "optimizerD"]
        loss = forward(model, middle(drawn(images, args.batch, [0, step])))
        model.backward()
        step, seconds = step + 1, seconds + time.process_time() - begun
        if step % 100 == 0:
            model.optimizer_names = all_optimizers
            save(model, args.out / STATE, step, seconds)
        if step % args.every == 0 or step in (100, 250):
            row = {"step": step, "images": step * args.batch, "cpu_s": round(seconds), "loss": loss.item()}
            row |= evaluate(model, renders)
            with (args.out / CURVE).open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
