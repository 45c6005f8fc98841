"""How many faces a stored mesh needs: python benchmarks/mesh_faces.py [--heads 4] [--size 512]

Heads of the bundled model, seen from 6 views: bytes of a mesh as a dataset stores it, pixels at which its
silhouette differs from the full mesh's, angle between the normals where both are seen, depth error, and the
time that decimation takes.
"""

import argparse
import time

import numpy as np
import torch

import lift3d
from lift3d.export.hdf5.sample_file import deflate
from lift3d.export.hdf5.schema import MESH_ARRAYS, MESH_ROWS
from lift3d.export.plan.views import ViewPlan
from lift3d.render.maps import Maps
from lift3d.scene.cameras import ViewPrior
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh

FACES = (5_000, 10_000, 20_000, 40_000, 10**9)


def stored_bytes(mesh: Mesh) -> int:
    """Deflated size of all arrays, in chunks as the file has them."""
    arrays = [getattr(mesh, name.removeprefix("meshes/")) for name in MESH_ARRAYS]
    chunks = [np.split(array, range(MESH_ROWS, len(array), MESH_ROWS)) for array in arrays]
    return sum(len(blob) for parts in chunks for blob in deflate(map(np.ascontiguousarray, parts))[0])


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    model = lift3d.load("demo")
    cameras = ViewPlan.orbit(6).cameras(ViewPrior(), torch.Generator())
    lights = Lights.from_direction(torch.tensor([[0.0, 0.0, 1.0]]))

    def seen(code: torch.Tensor, mesh: Mesh) -> Maps:
        return model.render(code, cameras, lights, options.size, lift3d.MeshRenderer(mesh))

    print("faces      kB  silhouette, % of pixels  normals, degrees  depth, 1e-3  seconds")
    rows: dict[int, list[tuple[float, ...]]] = {n: [] for n in FACES}
    for seed in range(options.heads):
        code = model.sample(seed).code[0]
        full = model.mesh(code)
        truth = seen(code, full)
        for n in FACES:
            start = time.perf_counter()
            mesh = model.simplify(full, code, n)
            seconds, maps = time.perf_counter() - start, seen(code, mesh)
            both = maps.mask & truth.mask
            outline = (maps.mask ^ truth.mask).sum() / truth.mask.sum()
            cosine = (maps.normals * truth.normals).sum(-1)[both].clamp(-1, 1)
            depth = (maps.depth - truth.depth)[both].abs().mean()
            angle = cosine.double().arccos().rad2deg().mean()
            rows[n].append(
                (len(mesh.faces), stored_bytes(mesh) / 1e3, 100 * outline, angle, 1e3 * depth, seconds)
            )
    for found in rows.values():
        faces, size, outline, angle, depth, seconds = np.mean(found, 0)
        print(f"{faces:<7.0f} {size:>6.0f} {outline:>24.3f} {angle:>17.2f} {depth:>12.2f} {seconds:>8.2f}")


if __name__ == "__main__":
    main()
