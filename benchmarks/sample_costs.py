"""What a sample of a dataset costs, against views, lights, size and mesh; the last of many and the first.

    python benchmarks/sample_costs.py [--table 3] [--curve 1000]

The table varies one thing at a time; a row is the mean of some samples, disk included. The curve writes many
small samples (2 views x 2 lights of 64 x 64, meshes of 48 cells a side) and prints, of every tenth of them,
CPU seconds a sample and the process's memory. CPU seconds are of all threads.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import lift3d
from lift3d.export.dataset import DatasetPlan, write_dataset
from lift3d.model import LiftedGAN
from lift3d.observer import SilentObserver

ROWS = (
    {},
    {"views": 1},
    {"views": 32},
    {"lights": 1},
    {"lights": 32},
    {"size": 64},
    {"size": 256},
    {"size": 512},
    {"meshes": "none"},
    {"meshes": "full"},
    {"mesh_resolution": 64},
    {"mesh_resolution": 256},
)
SMALL = {"views": 2, "lights": 2, "size": 64, "mesh_resolution": 48}


class Watch(SilentObserver):
    """Calls at every finished sample."""

    def __init__(self, note: Callable[[], None]) -> None:
        self.note = note

    def advance(self, n: int = 1, **values: float) -> None:
        self.note()


def table(model: LiftedGAN, n: int, folder: Path) -> None:
    print(f"{'8 views, 8 lights, 128 x 128 but':34s} {'s':>7s} {'CPU s':>7s} {'MB':>7s}   a sample")
    for row in ROWS:
        times: list[tuple[float, float]] = []
        watch = Watch(lambda: times.append((time.perf_counter(), time.process_time())))  # noqa: B023
        write_dataset(model, DatasetPlan(n=n + 1, **row), folder / "row.h5", watch, overwrite=True)
        wall, cpu = ((times[-1][i] - times[0][i]) / n for i in (0, 1))
        size = (folder / "row.h5").stat().st_size / (n + 1) / 1e6
        name = ", ".join(f"{key} {value}" for key, value in row.items()) or "as it is"
        print(f"{name:34s} {wall:7.2f} {cpu:7.2f} {size:7.2f}", flush=True)


def curve(model: LiftedGAN, n: int, folder: Path) -> None:
    points: list[tuple[float, int]] = []  # CPU seconds and bytes in memory, after each sample

    def note() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        points.append((time.process_time(), pages * 4096))
        done, tenth = len(points), max(1, n // 10)
        if done % tenth == 0:
            first = points[done - tenth - 1] if done > tenth else points[0]
            cost = 1e3 * (points[-1][0] - first[0]) / (tenth if done > tenth else tenth - 1)
            print(f"{done:6d} samples: {cost:6.1f} CPU ms a sample, {points[-1][1] / 1e6:.0f} MB", flush=True)

    write_dataset(model, DatasetPlan(n=n, **SMALL), folder / "many.h5", Watch(note))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--table", type=int, default=3, help="samples of a row; 0: no table")
    parser.add_argument("--curve", type=int, default=0, help="samples; 0: no curve")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch: as many samples at a time")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = lift3d.load(given.model)
    with tempfile.TemporaryDirectory() as folder:
        if given.table:
            table(model, given.table, Path(folder))
        if given.curve:
            curve(model, given.curve, Path(folder))


if __name__ == "__main__":
    main()
