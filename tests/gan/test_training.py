"""The GAN trainer: exact resume, growth, guards."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lift3d.errors import CheckpointError, ConfigError, CorruptFile, TrainingDiverged
from lift3d.gan.files.load import load
from lift3d.gan.latents import sample_images, sample_z
from lift3d.gan.stylegan2 import DiscriminatorConfig, GeneratorConfig
from lift3d.gan.training.trainer import (
    CHECKPOINT,
    GanTrainConfig,
    grow_from,
    load_state,
    new_state,
    r1_penalty,
    read_batch,
    train_gan,
)


def tiny(n_blocks: int = 2, **settings) -> GanTrainConfig:
    channels = (8, 6, 4)[:n_blocks]
    return GanTrainConfig(
        GeneratorConfig(channels, z_dim=5, w_dim=7, n_mapping_layers=2),
        DiscriminatorConfig(channels),
        **{"batch_size": 4, "r1_interval": 2, "checkpoint_every": 8, "log_every": 4, **settings},
    )


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)


def all_tensors(path) -> dict[str, torch.Tensor]:
    from lift3d.gan.files.load import read_tensors

    return read_tensors(path)[1]


def test_resumed_run_equals_uninterrupted_run_bit_for_bit(tmp_path, images):
    train_gan(images, tiny(), tmp_path / "whole", max_images=24)
    train_gan(images, tiny(), tmp_path / "halves", max_images=12)
    train_gan(images, tiny(), tmp_path / "halves", max_images=24, resume=True)
    whole, halves = (all_tensors(tmp_path / run / CHECKPOINT) for run in ("whole", "halves"))
    assert whole.keys() == halves.keys()
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_resumed_run_with_augmentation_equals_an_uninterrupted_one(tmp_path, images, monkeypatch):
    monkeypatch.setattr("lift3d.gan.training.augment.TARGET", -2.0)  # p rises whatever the logits say
    config = tiny(augment_images=40.0)
    train_gan(images, config, tmp_path / "whole", max_images=24)
    train_gan(images, config, tmp_path / "halves", max_images=12)
    half = load_state(tmp_path / "halves" / CHECKPOINT)
    assert (half.augment_p, half.real_sign != 0) == (pytest.approx(0.3), True)
    train_gan(images, config, tmp_path / "halves", max_images=24, resume=True)
    whole, halves = (all_tensors(tmp_path / run / CHECKPOINT) for run in ("whole", "halves"))
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
    train_gan(images, tiny(augment="none"), tmp_path / "none", max_images=24)
    assert any(
        not torch.equal(whole[name], t) for name, t in all_tensors(tmp_path / "none" / CHECKPOINT).items()
    )
    assert load_state(tmp_path / "none" / CHECKPOINT).augment_p == 0


@pytest.mark.parametrize("files_written", range(7))
def test_a_run_killed_between_two_of_its_files_is_made_whole_by_resume(
    tmp_path, images, monkeypatch, files_written
):
    from lift3d import whole_file

    train_gan(images, tiny(), tmp_path / "whole", max_images=16)
    replace_file, moved = whole_file.os.replace, []

    def dying(source, target):
        moved.append(target)
        if len(moved) > files_written:
            raise KeyboardInterrupt
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(whole_file.os, "replace", dying)
        try:
            train_gan(images, tiny(), tmp_path / "killed", max_images=16)
        except KeyboardInterrupt:
            with (tmp_path / "killed" / "log.jsonl").open("a") as log:
                log.write('{"images": 9')  # half a line
    resume = (tmp_path / "killed" / CHECKPOINT).exists()
    train_gan(images, tiny(), tmp_path / "killed", max_images=16, resume=resume)
    for name in (CHECKPOINT, "network-000000.safetensors"):
        whole, killed = (all_tensors(tmp_path / run / name) for run in ("whole", "killed"))
        assert all(torch.equal(whole[key], killed[key]) for key in whole), name
    for name in ("whole", "killed"):
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        assert [line["images"] for line in lines] == [4, 8, 8, 12, 16, 16]


def test_run_directory_holds_log_samples_and_a_loadable_network(tmp_path, images):
    state = train_gan(images, tiny(), tmp_path, max_images=8)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [4, 8, 8]
    assert lines[2].keys() == {"images", "feature_distance"} and 0 < lines[2]["feature_distance"] < 100
    assert {"g_loss", "d_loss", "r1", "real_logit", "fake_logit", "images_per_second"} <= lines[0].keys()
    assert (tmp_path / "samples-000000.png").stat().st_size > 0
    gan = load(tmp_path / "network-000000.safetensors")
    z = sample_z(gan.generator, 3, 1)
    expected = sample_images(state.generator_ema, z)
    assert torch.allclose(sample_images(gan.generator, z), expected, atol=2e-2)


def test_r1_equals_finite_differences_of_its_own_definition():
    d = new_state(tiny()).discriminator.double()
    reals = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(lambda x: d(x).sum(), reals)
    assert torch.allclose(r1_penalty(d, reals), slopes.square().sum() / 4)
    weight = d.b8.conv0.weight
    (analytic,) = torch.autograd.grad(r1_penalty(d, reals), weight)
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            weight[1, 2, 0, 1] += sign * 1e-5
            with torch.enable_grad():
                values.append(r1_penalty(d, reals).item())
            weight[1, 2, 0, 1] -= sign * 1e-5
    assert analytic[1, 2, 0, 1].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_grown_generator_starts_as_the_small_one_enlarged(tmp_path, images):
    from lift3d.gan.ops import upsample

    small = train_gan(images, tiny(), tmp_path, max_images=8)
    large = new_state(tiny(3))
    assert grow_from(large, tmp_path / CHECKPOINT) > 0
    z = sample_z(small.generator_ema, 3, 0)
    with torch.no_grad():
        expected = upsample(small.generator_ema(z, psi=0.7, noise_mode="const"))
        actual = large.generator_ema(z, psi=0.7, noise_mode="const")
    assert (actual - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_batches_are_box_averages_in_unit_range(images):
    state = new_state(tiny(mirror=False))
    batch = read_batch(images[:1], state, 2)
    expected = images[0].reshape(8, 2, 8, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1) / 127.5 - 1
    assert np.allclose(batch[0].numpy(), expected, atol=1e-6)


def test_non_finite_loss_stops_and_keeps_the_checkpoint(tmp_path, images):
    train_gan(images, tiny(), tmp_path, max_images=8)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(TrainingDiverged, match="the last checkpoint is kept"):
        train_gan(images, tiny(d_lr=1e30), tmp_path, max_images=80, resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("batch_size", 0, "batch_size is 0, expected a number from 1 to 65,536"),
        ("g_lr", float("nan"), "g_lr is nan, expected a number from 0 to"),
        ("augment", "cutout", "augment is 'cutout', expected none or ada"),
        ("checkpoint_every", 0, "checkpoint_every is 0, expected a number from 1"),
    ],
)
def test_settings_out_of_range(name, value, sentence):
    with pytest.raises(ConfigError, match=sentence):
        tiny(**{name: value})


def test_wrong_images_configs_and_runs_are_refused(tmp_path, images):
    with pytest.raises(ConfigError, match="expected uint8"):
        train_gan(images.astype(np.float32), tiny(), tmp_path)
    with pytest.raises(ConfigError, match="a multiple of the network's 8px"):
        train_gan(images[:, :12, :12], tiny(), tmp_path)
    with pytest.raises(ConfigError, match="give both the same number"):
        replace(tiny(), generator=GeneratorConfig((8, 6, 4)))
    train_gan(images, tiny(), tmp_path, max_images=4)
    with pytest.raises(ConfigError, match="already holds a run"):
        train_gan(images, tiny(), tmp_path)
    with pytest.raises(CheckpointError, match="holds other networks"):
        load_state(tmp_path / CHECKPOINT, tiny(3))


def test_damaged_training_checkpoints_are_refused(tmp_path, images):
    from lift3d.checkpoint import read_tensors, write_tensors

    train_gan(images, tiny(), tmp_path, max_images=4)
    about, tensors = read_tensors(tmp_path / CHECKPOINT)
    for key in ("config", "images_seen"):
        write_tensors(tmp_path / "a", tensors, {k: v for k, v in about.items() if k != key})
        with pytest.raises(CorruptFile, match=f"a is damaged: its training state has no proper '{key}'"):
            load_state(tmp_path / "a")
    odd = {
        "batch_size": "4",
        "seed": 10**400,
        "mirror": 1,
        "generator": [],
        "discriminator": {"channels": [2**63]},
    }
    for key, value in odd.items():
        write_tensors(tmp_path / "a", tensors, about | {"config": about["config"] | {key: value}})
        with pytest.raises((CheckpointError, CorruptFile), match="a"):
            load_state(tmp_path / "a")
    for key, value in {
        "images_seen": 1.5,
        "augment_p": float("nan"),
        "iteration": 10**400,
        "config": [],
    }.items():
        write_tensors(tmp_path / "a", tensors, about | {key: value})
        with pytest.raises(CorruptFile, match="a is damaged"):
            load_state(tmp_path / "a")
    write_tensors(tmp_path / "a", tensors | {"rng": torch.zeros(3)}, about)
    with pytest.raises(CorruptFile, match="a is damaged"):
        load_state(tmp_path / "a")
    del tensors["g_adam.mapping.fc0.weight.exp_avg"]
    write_tensors(tmp_path / "a", tensors, about)
    with pytest.raises(CorruptFile, match="no proper 'g_adam.mapping.fc0.weight.exp_avg'"):
        load_state(tmp_path / "a")
    write_tensors(tmp_path / "a", tensors, {**about, "format": "other"})
    with pytest.raises(CheckpointError, match="a has format 'other', expected 'lift3d.gan-training/3'"):
        load_state(tmp_path / "a")
