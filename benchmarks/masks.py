"""Masks of ``--masks auto`` against exact ones: ``python benchmarks/masks.py [HEADS] [SIZE]``.

Rendered heads before white, before blurred random colors, and before their own mean color; prints IoU (mean
over heads, the worst in brackets), recall, precision and milliseconds per image.
"""

import sys
import time

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from lift3d.config.presets import DEMO
from lift3d.masks.grabcut import get_segmenter
from lift3d.scene.batch import stack
from lift3d.scene.images import to_uint8
from lift3d.synthetic.render import render_head

BLURS = (4, 12, 30)  # pixels of 256


def backgrounds(heads: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """The heads [n, s, s, 3], uint8, before backgrounds by name."""
    rng, (n, size) = np.random.default_rng(0), masks.shape[:2]
    blobs = np.stack(
        [gaussian_filter(rng.random((size, size, 3)), (b, b, 0), mode="wrap") for b in rng.choice(BLURS, n)]
    )
    blobs -= blobs.min((1, 2, 3), keepdims=True)
    blobs *= 255 / blobs.max((1, 2, 3), keepdims=True)
    own = np.stack([head[mask].mean(0) for head, mask in zip(heads, masks)])[:, None, None]
    own = (own + rng.normal(0, 6, heads.shape)).clip(0, 255)
    inside = masks[..., None]
    return {"white": heads} | {
        name: np.where(inside, heads, other).astype(np.uint8)
        for name, other in (("colors", blobs), ("own mean color", own))
    }


def main(n: int, size: int) -> None:
    """Prints one line per background."""
    renders = stack([render_head("train", head, size, n_renders=1)[0] for head in range(n)])
    masks, heads = renders.maps.mask.numpy(), to_uint8(renders.image.numpy())
    segmenter = get_segmenter(DEMO.radii)
    for name, pictures in backgrounds(heads, masks).items():
        start = time.monotonic()
        found = segmenter(torch.from_numpy(pictures).permute(0, 3, 1, 2), [""] * n).numpy()
        milliseconds = 1000 * (time.monotonic() - start) / n
        both = (found & masks).sum((1, 2))
        iou = both / (found | masks).sum((1, 2))
        recall, precision = both.sum() / masks.sum(), both.sum() / found.sum()
        print(
            f"{name:16} IoU {iou.mean():.3f} ({iou.min():.3f}), recall {recall:.3f}, "
            f"precision {precision:.3f}, {milliseconds:.0f} ms"
        )


if __name__ == "__main__":
    main(*(int(a) for a in [*sys.argv[1:], *("32", "256")[len(sys.argv) - 1 :]]))
