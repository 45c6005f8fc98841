"""Heads that our generator never made: the meshes of other head models and scans, rendered with known views
and lights, against what the forward pass and refinement say of the pictures.

    python benchmarks/other_heads.py scan.obj head.ply --pictures other-heads.png

Meshes are any that trimesh reads, y up, facing +z; color and texture are their albedo, else they are skin.
They are centered, and scaled so that half of their height is ``--half-height``. Figures and pictures are
those of benchmarks/refine.py.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh

sys.path.insert(0, str(Path(__file__).parent))
from refine import sheet, tell
from relief import SIZE, rendered

from lift3d.instance import load
from lift3d.render.maps import Renders
from lift3d.render.mesh import box_average, render_mesh
from lift3d.scene.batch import stack
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import colors_to_images
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh, vertex_normals
from lift3d.synthetic.render import WHITE, render_parameters
from lift3d.train.refine import refine

SKIN = (0.72, 0.53, 0.43)
SPECULAR, SHININESS = 0.15, 20.0
SUPERSAMPLE = 4


def read_head(path: Path, half_height: float) -> Mesh:
    """A mesh with material in our frame."""
    given = trimesh.load(path, force="mesh")
    low, high = given.bounds
    vertices = (given.vertices - (low + high) / 2) * (2 * half_height / (high - low)[1])
    plain = Mesh(vertices.astype(np.float32), given.faces.astype(np.int32))
    n = len(vertices)
    albedo = np.full((n, 3), SKIN, np.float32)
    visual = given.visual.to_color() if given.visual.kind == "texture" else given.visual
    if visual.kind is not None:
        albedo = visual.vertex_colors[:, :3].astype(np.float32) / 255
    full = np.full(n, 1.0, np.float32)
    return replace(
        plain,
        normals=vertex_normals(plain),
        albedo=albedo,
        specular=SPECULAR * full,
        shininess=SHININESS * full,
    )


def rendered_truth(mesh: Mesh, views: torch.Tensor, lights: torch.Tensor) -> Renders:
    """Exact maps, antialiased colors."""
    cameras, lamps = Cameras.from_view(views), Lights.from_vector(lights)[:, None]
    exact, fine = (render_mesh(mesh, cameras, lamps, k * SIZE, WHITE) for k in (1, SUPERSAMPLE))
    return Renders(replace(exact, colors=box_average(fine.colors, SUPERSAMPLE)), views, lights)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("meshes", type=Path, nargs="+", metavar="MESH")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--renders", type=int, default=2, help="of each mesh")
    parser.add_argument("--half-height", type=float, default=0.74, help="world units")
    parser.add_argument("--pictures", help="a PNG file")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, found = load(args.model), []
    for i, path in enumerate(args.meshes):
        views, lights = render_parameters("benchmark", i, args.renders)
        heads = rendered_truth(read_head(path, args.half_height), views, lights)
        images, masks = colors_to_images(heads.image), heads.maps.mask
        with torch.no_grad():
            codes, views, lights = (
                encoder(images) for encoder in (model.image_encoder, model.view_encoder, model.light_encoder)
            )
        forward = stack([rendered(model, *of) for of in zip(codes, views, lights, strict=True)])
        after = []
        for k in range(args.renders):
            one = refine(model, images[k : k + 1], masks[k : k + 1])
            after.append(rendered(one.into(model), one.code[0], one.view[0], one.light[0]))
        tell(f"{path.name}, forward pass", forward, heads)
        tell(f"{path.name}, refined", stack(after), heads)
        found.append((heads, forward, stack(after)))
    if args.pictures:
        heads, forward, after = (joined(column) for column in zip(*found, strict=True))
        sheet(args.pictures, heads, [forward, after])


def joined(parts: tuple[Renders, ...]) -> Renders:
    """All renders of several stacks."""
    return stack([one for part in parts for one in part])


if __name__ == "__main__":
    main()
