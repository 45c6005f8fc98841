"""Object masks by an off-the-shelf segmenter (``--masks auto``): GrabCut of OpenCV, which needs no weights.

GrabCut separates two mixtures of colors. It is told that the left, right and upper edge of a picture (and
its black bars) are background, and that the middle of the ellipsoid that the preset's shapes start from is
object; it starts from the outline of that ellipsoid. It knows nothing of objects: what it cannot do stands in
docs/own-category.md.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray
from torch import Tensor

from lift3d.errors import optional

GRID = 128  # pixels per side that are segmented: finer ones lose eyes and mouths, and take four times longer
EDGE = 0.04  # of the side: this close to an edge there is no object
CORE = 0.8  # so much of the ellipsoid is object at any yaw, whatever its colors: pale noses, dark eyes
ITERATIONS = 5


@dataclass(frozen=True)
class GrabCut:
    """A mask source (mask_sources.py)."""

    cv2: ModuleType
    radii: tuple[float, float, float]  # of the ellipsoid, world units: 1 touches the frame
    bars: float = 0.0  # height of the black bars, as a fraction of the side

    def __call__(self, images: UInt8[Tensor, "n 3 s s"], names: Sequence[str]) -> Bool[Tensor, "n s s"]:
        """The masks of these images, whatever their names; OpenCV works on as many at a time as there are
        processors.
        """
        found = np.empty(images[:, 0].shape, bool)

        def fill(i: int) -> None:
            found[i] = self.mask(images[i].permute(1, 2, 0).contiguous().cpu().numpy())

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(fill, range(len(images))))
        return torch.from_numpy(found)

    def mask(self, picture: UInt8[np.ndarray, "s s 3"]) -> Bool[np.ndarray, "s s"]:
        """The largest piece of foreground, holes filled; deterministic."""
        from scipy.ndimage import binary_fill_holes, label

        cv2, size = self.cv2, len(picture)
        small = cv2.resize(picture, (GRID, GRID), interpolation=cv2.INTER_AREA)
        labels, models = self.start(), (np.zeros((1, 65)), np.zeros((1, 65)))
        cv2.setRNGSeed(0)
        cv2.grabCut(small, labels, None, *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
        pieces, n = label(labels & 1)
        if n > 1:
            pieces = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
        filled = binary_fill_holes(pieces > 0).astype(np.float32)
        return cv2.resize(filled, (size, size), interpolation=cv2.INTER_LINEAR) >= 0.5

    def start(self) -> NDArray[np.uint8]:
        """What is known before looking: background or object, or probably one of them."""
        cv2 = self.cv2
        y, x = (np.mgrid[:GRID, :GRID] + 0.5) / (GRID / 2) - 1
        sides, height = (self.radii[0], self.radii[2]), self.radii[1]
        inside = np.hypot(x / max(sides), y / height) < 1  # at some yaw
        labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        labels[np.hypot(x / min(sides), y / height) < CORE] = cv2.GC_FGD
        edge, bar = round(EDGE * GRID), round(self.bars * GRID)
        labels[:, :edge] = labels[:, -edge:] = labels[: bar + edge] = cv2.GC_BGD
        labels[GRID - bar :] = cv2.GC_BGD
        return labels


def get_segmenter(radii: tuple[float, float, float], bars: float = 0.0) -> GrabCut:
    """The segmenter for objects about as large as this ellipsoid; ``BackendUnavailable`` says what to
    install."""
    remedy = "--masks auto needs OpenCV: pip install opencv-python-headless; or pass --masks DIR"
    return GrabCut(optional("cv2", remedy), radii, bars)
