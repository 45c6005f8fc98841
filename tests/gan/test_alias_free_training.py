"""Training a StyleGAN3: exact resume, running magnitudes, the same loss and averages as for a StyleGAN2."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from lift3d.checkpoint import read_tensors
from lift3d.cli.main import main
from lift3d.errors import ConfigError
from lift3d.gan.alias_free import AliasFreeConfig, layer_designs, small_alias_free_config
from lift3d.gan.config import DiscriminatorConfig
from lift3d.gan.files.load import describe, load
from lift3d.gan.latents import sample_images, sample_z
from lift3d.gan.training.state import GanTrainConfig, new_state
from lift3d.gan.training.trainer import CHECKPOINT, read_batch, train_gan, train_step


def tiny(**settings: object) -> GanTrainConfig:
    return GanTrainConfig(
        small_alias_free_config(16, 64, 4, z_dim=5, w_dim=7),
        DiscriminatorConfig((8, 6, 4)),
        **{"batch_size": 4, "r1_interval": 2, "checkpoint_every": 8, "log_every": 4, "style_mixing": 0.0}
        | settings,
    )


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)


def test_resumed_run_equals_uninterrupted_run_bit_for_bit(tmp_path: Path, images: np.ndarray) -> None:
    train_gan(images, tiny(), tmp_path / "whole", max_images=16)
    train_gan(images, tiny(), tmp_path / "halves", max_images=8)
    state = train_gan(images, tiny(), tmp_path / "halves", max_images=16, resume=True)
    whole, halves = (read_tensors(tmp_path / run / CHECKPOINT)[1] for run in ("whole", "halves"))
    assert whole.keys() == halves.keys()
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
    gan = load(tmp_path / "halves" / "network-000000.safetensors")
    z = sample_z(gan.generator, 3, 1)
    assert torch.allclose(sample_images(gan.generator, z), sample_images(state.generator_ema, z), atol=2e-2)


def test_magnitudes_run_in_training_and_are_copied_to_the_average(images: np.ndarray) -> None:
    state = new_state(tiny(magnitude_images=8.0))
    layer = state.generator.synthesis.layers[1]
    inputs = []
    layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach()))
    state, _ = train_step(state, read_batch(images, state, 4))
    expected = 1 + (inputs[0].square().mean() - 1) * (1 - 0.5**0.5)  # 4 images of a half-life of 8
    torch.testing.assert_close(layer.magnitude_ema, expected)
    assert torch.equal(state.generator_ema.synthesis.layers[1].magnitude_ema, layer.magnitude_ema)
    assert len(inputs) == 1
    state.generator_ema(torch.randn(2, 5))
    assert torch.equal(state.generator_ema.synthesis.layers[1].magnitude_ema, layer.magnitude_ema)


def test_every_weight_of_both_networks_learns(images: np.ndarray) -> None:
    state = new_state(tiny())
    before = {name: p.detach().clone() for name, p in state.generator.named_parameters()}
    for _ in range(2):
        state, stats = train_step(state, read_batch(images, state, 4))
    still = [name for name, p in state.generator.named_parameters() if torch.equal(p, before[name])]
    assert still == []
    assert np.isfinite([stats.g_loss, stats.d_loss, stats.real_logit]).all()


def test_sizes() -> None:
    designs = {
        size: layer_designs(small_alias_free_config(size, 1024, 64)) for size in (16, 32, 64, 256, 1024)
    }
    layers = {size: len(found) - 1 for size, found in designs.items()}
    assert layers == {16: 6, 32: 8, 64: 10, 256: 14, 1024: 14}
    margins = {size: (found[0].output.size - found[0].output.rate) // 2 for size, found in designs.items()}
    assert margins == {16: 2, 32: 4, 64: 8, 256: 10, 1024: 10}
    assert small_alias_free_config(256, 32768, 512) == AliasFreeConfig(
        tuple(
            layer.output.channels for layer in layer_designs(small_alias_free_config(256, 32768, 512))[:-1]
        ),
        256,
        conv_clamp=None,
    )
    for size in (8, 24):
        with pytest.raises(
            ConfigError, match=f"resolution is {size}, expected a power of two of at least 16"
        ):
            small_alias_free_config(size, 1024, 64)


def test_the_command(tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", images)
    small = [
        "--resolution",
        "16",
        "--channels",
        "64",
        "4",
        "--latent",
        "8",
        "--batch",
        "4",
        "--kimg",
        "0.004",
    ]
    command = ["gan", "train", "images.npy", "--out", "run", "--alias-free", *small]
    refused = CliRunner().invoke(main, [*command, "--noise"])
    assert (refused.exit_code, "--noise has no effect with --alias-free" in refused.stderr) == (1, True)
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, done.stdout) == (0, "run: 4 images seen\n"), done.output
    found = describe("run/network-000000.safetensors")
    assert (found.family, found.architecture, found.resolution) == ("StyleGAN3", "T", 16)
