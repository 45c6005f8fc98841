"""Priors from predictions: known priors come back, and what is printed can be pasted."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import lift3d
from lift3d.cli.main import main
from lift3d.config.toml import read_category
from lift3d.errors import ConfigError
from lift3d.pseudo_labels.priors import Priors, fit, fit_lights, fit_views
from lift3d.scene.cameras import ViewPrior
from lift3d.scene.lights import LightPrior

REACH = torch.tensor([1.0, 1.0, 1.0, 0.1, 0.1, 0.0])


def test_a_known_view_prior_comes_back() -> None:
    prior = ViewPrior(
        (0.1, -0.2, 0.0, 0.02, 0.0, 0.0), (0.1, 0.3, 0.05, 0.01, 0.0, 0.0), (0.25, 0.6, 0.1, 0.02, 0, 0)
    )
    views = prior.sample(20_000, torch.Generator().manual_seed(0))
    fitted = fit_views(views, REACH)
    assert fitted.mean == pytest.approx(prior.mean, abs=0.01)
    assert fitted.std == pytest.approx(views.std(0).tolist(), abs=1e-4)
    assert fitted.limit == pytest.approx((*prior.limit[:4], 0.0, 0.0), abs=0.01)


def test_what_turns_about_a_pivot_gives_the_prior_of_its_turns() -> None:
    prior = ViewPrior(std=(0.1, 0.3, 0.05, 0.01, 0.0, 0.0), pivot=(0.0, -0.1, 0.5))
    views = prior.sample(20_000, torch.Generator().manual_seed(0))
    assert views[:, 3].std() > 0.1  # the pivot's
    fitted = fit_views(views, REACH, prior.pivot)
    assert fitted.pivot == prior.pivot
    assert fitted.std == pytest.approx(prior.std, abs=0.01)


def test_a_fitted_view_prior_stays_within_reach() -> None:
    views = torch.zeros(100, 6)
    views[:, 1] = torch.linspace(-0.9, 0.95, 100).sign() * 0.9 + 0.05
    fitted = fit_views(views, REACH)
    assert fitted.mean[1] + fitted.limit[1] <= 1.0


def test_a_known_light_prior_comes_back() -> None:
    prior = LightPrior((-0.5, 0.9), (-0.2, 0.4), (0.3, 0.7), (0.9, 1.0), 0.6, (0.0, 0.2))
    lights = prior.sample(20_000, torch.Generator().manual_seed(0))
    fitted = fit_lights(lights)
    for name in ("l_x", "l_y", "diffuse", "level", "negative"):
        assert getattr(fitted, name) == pytest.approx(getattr(prior, name), abs=0.012), name
    assert fitted.coupling == pytest.approx(0.6, abs=0.01)


def test_outliers_do_not_widen_a_range_and_constants_stay() -> None:
    lights = LightPrior().sample(1000, torch.Generator().manual_seed(0))
    lights[:10, 2] = 40.0
    assert fit_lights(lights).l_x == pytest.approx((-1.0, 1.0), abs=0.06)
    constant = torch.tensor([[0.5, 0.4, 0.1, 0.2, 0.0]]).expand(9, 5)
    assert fit_lights(constant) == LightPrior((0.1, 0.1), (0.2, 0.2), (0.4, 0.4), (0.5, 0.5), 0.0, (0.0, 0.0))


def test_the_ambient_term_stays_within_0_and_1() -> None:
    diffuse = torch.linspace(0.0, 1.0, 50)
    ambient = (1.05 - diffuse).clamp(0.01, 0.99)
    zero = torch.zeros(50)
    fitted = fit_lights(torch.stack((ambient, diffuse, zero, zero, zero), -1))
    assert fitted.coupling > 0.9
    assert fitted.level[0] - fitted.coupling * fitted.diffuse[1] >= -2e-4
    assert fitted.level[1] - fitted.coupling * fitted.diffuse[0] <= 1 + 2e-4


def test_what_is_printed_can_be_pasted(tiny_model: Path, tmp_path: Path) -> None:
    command = ["prior", "fit", "--model", str(tiny_model), "--n", "20", "--device", "cpu"]
    printed = CliRunner().invoke(main, command)
    assert printed.exit_code == 0, printed.output
    priors = fit(lift3d.load(tiny_model), 20)
    assert printed.stdout == priors.to_toml()
    assert json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout) == json.loads(
        json.dumps(asdict(priors))
    )
    (tmp_path / "own.toml").write_text('base = "tiny"\nname = "own"\n' + printed.stdout)
    preset = read_category(tmp_path / "own.toml")
    assert Priors(preset.view_prior, preset.light_prior) == priors


def test_too_few_samples(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="the number of samples is 3, expected 8 to 1000000"):
        fit(lift3d.load(tiny_model), 3)
