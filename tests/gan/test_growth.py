"""Growing a GAN: both networks start as what they were."""

import pytest
import torch
from torch.nn import functional as F

from lift3d.checkpoint import write_tensors
from lift3d.errors import CheckpointError
from lift3d.gan.alias_free import small_alias_free_config
from lift3d.gan.config import DiscriminatorConfig, GeneratorConfig
from lift3d.gan.files.load import save_gan
from lift3d.gan.ops import downsample, upsample
from lift3d.gan.training.state import GanTrainConfig, grow_from, new_state, save_state


def config(channels: tuple[int, ...], seed: int = 0) -> GanTrainConfig:
    generator = GeneratorConfig(channels, z_dim=8, w_dim=8, n_mapping_layers=2, noise=False)
    return GanTrainConfig(generator, DiscriminatorConfig(channels), seed=seed)


@pytest.fixture
def small():
    state = new_state(config((8, 8, 8)))
    with torch.no_grad():
        for parameter in state.discriminator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return state


def test_a_grown_gan_computes_what_the_small_one_did(small, tmp_path):
    save_state(tmp_path / "small", small)
    grown = new_state(config((8, 8, 8, 8), seed=1))
    assert grow_from(grown, tmp_path / "small") > 0
    z, images = torch.randn(4, 8), torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(grown.generator(z), upsample(small.generator(z)), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            grown.discriminator(images), small.discriminator(downsample(images)), atol=1e-4, rtol=1e-4
        )
    loss = F.softplus(grown.discriminator(grown.generator(z))).mean()
    new = [grown.discriminator.b32.skip.weight, grown.generator.synthesis.b32.torgb.weight]
    gradients = torch.autograd.grad(loss, new)
    assert all(g.abs().max() > 0 for g in gradients)  # what starts at zero learns


def test_a_native_file_starts_a_run_of_the_same_size(small, tmp_path):
    save_gan(tmp_path / "gan.safetensors", small.generator_ema, small.discriminator, dtype=torch.float32)
    state = new_state(config((8, 8, 8), seed=1))
    grow_from(state, tmp_path / "gan.safetensors")
    for network, source in (
        (state.generator, small.generator_ema),
        (state.generator_ema, small.generator_ema),
        (state.discriminator, small.discriminator),
    ):
        for name, tensor in source.state_dict().items():
            assert torch.equal(network.state_dict()[name], tensor), name


def test_a_stylegan3_starts_from_a_stylegan2_of_twice_the_size(small, tmp_path):
    """They share the mapping network, and the discriminator but for its image layer."""
    large = new_state(config((8, 8, 8, 8)))
    large.generator_ema.mapping.w_avg.fill_(0.5)
    save_gan(tmp_path / "gan.safetensors", large.generator_ema, large.discriminator, dtype=torch.float32)
    generator = small_alias_free_config(16, 64, 8, z_dim=8, w_dim=8)
    state = new_state(GanTrainConfig(generator, DiscriminatorConfig((8, 8, 8)), seed=1))
    before = {name: tensor.clone() for name, tensor in state.generator.synthesis.state_dict().items()}
    grow_from(state, tmp_path / "gan.safetensors")
    for mapping in (state.generator.mapping, state.generator_ema.mapping):
        for name, tensor in mapping.state_dict().items():
            assert torch.equal(tensor, large.generator_ema.mapping.state_dict()[name]), name
    known = large.discriminator.state_dict()
    changed = [
        n for n, t in state.discriminator.state_dict().items() if not torch.equal(t, known.get(n, t + 1))
    ]
    assert changed == ["b16.fromrgb.weight", "b16.fromrgb.bias"]
    assert all(torch.equal(t, before[name]) for name, t in state.generator.synthesis.state_dict().items())


def test_a_foreign_file_is_refused(small, tmp_path):
    write_tensors(tmp_path / "other", {"g.x": torch.zeros(1)}, {"format": "something else"})
    with pytest.raises(CheckpointError, match="has format 'something else', expected"):
        grow_from(small, tmp_path / "other")
