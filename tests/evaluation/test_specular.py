"""Specular radiance: the truth scores perfectly, black not at all, and only lit pixels count."""

from dataclasses import replace

import pytest
import torch

from lift3d.errors import ConfigError
from lift3d.evaluation.benchmark import Prediction
from lift3d.evaluation.specular import LIT, specular_rows
from lift3d.render.maps import shade_maps
from lift3d.scene.cameras import Cameras, pixel_grid
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material
from lift3d.synthetic.render import render_head


@pytest.fixture(scope="module")
def heads():
    return render_head("benchmark", 3, 64)


def oracle(head):
    """Repeats the ground truth."""
    material = Material(head.albedo[None], head.specular[None, ..., None], head.shininess[None, ..., None])
    _, directions = Cameras.from_view(head.view[None]).rays(pixel_grid(64)[None], 64)
    maps = shade_maps(
        head.mask[None],
        head.depth[None],
        head.normal[None],
        -directions.view(1, 64, 64, 3),
        material,
        Lights.from_vector(head.light[None]),
        (1.0, 1.0, 1.0),
    )
    return Prediction(maps, head.view, head.light)


def with_intensity(prediction, factor):
    maps = prediction.maps
    maps = replace(maps, specular=factor * maps.specular, specular_shading=factor * maps.specular_shading)
    return replace(prediction, maps=maps)


def test_truth_and_black(heads):
    predicted, constant, black = specular_rows([oracle(h) for h in heads], heads)
    assert predicted.error == pytest.approx(0.0, abs=1e-6)
    assert (predicted.correlation, predicted.ratio) == pytest.approx((1.0, 1.0))
    assert constant.error < black.error and constant.correlation > 0.3
    assert black.error > LIT and (black.correlation, black.ratio) == (0.0, 0.0)


def test_half_the_intensity_is_half_the_ratio_and_correlates_all_the_same(heads):
    truth = [oracle(h) for h in heads]
    whole, _, black = specular_rows(truth, heads)
    half, *_ = specular_rows([with_intensity(p, 0.5) for p in truth], heads)
    assert half.ratio == pytest.approx(whole.ratio / 2)
    assert half.correlation == pytest.approx(whole.correlation, abs=1e-6)
    assert whole.error < half.error < black.error


def test_intensity_outside_the_highlight_does_not_count(heads):
    truth = [oracle(h) for h in heads]
    dark = [replace(p, maps=replace(p.maps, specular_shading=p.maps.specular_shading.clone())) for p in truth]
    for p in dark:
        p.maps.specular_shading[p.maps.specular_shading < LIT / 4] = 0.7
    a, b = specular_rows(truth, heads)[0], specular_rows(dark, heads)[0]
    assert b.correlation == pytest.approx(a.correlation, abs=0.02)


def test_images_without_a_highlight_are_refused(heads):
    matte = [replace(h, specular=torch.zeros_like(h.specular)) for h in heads]
    with pytest.raises(ConfigError, match="4 images has a true radiance above 0.02: add images"):
        specular_rows([oracle(h) for h in matte], matte)
