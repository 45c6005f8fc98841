"""Packs head renders into one memory-mapped array, the training data of the demo GAN:

python -m lift3d.synthetic.pack runs/heads64.npy --heads 10000 --size 64
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lift3d.scene.images import to_uint8
from lift3d.synthetic.render import VIEWS_PER_HEAD, render_head
from lift3d.whole_file import replacing


def head_images(split: str, head: int, size: int) -> NDArray[np.uint8]:
    """All renders of one head, [VIEWS_PER_HEAD, size, size, 3]."""
    return np.stack([to_uint8(render.image.numpy()) for render in render_head(split, head, size)])


def pack_images(path: Path, split: str, n_heads: int, size: int, workers: int = 4) -> NDArray[np.uint8]:
    """Renders heads 0..n_heads-1 of a split into ``path`` (.npy): [n_heads * VIEWS_PER_HEAD, size, size, 3].

    The file gets its name when it is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"descr": "|u1", "fortran_order": False, "shape": (n_heads * VIEWS_PER_HEAD, size, size, 3)}
    context = get_context("spawn")
    with (
        replacing(path) as file,
        ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        jobs = pool.map(head_images, [split] * n_heads, range(n_heads), [size] * n_heads, chunksize=16)
        for renders in jobs:
            file.write(renders.tobytes())
    return np.load(path, mmap_mode="r")


def main() -> None:
    """Command line of the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--heads", type=int, default=10000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    pack_images(args.out, "train", args.heads, args.size, args.workers)


if __name__ == "__main__":
    main()
