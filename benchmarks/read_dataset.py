"""Images per second read for training: python benchmarks/read_dataset.py [--samples 8] [--seconds 5]

Every (view, light) image of a dataset of the bundled model, 8 views x 8 lights at 128 x 128, in random order
and batches of 32, colors alone and colors, normals and mask together: with h5py in a loop, as items of
``open_dataset(..., flat=True)``, and through a DataLoader without and with 2 workers. Each way runs for
``--seconds`` after its first batch. CPU milliseconds of the reading process vary less on a busy machine.
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader

import lift3d

BATCH = 32
PER_LIGHT = ("colors",)  # of the maps read here


def by_h5py(path: Path, maps: tuple[str, ...]) -> Iterator[int]:
    """What one writes without lift3d: handles opened once, arrays as they are stored."""
    with h5py.File(path) as h5:
        arrays = {name: h5[name] for name in maps}
        places = np.array(list(itertools.product(*map(range, arrays["colors"].shape[:3]))))
        for i, v, li in np.random.default_rng(0).permutation(places).tolist():
            for name, array in arrays.items():
                _ = array[i, v, li] if name in PER_LIGHT else array[i, v]
            yield 1


def by_items(path: Path, maps: tuple[str, ...]) -> Iterator[int]:
    """Items of the flat dataset, without a loader."""
    images = lift3d.open_dataset(path, maps=maps, flat=True)
    for k in torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist():
        _ = images[k]
        yield 1


def by_loader(path: Path, maps: tuple[str, ...], workers: int) -> Iterator[int]:
    """Batches of a shuffling loader, without end: workers stay from one pass to the next."""
    images = lift3d.open_dataset(path, maps=maps, flat=True)
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    while True:
        yield from (len(batch.index) for batch in loader)


def rate(passes: Iterable[Iterator[int]], seconds: float) -> tuple[float, float]:
    """Images per second, and milliseconds of this process an image, after the first batch."""
    n, start, busy = -BATCH, 0.0, 0.0
    for images in itertools.chain.from_iterable(passes):
        n += images
        if n >= 0 and not start:
            n, start, busy = 0, time.perf_counter(), time.process_time()
        if start and time.perf_counter() - start > seconds:
            break
    return n / (time.perf_counter() - start), 1e3 * (time.process_time() - busy) / n


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces.h5"
        plan = lift3d.DatasetPlan(n=options.samples, views=8, lights=8, meshes="none")
        lift3d.write_dataset(lift3d.load("demo"), plan, path)
        print(f"{os.cpu_count()} cores, {plan.n * 64} images, {path.stat().st_size / 1e6:.0f} MB, cached")
        print(f"{'images/s (CPU ms)':<24}{'h5py':>14}{'items':>14}{'loader':>14}{'2 workers':>14}")
        for maps in (("colors",), ("colors", "normals", "mask")):
            ways = (
                lambda maps=maps: by_h5py(path, maps),
                lambda maps=maps: by_items(path, maps),
                lambda maps=maps: by_loader(path, maps, 0),
                lambda maps=maps: by_loader(path, maps, 2),
            )
            rates = [rate((way() for _ in itertools.count()), options.seconds) for way in ways]
            cells = [f"{speed:.0f} ({busy:.2f})" for speed, busy in rates]
            print(f"{', '.join(maps):<24}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
