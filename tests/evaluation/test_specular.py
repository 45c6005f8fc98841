"""Specular radiance: the truth scores perfectly, black not at all, and only lit pixels count."""

from dataclasses import replace

import pytest
import torch

from lift3d.evaluation.specular import LIT, specular_rows
from lift3d.synthetic.render import render_head


@pytest.fixture(scope="module")
def heads():
    return render_head("benchmark", 3, 64)


def with_maps(renders, **maps):
    """Renders whose maps are others in part."""
    return replace(renders, maps=replace(renders.maps, **maps))


def test_truth_and_black(heads):
    predicted, constant, black = specular_rows(heads, heads)
    assert predicted.error == pytest.approx(0.0, abs=1e-6)
    assert (predicted.correlation, predicted.ratio) == pytest.approx((1.0, 1.0))
    assert constant.error < black.error and constant.correlation > 0.3
    assert black.error > LIT and (black.correlation, black.ratio) == (0.0, 0.0)


def test_half_the_intensity_is_half_the_ratio_and_correlates_all_the_same(heads):
    maps = heads.maps
    dim = with_maps(heads, specular=maps.specular / 2, specular_shading=maps.specular_shading / 2)
    (whole, _, black), (half, *_) = specular_rows(heads, heads), specular_rows(dim, heads)
    assert half.ratio == pytest.approx(whole.ratio / 2)
    assert half.correlation == pytest.approx(whole.correlation, abs=1e-6)
    assert whole.error < half.error < black.error


def test_intensity_outside_the_highlight_does_not_count(heads):
    radiance = heads.maps.specular_shading
    dark = with_maps(heads, specular_shading=torch.where(radiance < LIT / 4, 0.7, radiance))
    a, b = specular_rows(heads, heads)[0], specular_rows(dark, heads)[0]
    assert b.correlation == pytest.approx(a.correlation, abs=0.02)


def test_images_without_a_highlight_say_nothing(heads):
    matte = with_maps(heads, specular_shading=torch.zeros_like(heads.maps.specular_shading))
    assert specular_rows(matte, matte) == []
