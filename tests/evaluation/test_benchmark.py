"""The benchmark: the truth scores perfectly, and knowing more scores better."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_gan import PRESET, tiny_gan

from lift3d.errors import ConfigError
from lift3d.evaluation import relighting as module
from lift3d.evaluation.benchmark import baselines, benchmark_renders, evaluate, measure
from lift3d.evaluation.relighting import relighting
from lift3d.model import LiftedGAN


@pytest.fixture(scope="module")
def renders():
    return benchmark_renders(2)


def oracle(_, render):
    """Repeats the ground truth."""
    return render


def test_the_truth_has_no_error(renders):
    row = measure("oracle", oracle, renders)
    assert row.mask_iou == 1.0 and row.n_empty == 0
    for name in ("side_x100", "albedo", "albedo_scaled", "specular"):
        assert getattr(row, name) == pytest.approx(0.0, abs=1e-6), name
    for name in ("mad_deg", "view_deg", "light_deg"):
        assert getattr(row, name) == pytest.approx(0.0, abs=0.05), name


def test_rows_and_their_order(renders):
    rows = {name: measure(name, predictor, renders) for name, predictor in baselines().items()}
    assert list(rows) == [
        "ellipsoid, canonical pose",
        "mean head, canonical pose",
        "random head, true pose",
        "mean head, true pose",
    ]
    best = rows["mean head, true pose"]
    for name in ("ellipsoid, canonical pose", "mean head, canonical pose"):
        assert best.mad_deg < rows[name].mad_deg and best.side_x100 < rows[name].side_x100
    assert best.view_deg is None and best.albedo is None


def test_a_wrong_pose_costs_its_angle_once(renders):
    def turned(_, render):
        return replace(render, view=render.view + torch.tensor([0.0, 0.1, 0.0, 0.0, 0.0, 0.0]))

    row = measure("turned", turned, renders)
    assert row.view_deg == pytest.approx(torch.rad2deg(torch.tensor(0.1)).item(), rel=0.1)
    assert 0 < row.mad_deg <= row.view_deg + 1e-3  # a rotation moves a direction by at most its angle


def test_an_untrained_model_is_the_ellipsoid_it_starts_from():
    torch.manual_seed(0)
    model = LiftedGAN(PRESET, tiny_gan().generator).requires_grad_(False)
    rows = evaluate(model, n_heads=1)
    assert rows[0].name == "lifted" and len(rows) == 5
    assert rows[0].mask_iou > 0.5 and rows[0].view_deg is not None and rows[0].light_deg is not None
    with pytest.raises(ConfigError, match="number of benchmark heads is 65, expected 1..64"):
        evaluate(model, n_heads=65)


def test_relighting_correlates_requested_and_read_lights(monkeypatch):
    class Echo(LiftedGAN):
        """A model whose projection hands the requested light to its light encoder."""

        def __init__(self):
            torch.nn.Module.__init__(self)
            self.config = PRESET

        def sample(self, seeds):
            return SimpleNamespace(code=[None], cameras=None, w=[None])

        def mesh(self, code, resolution):
            return None

        def render(self, code, cameras, lights, size, renderer):
            return SimpleNamespace(colors=lights.to_vector().view(1, 1, 1, 5, 1).expand(1, 1, 16, 5, 3))

        def project(self, w, images):
            return (images + 1) / 2

        def light_encoder(self, images):
            return -images[:, 0, 0, :]

    monkeypatch.setattr(module, "resize", lambda images, size: images)
    result = relighting(Echo(), n=20)
    assert result.l_x == pytest.approx(-1.0) and result.l_y == pytest.approx(-1.0)
    assert -1.0 < result.direction < -0.7  # z agrees, and varies little
    with pytest.raises(ConfigError, match="number of relit samples is 1, expected at least 2"):
        relighting(Echo(), n=1)
