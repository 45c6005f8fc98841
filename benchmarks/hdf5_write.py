"""How fast datasets are written: ``DatasetWriter`` against h5py's own gzip, same content, same layout.

    python benchmarks/hdf5_write.py [--samples 40] [--folder /tmp]

Content: shaded balls with grain, 8 views x 4 lights of 128 x 128 pixels and all maps, as smooth as renders.
MB/s count uncompressed bytes; both times include getting the data onto the disk. CPU seconds are of all
threads: they say how much is left for rendering, and vary less on a busy machine.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from lift3d.export.hdf5.sample_file import Form, write_reference
from lift3d.export.hdf5.schema import MAPS, UNCHECKED, Dimensions, stored
from lift3d.export.hdf5.writer import DatasetWriter, create

VIEWS, LIGHTS, SIZE = 8, 4, 128
SPECS = stored(MAPS, gan=False, meshes=False)
ATTRIBUTES = {"config": "{}", "generator": "benchmark", "created": "", "license": "CC0-1.0"}


def sample(seed: int, lengths: Dimensions) -> dict[str, NDArray]:
    """Arrays of one sample: a ball with grain under random lights; other datasets are random."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1.2 : 1.2 : SIZE * 1j, -1.2 : 1.2 : SIZE * 1j]
    mask = x**2 + y**2 < 1
    z = np.sqrt(np.where(mask, 1 - x**2 - y**2, 0))
    grain = rng.normal(0, 0.01, (VIEWS, SIZE, SIZE, 3))
    normals = np.where(mask[..., None], np.stack((x, -y, z), -1) + grain, 0)
    waves = np.sin(5 * normals * rng.uniform(0.5, 2, 3) + rng.uniform(0, 6, 3))
    albedo = np.where(mask[..., None], 0.6 + 0.3 * waves + grain, 0).clip(0, 1)
    lights = rng.normal((0, 0, 2), 1, (LIGHTS, 3))
    cosine = np.einsum("vyxc,lc->vlyx", normals, lights / np.linalg.norm(lights, axis=-1, keepdims=True))
    diffuse = np.where(mask, 0.4 + 0.6 * cosine.clip(0), 0)
    specular = np.where(mask, 0.2 * cosine.clip(0) ** 20, 0)
    colors = np.where(mask[..., None], albedo[:, None] * diffuse[..., None] + specular[..., None], 1).clip(
        0, 1
    )
    images = {
        "colors": colors * 255,
        "albedo": albedo * 255,
        "specular": waves[..., 0] * mask,
        "shininess": mask * (40 + 20 * waves[..., 1]),
        "diffuse_shading": diffuse,
        "specular_shading": specular,
        "depth": mask * (9.5 - z + grain[..., 0] / 10),
        "normals": normals,
        "mask": mask * np.ones((VIEWS, 1, 1)),
    }
    found = {}
    for spec in SPECS:
        if spec.name not in UNCHECKED:
            array = images[spec.name] if spec.name in images else rng.random(spec.extent(lengths)[1:])
            found[spec.name] = np.asarray(array).astype(spec.dtype)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    n, white = given.samples, (1.0, 1.0, 1.0)
    lengths = Dimensions(n, VIEWS, LIGHTS, SIZE, SIZE, 512, 512, 512, 0, 0)
    samples = [sample(i, lengths) for i in range(n)]
    megabytes = sum(array.nbytes for arrays in samples for array in arrays.values()) / 1e6
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        theirs, ours = Path(folder) / "h5py.h5", Path(folder) / "lift3d.h5"
        form = Form(SPECS, lengths, ATTRIBUTES, white)
        slow = _timed(theirs, lambda: write_reference(theirs, form, samples))
        fast = _timed(ours, lambda: _write(ours, lengths, samples))
        with h5py.File(ours) as a, h5py.File(theirs) as b:
            assert all(np.array_equal(a[spec.name], b[spec.name]) for spec in SPECS)
        sizes = [path.stat().st_size / 1e6 for path in (theirs, ours)]
    images = n * VIEWS * LIGHTS
    print(f"{n} samples, {images} color images, {megabytes:.0f} MB; {len(os.sched_getaffinity(0))} cores")
    for name, (wall, cpu), size in (("h5py gzip-1", slow, sizes[0]), ("lift3d", fast, sizes[1])):
        speed = f"{megabytes / wall:6.0f} MB/s {images / wall:6.0f} images/s"
        print(f"{name:12} {speed} {wall:6.1f} s {cpu:6.1f} CPU s {size:6.1f} MB stored")
    print(f"ratio        {slow[0] / fast[0]:.1f} x in time, {slow[1] / fast[1]:.1f} x in CPU time")


def _write(path: Path, lengths: Dimensions, samples: list[dict[str, NDArray]]) -> None:
    os.close(create(path, Form(SPECS, lengths, ATTRIBUTES, (1.0, 1.0, 1.0)), len(samples)))
    with DatasetWriter(path) as writer:
        for i, arrays in enumerate(samples):
            writer.write(i, arrays)


def _timed(path: Path, work: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds, until the file is on the disk."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
