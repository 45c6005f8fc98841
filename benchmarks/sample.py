"""What an image of a dataset costs, beside three other ways to get it: one run, one machine, ratios printed.

    LIFT3D_BLENDER=.venv-bpy-4.5.15/bin/python python benchmarks/sample.py [--n 8] [--threads 1]

(a) ``lift3d sample``: 8 views x 8 lights of 128 x 128, all maps, meshes of 20,000 faces, disk included. With
    --processes K also by K processes that share the threads, each writing a shard (``--shard I/K``); their
    start is not counted.
(b) The volume renderer with 36 + 36 samples a ray: each image by itself, as volume renderers work, and with
    the 8 lights of a view at once, which only deferred shading can; and that with samples only around the
    mesh, which is given, and how it differs.
(c) Blender Cycles, 16 samples a pixel, on the same mesh, views and lights; its start is not counted. Left out
    where there is no Blender.
(d) The bytes of (a) written and synced as they are.

CPU seconds are of all threads and processes; on a busy machine they say more than seconds.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import Queue, get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch
from torch import Tensor

import lift3d
from lift3d.errors import BackendUnavailable
from lift3d.export.blender.blend import find_blender, render_blend, write_blend
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.model import LiftedGAN
from lift3d.render.maps import Maps
from lift3d.render.volume import SamplingConfig
from lift3d.renderers import VolumeRenderer
from lift3d.scene.mesh import Mesh

VIEWS, LIGHTS, SIZE = 8, 8, 128
FULL = SamplingConfig(n_coarse=36, n_fine=36, keep_coarse=True)
CYCLES_SAMPLES = 16


@dataclass(frozen=True)
class Cost:
    """Of one image, seconds."""

    name: str
    wall: float
    cpu: float


def cost(name: str, work: Callable[[], object], n_images: int) -> Cost:
    """The cost of an image where ``work`` makes ``n_images``."""

    def cpu() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    wall_before, cpu_before = time.perf_counter(), cpu()
    work()
    return Cost(name, (time.perf_counter() - wall_before) / n_images, (cpu() - cpu_before) / n_images)


def difference(name: str, small: Cost, n_small: int, large: Cost, n_large: int) -> Cost:
    """Of one more image: what both runs have once, such as the start of a program, is left out."""
    more = n_large - n_small
    return Cost(
        name,
        (large.wall * n_large - small.wall * n_small) / more,
        (large.cpu * n_large - small.cpu * n_small) / more,
    )


def shard(barrier: Barrier, results: Queue, name: str, plan: DatasetPlan, path: Path, threads: int) -> None:
    """A process of (a): writes a shard when all are ready; sends when it began and ended, and CPU seconds."""
    torch.set_num_threads(threads)
    model = lift3d.load(name)
    write_dataset(model, DatasetPlan(n=1, views=1, lights=1, size=SIZE), path.with_suffix(".warm.h5"))
    barrier.wait()
    wall, cpu = time.time(), time.process_time()
    write_dataset(model, plan, path)
    results.put((wall, time.time(), time.process_time() - cpu))


def side_by_side(name: str, plan: DatasetPlan, folder: Path, k: int, threads: int) -> Cost:
    """(a) by k processes."""
    context = get_context("spawn")
    barrier, results = context.Barrier(k), context.Queue()
    parts = [replace(plan, shard=f"{i + 1}/{k}") for i in range(k)]
    processes = [
        context.Process(
            target=shard,
            args=(barrier, results, name, part, folder / f"shard-{i}.h5", max(1, threads // k)),
        )
        for i, part in enumerate(parts)
    ]
    for process in processes:
        process.start()
    starts, ends, cpus = zip(*(results.get() for _ in processes), strict=True)
    for process in processes:
        process.join()
    n_images = plan.n * VIEWS * LIGHTS
    wall = (max(ends) - min(starts)) / n_images
    return Cost(f"lift3d sample, {k} processes", wall, sum(cpus) / n_images)


def volume(model: LiftedGAN, plan: DatasetPlan, n_views: int) -> list[Cost]:
    """(b): some images of sample 0."""
    code = plan.sample(model, 0).code[0]
    cameras, lights = plan.draw(0, model.config.view_prior, model.config.light_prior)
    maps: dict[str, Maps] = {}

    def draw(name: str, n: int, mesh: Mesh | None = None) -> Cost:
        def work() -> None:
            renderer = VolumeRenderer(FULL, mesh)
            maps[name] = model.render(code, cameras[:n_views], lights[:n], SIZE, renderer)

        return cost(name, work, n_views * n)

    everywhere, near = f"volume 36 + 36, {LIGHTS} lights at once", "the same around the mesh"
    mesh = model.mesh(code, plan.mesh_resolution)
    costs = [draw("volume 36 + 36", 1), draw(everywhere, LIGHTS), draw(near, LIGHTS, mesh)]
    inside = maps[everywhere].mask & maps[near].mask
    pixels = [maps[name].colors.movedim(1, 3) for name in (everywhere, near)]
    print(
        f"volume, around the mesh: {psnr(*pixels):.1f} dB from samples everywhere, "
        f"{psnr(*(p[inside] for p in pixels)):.1f} dB inside the mask, "
        f"{costs[1].cpu / costs[2].cpu:.1f} x less CPU time"
    )
    return costs


def psnr(a: Tensor, b: Tensor) -> float:
    """Of values in [0, 1], dB."""
    return -10 * (a - b).square().mean().log10().item()


def cycles(model: LiftedGAN, plan: DatasetPlan, folder: Path, n_images: int) -> Cost:
    """(c): some images of sample 0."""
    code = plan.sample(model, 0).code[0]
    cameras, lights = plan.draw(0, model.config.view_prior, model.config.light_prior)
    write_blend(model.mesh(code, plan.mesh_resolution), folder / "head.blend", cameras, lights, SIZE)
    shots = [(i % VIEWS, i // VIEWS) for i in range(n_images + 1)]
    draw = lambda n: render_blend(folder / "head.blend", shots[:n], CYCLES_SAMPLES)  # noqa: E731
    small, large = cost("", lambda: draw(1), 1), cost("", lambda: draw(n_images + 1), n_images + 1)
    return difference(f"Cycles, {CYCLES_SAMPLES} samples", small, 1, large, n_images + 1)


def raw_write(path: Path, n_images: int) -> Cost:
    """(d): the bytes of a file, from memory."""
    data = path.read_bytes()

    def write() -> None:
        with open(path.with_suffix(".raw"), "wb") as file:
            file.write(data)
            os.fsync(file.fileno())

    return cost("raw write of the same bytes", write, n_images)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--n", type=int, default=8, help="samples of (a)")
    parser.add_argument("--few", type=int, default=2, help="views of (b); Cycles draws four times as many")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; Cycles has one")
    parser.add_argument("--processes", type=int, default=1, help="of (a), beside a single one")
    parser.add_argument("--folder", type=Path, help="where files are written")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = lift3d.load(given.model)
    plan = DatasetPlan(n=given.n, views=VIEWS, lights=LIGHTS, size=SIZE)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_dataset(model, DatasetPlan(n=1, views=1, lights=1, size=SIZE), folder / "warm.h5")
        path, n_images = folder / "faces.h5", given.n * VIEWS * LIGHTS
        costs = [cost("lift3d sample", lambda: write_dataset(model, plan, path), n_images)]
        print(
            f"lift3d sample: {costs[0].wall * VIEWS * LIGHTS:.2f} s a sample of {VIEWS * LIGHTS} images, "
            f"{costs[0].cpu * VIEWS * LIGHTS:.2f} CPU s, {path.stat().st_size / given.n / 1e6:.2f} MB"
        )
        if given.processes > 1:
            costs.insert(0, side_by_side(given.model, plan, folder, given.processes, given.threads))
        costs += volume(model, plan, given.few)
        try:
            find_blender()
            costs.append(cycles(model, plan, folder, 4 * given.few))
        except BackendUnavailable as error:
            print(f"without Cycles: {error}")
        costs.append(raw_write(path, n_images))
    print(f"{'one image':38s} {'ms':>9s} {'CPU ms':>9s} {'ratio':>8s} {'of CPU':>8s}")
    for one in costs:
        ratios = one.wall / costs[0].wall, one.cpu / costs[0].cpu
        print(f"{one.name:38s} {one.wall * 1e3:9.2f} {one.cpu * 1e3:9.2f} {ratios[0]:8.1f} {ratios[1]:8.1f}")


if __name__ == "__main__":
    main()
