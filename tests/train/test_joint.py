"""Joint pre-training: every step runs, a resumed run equals an uninterrupted one, and bad runs stop with a
sentence.
"""

import json
from dataclasses import replace

import pytest
import torch
from interrupted import Stop, StopAfter
from tiny_gan import PRESET, alias_free_gan, other_gan, tiny_gan

from lift3d.config.presets import LSUN_CAR, TINY
from lift3d.errors import CheckpointError, ConfigError, TrainingDiverged
from lift3d.gan.published import find_gan
from lift3d.model import LiftedGAN, load
from lift3d.networks.perceptual import FeatureDistance
from lift3d.train import stages as module
from lift3d.train.joint import pretrain
from lift3d.train.runner import STATE
from lift3d.train.stages import stages


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "whole"
    return out, pretrain(PRESET, tiny_gan(), out, checkpoint_seconds=0.0)


def test_every_phase_is_logged_and_drawn(finished):
    out, _ = finished
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [(e["stage"], e["phase"]) for e in entries] == [
        *((s, p) for s in range(2) for p in ("explore", "align", "exploit")),
        (2, "calibrate"),
        (3, "distill"),
        (4, "calibrate"),
        (5, "lean"),
        (6, "realign"),
    ]
    assert {"l1", "eikonal", "mask"} <= entries[2].keys()
    assert "consistency" not in entries[1] and "consistency" in entries[4]  # E_v knows nothing before
    for stage in range(2):
        for kind in ("projections", "intrinsics"):
            assert (out / f"stage-{stage}-{kind}.png").stat().st_size > 0
    assert (out / "curves-exploit.png").exists()


def test_the_saved_model_is_the_returned_one(finished):
    out, model = finished
    again = load(out)
    assert again.config == PRESET
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_an_alias_free_gan_is_lifted_like_any_other(tmp_path):
    gan = alias_free_gan()
    before = {name: tensor.clone() for name, tensor in gan.generator.state_dict().items()}
    model = pretrain(PRESET, gan, tmp_path, checkpoint_seconds=0.0)
    again = load(tmp_path)
    assert again.generator.config == gan.generator.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert all(torch.equal(again.generator.state_dict()[name], tensor) for name, tensor in before.items())
    sample = again.sample([3])[0]
    assert again.project(sample.w, sample.image[None]).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("reports", [1, 2, 3, 5, 6, 7, 10])
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(finished, tmp_path, reports):
    out, whole = finished
    with pytest.raises(Stop):
        pretrain(PRESET, tiny_gan(), tmp_path, StopAfter(reports), checkpoint_seconds=0.0)
    model = pretrain(PRESET, tiny_gan(), tmp_path, resume=True, checkpoint_seconds=0.0)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_training_moves_what_it_should_and_nothing_else(finished):
    _, model = finished
    gan = tiny_gan()
    torch.manual_seed(0)
    fresh = LiftedGAN(PRESET, gan.generator).state_dict()
    for name, tensor in model.state_dict().items():
        moved = not torch.equal(tensor, fresh[name])
        frozen = name.startswith("generator.") or name in (
            "shape.radii",
            "gan_encoder.out.bias",
        )  # the bias cancels in dw
        assert moved != frozen or name == "open_bands", name


def test_open_bands_rise_from_sigma_min_to_sigma_max():
    values = [
        stage.open_bands[0] + stage.open_bands[1] * step
        for stage in stages(PRESET, [PRESET.joint])
        for step in range(stage.n_explore + PRESET.joint.exploit)
    ]
    assert values[0] == pytest.approx(0.3) and values[-1] == pytest.approx(1.0)
    assert len(values) == 15
    assert all(b > a for a, b in zip(values, values[1:], strict=False))


def test_stages_for_people_who_count_from_one(finished):
    out, _ = finished
    assert (out / "model-stage-1.safetensors").exists()
    found = stages(PRESET, [PRESET.joint])
    assert [s.title for s in found] == ["stage 1 of 2", "stage 2 of 2"]
    assert [s.from_prior for s in found] == [True, False] and [s.n_latent for s in found] == [3, 0]
    weight, no_latent = (
        PRESET.weights.consistency,
        replace(PRESET.joint, latent=0, calibrate=0, distill=0, lean=0, realign=0),
    )
    assert [s.consistency for s in found] == [0.0, weight] and [s.masked for s in found] == [True, False]
    unknown = replace(PRESET, background=None, masks="none", n_unlabeled=0, joint=no_latent)
    assert all(stage.masked for stage in stages(unknown, [no_latent]))


def test_a_resume_with_another_perceptual_distance_is_refused(finished, monkeypatch):
    out, _ = finished
    monkeypatch.setattr(FeatureDistance, "name", "lpips-vgg")
    with pytest.raises(ConfigError, match="other settings .perceptual discriminator, now lpips-vgg."):
        pretrain(PRESET, tiny_gan(), out, resume=True)


def test_refuses_to_touch_a_run_it_was_not_told_to(finished, tmp_path):
    out, _ = finished
    before = (out / STATE).read_bytes()
    with pytest.raises(ConfigError, match="pass --resume to continue it or --overwrite"):
        pretrain(PRESET, tiny_gan(), out)
    with pytest.raises(ConfigError, match="started with other settings"):
        pretrain(replace(PRESET, truncation=0.5), tiny_gan(), out, resume=True)
    with pytest.raises(ConfigError, match="holds no run to resume"):
        pretrain(PRESET, tiny_gan(), tmp_path / "none", resume=True)
    assert (out / STATE).read_bytes() == before


def test_refuses_what_it_cannot_lift(tmp_path):
    with pytest.raises(ConfigError, match="lsun-car has no joint pre-training"):
        pretrain(LSUN_CAR, tiny_gan(), tmp_path)
    with pytest.raises(
        CheckpointError,
        match="tiny draws 16 x 16 pixels, tiny works at 64: give a GAN of 64 pixels or more, or .* size = 16",
    ):
        pretrain(TINY, tiny_gan(), tmp_path)
    for changes, sentence in (
        ({"c_dim": 3}, "tiny is conditional, tiny needs a GAN without classes"),
        ({"image_channels": 1}, "tiny draws 1 channels per pixel, expected 3"),
    ):
        with pytest.raises(CheckpointError, match=sentence):
            pretrain(PRESET, other_gan(**changes), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="dogs needs its GAN: pass the file you have with --gan"):
        find_gan(replace(PRESET, name="dogs"))


def test_a_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    exploit = module.exploit.exploit_loss

    def poisoned(*args, **options):
        losses = exploit(*args, **options)
        return losses | {"total": losses["total"] * float("nan")}

    monkeypatch.setattr(module.exploit, "exploit_loss", poisoned)
    with pytest.raises(
        TrainingDiverged,
        match="stage 1 of 2, exploit, steps 0 to \\d: the loss is nan; the last good checkpoint",
    ):
        pretrain(PRESET, tiny_gan(), tmp_path)
    monkeypatch.undo()
    assert torch.isfinite(pretrain(PRESET, tiny_gan(), tmp_path, resume=True).log_sharpness)
