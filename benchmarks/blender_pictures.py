"""The README's pictures from Blender, and how well they match: instances rendered by lift3d and by Cycles.

    LIFT3D_BLENDER=.venv-bpy-4.5.15/bin/python python benchmarks/blender_pictures.py [--seeds 7 3]

docs/images/blender-match.png: a instance per row; lift3d, Blender with the material "exact", with "pbr".
docs/images/blender-turn.png: the first instance's .blend under five cameras and suns, material "pbr".
The .blend files are those of ``lift3d export --model``, textured.
Views and lights of the first picture are the model's own estimates; mae is the mean absolute error inside the
silhouette of display values, iou the intersection over union of the silhouettes.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy import ndarray

import lift3d
from lift3d.export.blender.blend import MATERIALS, render_blend, write_blend
from lift3d.export.objects import BUDGET, Finished, finish, from_model
from lift3d.pictures import contact_sheet, grid, save_image
from lift3d.renderers import MeshRenderer
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import to_uint8
from lift3d.scene.lights import Lights

TEXELS = 1024  # side of the textures
TURN = torch.tensor([[0.05, yaw, 0.0, 0.0, 0.0, 0.0] for yaw in (-0.8, -0.4, 0.0, 0.4, 0.8)])
SUNS = torch.tensor([[0.45, 0.65, x, 0.4, 0.0] for x in (-0.9, -0.45, 0.0, 0.45, 0.9)])


def cycles(
    head: Finished,
    cameras: Cameras,
    lights: Lights,
    material: str,
    size: int,
    samples: int,
) -> Float32[ndarray, "v h w 4"]:
    """Cycles' renders, camera i under light i."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.blend"
        write_blend(head.mesh, path, cameras, lights, size, material, textures=head.textures)
        print(f"{path.name}, {material}: {path.stat().st_size / 1e6:.2f} MB, {len(head.mesh.faces)} faces")
        return render_blend(path, [(i, i) for i in range(len(cameras))], samples)


def over_white(image: Float32[ndarray, "h w 4"]) -> UInt8[ndarray, "h w 3"]:
    return to_uint8(np.clip(image[..., :3], 0, image[..., 3:]) + 1.0 - image[..., 3:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 3])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    model = lift3d.load(given.model)
    instances = model.sample(given.seeds)
    chosen = [from_model(model, given.seeds).instance(seed) for seed in given.seeds]
    heads = [finish(instance, TEXELS, BUDGET) for instance in chosen]
    rows = []
    for i, head in enumerate(heads):
        cameras, lights = instances.cameras[i : i + 1], instances.lights[i : i + 1]
        ours = model.render(instances.code[i], cameras, lights, given.size, MeshRenderer(chosen[i].mesh))
        mask, colors = ours.mask[0].numpy(), ours.colors[0, 0].numpy()
        row = [to_uint8(colors)]
        for material in reversed(MATERIALS):
            (image,) = cycles(head, cameras, lights, material, given.size, given.samples)
            covered = image[..., 3] > 0.5
            inside = covered & mask
            error = np.clip(image[inside, :3] / image[inside, 3:], 0, 1) - colors[inside]
            iou = inside.sum() / (covered | mask).sum()
            print(f"seed {given.seeds[i]}, {material}: mae {np.abs(error).mean():.4f}, iou {iou:.4f}")
            row.append(over_white(image))
        rows.append(row)
    turn = cycles(
        heads[0], Cameras.from_view(TURN), Lights.from_vector(SUNS), "pbr", given.size, given.samples
    )
    names = ("lift3d", "Blender, exact", "Blender, pbr")
    save_image(given.out / "blender-match.png", contact_sheet(rows, column_labels=names))
    save_image(given.out / "blender-turn.png", grid([[over_white(image) for image in turn]]))


if __name__ == "__main__":
    main()
