"""Masks from a constant background."""

import numpy as np
import torch

from lift3d.masks.background import TOLERANCE, background_masks
from lift3d.masks.morphology import interior
from lift3d.scene.batch import stack
from lift3d.scene.images import colors_to_images, to_bytes
from lift3d.synthetic.render import BACKGROUND, render_head


def picture(*objects: np.ndarray) -> torch.Tensor:
    """White images with dark objects."""
    image = np.full((len(objects), 3, *objects[0].shape), 255, np.uint8)
    for i, mask in enumerate(objects):
        image[i, :, mask] = 40
    return torch.from_numpy(image)


def disc(radius: float, x: float = 8, y: float = 8) -> np.ndarray:
    rows, columns = np.mgrid[:16, :16]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def test_objects_are_what_differs_from_the_background() -> None:
    first, second = disc(4), disc(3, 4, 10) | disc(2, 12, 3)
    masks = background_masks(picture(first, second), 1.0)
    assert np.array_equal(masks.numpy(), np.stack([first, second]))
    assert not background_masks(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), 1.0).any()


def test_a_white_highlight_inside_an_object_belongs_to_it_and_a_bay_does_not() -> None:
    ring = disc(6) & ~disc(2)
    bay = disc(6)
    bay[8, 8:] = False
    masks = background_masks(picture(ring, bay), 1.0).numpy()
    assert np.array_equal(masks[0], disc(6))
    assert np.array_equal(masks[1], bay)


def test_one_channel_beyond_the_tolerance_is_enough() -> None:
    image = torch.full((1, 3, 2, 2), 128, dtype=torch.uint8)
    gray = 128 / 255
    image[0, 1, 0, 0] += int(TOLERANCE * 255) + 1
    image[0, 2, 1, 1] -= int(TOLERANCE * 255)
    assert background_masks(image, gray).tolist() == [[[True, False], [False, False]]]
    assert background_masks(image, gray, tolerance=0.05).tolist() == [[[True, False], [False, True]]]


def test_masks_of_heads_are_their_true_masks_up_to_pixels_of_the_outline() -> None:
    renders = stack([render_head("train", head, 64, n_renders=1)[0] for head in range(8)])
    images = to_bytes(colors_to_images(renders.image))
    truth, masks = renders.maps.mask, background_masks(images, BACKGROUND)
    grown = torch.nn.functional.max_pool2d(truth.float(), 3, 1, 1) > 0
    assert not (masks & ~grown).any()
    assert (interior(truth) & ~masks).sum() < 2e-3 * truth.sum()  # light skin at the edge of dark hair
    assert (masks & truth).sum() / (masks | truth).sum() > 0.97
    assert abs(masks.sum() / truth.sum() - 1) < 0.015  # neither too wide nor too narrow


def test_a_pixel_that_the_outline_cuts_counts_from_half_on() -> None:
    image = picture(disc(4))
    image[0, :, 8, 13] = 255 - 215 * 4 // 10  # 40 % of the object's color
    image[0, :, 8, 3] = 255 - 215 * 6 // 10
    mask = background_masks(image, 1.0)[0]
    assert not mask[8, 13] and mask[8, 3]


def test_the_interior_lacks_the_outermost_pixels() -> None:
    mask = np.zeros((1, 16, 16), bool)
    mask[0, 4:10, 5:12] = True
    inside = interior(torch.from_numpy(mask))[0].numpy()
    expected = np.zeros((16, 16), bool)
    expected[5:9, 6:11] = True
    assert np.array_equal(inside, expected)
