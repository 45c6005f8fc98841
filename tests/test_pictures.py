"""Pictures by their pixels."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from lift3d import pictures
from lift3d.errors import ConfigError
from lift3d.scene.color import srgb_to_linear

WHITE = [255, 255, 255]


def lightness(rgb):
    """OKLab lightness of sRGB pixels (Ottosson 2020)."""
    lms = srgb_to_linear(rgb / 255.0) @ np.array(
        [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
         [0.0883024619, 0.2817188376, 0.6299787005]]
    ).T  # fmt: skip
    return np.cbrt(lms) @ [0.2104542553, 0.7936177850, -0.0040720468]


def patch(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def test_maps_by_hand():
    image = np.array([[[0.0, 0.5, 1.0], [-1.0, 2.0, 0.2]]], np.float32)
    assert pictures.image_to_rgb(image).tolist() == [[[0, 128, 255], [0, 255, 51]]]
    assert pictures.gray_to_rgb(np.array([[0.0, 0.2, 1.0]])).tolist() == [[[0] * 3, [51] * 3, WHITE]]
    axes = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1]]], np.float32)
    expected = [[255, 128, 128], [128, 255, 128], [128, 128, 255], [128, 128, 0]]
    assert pictures.normals_to_rgb(axes).tolist() == [expected]


@pytest.mark.parametrize("draw", ["image", "gray", "normals", "depth", "scalar"])
def test_outside_the_mask_and_non_finite_values_are_white(draw):
    mask = np.array([[True, False, True, True]])
    scalar, vector = np.array([[9.0, 0.0, math.nan, 9.5]]), np.zeros((1, 4, 3))
    vector[0, 2, 1] = math.inf
    picture = {
        "image": lambda: pictures.image_to_rgb(vector, mask),
        "gray": lambda: pictures.gray_to_rgb(scalar - 9, mask),
        "normals": lambda: pictures.normals_to_rgb(vector, mask),
        "depth": lambda: pictures.depth_to_rgb(scalar, mask),
        "scalar": lambda: pictures.scalar_to_rgb(scalar, 9.0, 10.0, mask),
    }[draw]()
    assert picture.dtype == np.uint8 and picture.shape == (1, 4, 3)
    assert (picture[0, [1, 2]] == WHITE).all() and (picture[0, [0, 3]] != WHITE).any(-1).all()


def test_scalar_colors_rise_evenly_in_lightness():
    ramp = np.linspace(0, 1, 200)[None]
    picture = pictures.scalar_to_rgb(ramp, 0.0, 1.0)[0]
    light = lightness(picture)
    assert light[0] == pytest.approx(0.25, abs=0.01) and light[-1] == pytest.approx(0.92, abs=0.01)
    np.testing.assert_allclose(light, np.linspace(0.25, 0.92, 200), atol=0.02)
    assert (np.diff(light) > -0.005).all()
    assert (picture[0] == (0x2B, 0x0C, 0x4D)).all() and (picture[-1] == (0xFB, 0xE4, 0x8D)).all()
    clipped = pictures.scalar_to_rgb(np.array([[-5.0, 9.0]]), 0.0, 1.0)[0]
    assert (clipped == picture[[0, -1]]).all()
    assert (pictures.scalar_to_rgb(np.array([[2.0]]), 2.0, 2.0) == picture[0]).all()  # empty range


def test_depth_is_light_when_near_and_uses_the_range_inside_the_mask():
    depth = np.array([[0.0, 9.0, 9.5, 10.0]], np.float32)
    mask = depth > 0
    picture = pictures.depth_to_rgb(depth, mask)[0]
    light = lightness(picture[1:])
    assert light[0] > light[1] > light[2] and picture[0].tolist() == WHITE
    assert (picture[1:] == pictures.scalar_to_rgb(np.array([[1.0, 0.5, 0.0]]), 0.0, 1.0)[0]).all()
    assert (pictures.depth_to_rgb(depth, np.zeros_like(mask)) == 255).all()
    assert pictures.depth_to_rgb(depth).shape == (1, 4, 3)


def test_grid_places_every_pixel():
    a, b, c = patch(2, 3, 10), patch(4, 1, 20), patch(2, 5, 30)
    got = pictures.grid([[a, b], [None, c], [b]], pad=1)
    expected = patch(1 + 5 + 3 + 5, 1 + 4 + 6, 255)
    expected[2:4, 1:4] = a  # centered in a row of height 4
    expected[1:5, 7:8] = b  # centered in a column of width 5
    expected[6:8, 5:10] = c
    expected[9:13, 2:3] = b
    assert np.array_equal(got, expected)
    assert pictures.grid([], pad=3).shape == (3, 3, 3)
    assert (pictures.grid([[a]]) == np.pad(a, ((2, 2), (2, 2), (0, 0)), constant_values=255)).all()


def test_label_holds_its_text_on_the_background():
    short, long, two = (pictures.label(t) for t in ("depth", "specular intensity", "depth\nyaw 30"))
    assert short.shape[1] < long.shape[1] and short.shape[0] < two.shape[0]
    for picture in (short, long, two):
        assert picture.min() < 100 and (picture[-1] == 255).all()  # ink inside, the last row kept free
    assert pictures.label("").shape[0] >= 1


def test_contact_sheet_is_a_grid_with_labels():
    rows = [[patch(40, 90, 10), patch(40, 90, 20)], [patch(40, 90, 30), None]]
    side = [pictures.label(t) for t in ("first", "second")]
    head = [pictures.label(t) for t in ("image", "depth")]
    sheet = pictures.contact_sheet(rows, ["first", "second"], ["image", "depth"])
    expected = pictures.grid([[None, *head], [side[0], *rows[0]], [side[1], *rows[1]]], pad=4)
    assert np.array_equal(sheet, expected)
    assert np.array_equal(pictures.contact_sheet(rows), pictures.grid(rows, pad=4))
    columns_only = pictures.contact_sheet(rows, (), ["image", "depth"])
    assert np.array_equal(columns_only, pictures.grid([head, *rows], 4))


def test_errors():
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ConfigError, match=r"grid: got .* \(4, 4.*\), expected uint8 \(h, w, 3\)"):
            pictures.grid([[patch(2, 2, 0), wrong]])
    with pytest.raises(ConfigError, match="got 1 row labels for 2 rows"):
        pictures.contact_sheet([[patch(2, 2, 0)], [None]], ["a"])
    with pytest.raises(ConfigError, match="got 3 column labels for 1 columns"):
        pictures.contact_sheet([[patch(2, 2, 0)]], (), ["a", "b", "c"])


def test_enlarge_and_png_round_trip(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    big = pictures.enlarge(picture, 3)
    assert big.shape == (15, 21, 3)
    assert all(np.array_equal(big[i::3, j::3], picture) for i in range(3) for j in range(3))
    path = tmp_path / "new" / "folder" / "a.png"
    pictures.save_image(path, big)
    with Image.open(path) as image:
        assert image.format == "PNG" and np.array_equal(np.array(image), big)


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.webp", "WEBP")])
def test_an_image_is_of_the_kind_its_name_says(tmp_path, name, kind):
    colors = torch.linspace(0, 1, 5 * 7 * 3).view(5, 7, 3)
    for given in (colors, (colors * 255).round().to(torch.uint8)):
        pictures.save_image(tmp_path / name, given)
        with Image.open(tmp_path / name) as image:
            assert image.format == kind == pictures.image_kind(name)
            error = np.array(image) / 255 - colors.numpy()
        assert abs(error).max() < (0.51 / 255 if kind == "PNG" else 0.3)


def test_what_is_no_image_is_not_saved(tmp_path):
    with pytest.raises(ConfigError, match=r"colors have the shape \(1, 5, 7, 3\), expected \(h, w, 3\)"):
        pictures.save_image(tmp_path / "a.png", torch.zeros(1, 5, 7, 3))
    with pytest.raises(
        ConfigError, match=r"a.xyz has no known image format, expected a name such as head.png"
    ):
        pictures.save_image(tmp_path / "a.xyz", torch.zeros(5, 7, 3))
