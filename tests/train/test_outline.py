"""Shapes do not vanish: toys of the published presets, and a run that is stopped."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from eggs import Eggs, toy
from tiny_gan import PRESET

from lift3d.checkpoint import read_tensors
from lift3d.config.presets import PRESETS
from lift3d.errors import TrainingDiverged
from lift3d.gan.own import as_gan
from lift3d.model import LiftedGAN
from lift3d.scene.images import to_bytes
from lift3d.seeds import training_seed
from lift3d.train import outline
from lift3d.train.instance import finetune
from lift3d.train.joint import pretrain
from lift3d.train.outline import covered, covered_by_prior
from lift3d.train.runner import STATE

PUBLISHED = [name for name in PRESETS if name not in ("demo", "tiny")]


def test_the_prior_covers_what_its_ellipse_does() -> None:
    preset = replace(PRESET, radii=(0.4, 0.8, 0.5))
    model = LiftedGAN(preset, as_gan(Eggs(preset.radii)).generator).requires_grad_(False)
    areas = covered(model, torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    torch.testing.assert_close(areas, torch.full((2,), covered_by_prior(preset)), rtol=0.06, atol=0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_thirty_steps_keep_half_of_the_area(name: str, tmp_path: Path) -> None:
    preset, gan = toy(name)
    images = lambda model: to_bytes(model.images(torch.zeros(1, 8)))  # noqa: E731
    if preset.joint is None:
        model = finetune(preset, gan, tmp_path / "run").members[0]
    else:
        model = pretrain(preset, gan, tmp_path / "run")
    assert covered(model, images(model)).item() > 0.5 * covered_by_prior(preset)


def test_a_shape_that_vanishes_stops_the_run_before_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without masks, thirty steps take away more than half of what the tests above keep."""
    monkeypatch.setattr(outline, "LEAST", 0.5)
    preset, gan = toy("celeba", "paper")
    (tmp_path / "run").mkdir()
    with pytest.raises(TrainingDiverged) as caught:
        pretrain(preset, gan, tmp_path / "run", masks="none", checkpoint_seconds=0.0)
    sentence = str(caught.value)
    assert "stage 1 of 1, exploit: the shape has vanished, it covers 1" in sentence
    assert "the last good checkpoint was kept: give masks: --masks auto or a folder, then start" in sentence
    assert not (tmp_path / "run" / "model.safetensors").exists()
    about, tensors = read_tensors(tmp_path / "run" / STATE)
    model = LiftedGAN(preset, gan.generator).requires_grad_(False)
    saved = {k.removeprefix("model."): t for k, t in tensors.items() if k.startswith("model.")}
    model.load_state_dict(model.state_dict() | saved)
    watched = to_bytes(model.sample(range(training_seed(0), training_seed(0) + 4)).image)
    assert covered(model, watched).mean() > 0.5 * covered_by_prior(preset)
