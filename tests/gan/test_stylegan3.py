"""The alias-free generator: equivariance, gradients, invariants, settings. Its numbers: test_reference.py."""

from dataclasses import replace

import gan_files as files
import pytest
import torch
from torch import Tensor

from lift3d.errors import ConfigError
from lift3d.gan.alias_free import AliasFreeConfig, alias_free_channels, bands, layer_designs
from lift3d.gan.config import GeneratorConfig
from lift3d.gan.generator import Liftable
from lift3d.gan.kinds import build_generator, describe_generator, new_generator
from lift3d.gan.stylegan2 import Generator
from lift3d.gan.stylegan3 import AliasFreeGenerator, SynthesisInput, motion

T = AliasFreeConfig((8, 8, 8, 6, 6), 32, z_dim=5, w_dim=7)
R = replace(T, conv_size=1, radial=True)


def network(config: AliasFreeConfig = T, seed: int = 0) -> AliasFreeGenerator:
    torch.manual_seed(seed)
    g = files.scrambled(AliasFreeGenerator(config), seed)
    for layer in g.synthesis.layers:
        layer.magnitude_ema.fill_(1.5)
    return g


def error(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest value."""
    return float((a - b).abs().max() / b.abs().max())


# --- equivariance --------------------------------------------------------------------------------------


def test_r_turns_by_right_angles_exactly() -> None:
    g = network(R)
    ws = g.ws(torch.randn(2, 5))
    upright = g.draw(ws)
    for quarter in (1, 2, 3):
        turned = g.draw(ws, motion(degrees=90.0 * quarter))
        assert error(turned, upright.rot90(quarter, (2, 3))) < 1e-5  # rot90 is counter-clockwise


def test_t_does_not_turn() -> None:
    g = network(T)
    ws = g.ws(torch.randn(2, 5))
    assert error(g.draw(ws, motion(degrees=90.0)), g.draw(ws).rot90(1, (2, 3))) > 0.1


@pytest.mark.parametrize("config", [T, R])
def test_images_move_by_whole_samples(config: AliasFreeConfig) -> None:
    """2 pixels are one sample of the coarsest layer: all but the border moves exactly."""
    g = network(replace(config, margin=30))
    ws = g.ws(torch.randn(2, 5))
    assert {band.rate for band in bands(g.config)} == {16, 32}
    moved, still = g.draw(ws, motion((4 / 32, -2 / 32))), g.draw(ws)
    assert error(moved[:, :, :-2, 4:], still[:, :, 2:, :-4]) < 2e-5


def test_motions_of_many_images_and_of_the_network() -> None:
    g = network(R)
    ws = g.ws(torch.randn(2, 5))
    several = torch.stack([motion((0.1, 0.0)), motion(degrees=30.0)])
    both = g.draw(ws, several)
    for i in range(2):
        assert error(both[i], g.draw(ws, several[i])[i]) < 1e-5
    expected = g.draw(ws, several[0])
    g.synthesis.input.transform.copy_(several[0])
    assert torch.equal(g.draw(ws), expected)
    assert torch.allclose(motion((0.3, 0.2)) @ motion((-0.3, -0.2)), torch.eye(3), atol=1e-7)
    corner = torch.linalg.inv(motion(degrees=90.0)) @ torch.tensor([1.0, 0.0, 1.0])
    assert torch.allclose(corner, torch.tensor([0.0, -1.0, 1.0]), atol=1e-6)  # right goes up: y is down


def test_the_learned_motion_is_a_turn_after_a_shift() -> None:
    source = SynthesisInput(R)
    angle = torch.tensor(0.6)
    source.affine.bias.data = torch.tensor([3 * angle.cos(), 3 * angle.sin(), 0.3, 0.9])
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1]])
    shift = torch.tensor([[1, 0, -0.1], [0, 1, -0.3], [0, 0, 1]])  # t / 3
    assert torch.allclose(source.motions(torch.zeros(1, 7))[0], turn @ shift, atol=1e-6)


def test_features_beyond_the_band_fade_out() -> None:
    source = SynthesisInput(R)
    w = torch.randn(1, 7)
    closer = torch.diag(torch.tensor([100.0, 100.0, 1.0]))  # everything a hundred times smaller
    source.freqs.div_(source.freqs.norm(dim=1, keepdim=True)).mul_(2.0)
    assert source(w).abs().max() > 0.1 and torch.equal(source(w, closer), torch.zeros(1, 8, 36, 36))


# --- values and gradients -------------------------------------------------------------------------------


def test_input_values_follow_the_formula() -> None:
    source, w = SynthesisInput(R), torch.randn(2, 7)
    x = source(w)
    i, j = 5, 30  # row, column
    position = torch.tensor([j + 0.5 - 18, i + 0.5 - 18]) / 16
    waves = torch.sin(2 * torch.pi * (source.freqs @ position + source.phases))
    assert torch.allclose(x[:, :, i, j], (source.weight @ waves / 8**0.5).expand(2, -1), atol=1e-5)


def test_frequencies_fill_the_disc_evenly() -> None:
    radii = SynthesisInput(replace(R, channels=(4096, 8, 8))).freqs.norm(dim=1) / 2
    quantiles = radii.square().quantile(torch.tensor([0.25, 0.5, 0.75]))
    assert torch.allclose(quantiles, torch.tensor([0.25, 0.5, 0.75]), atol=0.03) and radii.max() <= 1


@pytest.mark.parametrize("config", [T, R])
def test_gradients_with_respect_to_w(config: AliasFreeConfig) -> None:
    small = replace(config, channels=(3, 3, 2), resolution=16, w_dim=4, margin=2, conv_clamp=0.6)
    g = network(small).double()
    w = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(3, 16, 16, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda w: (g.to_image(w) * probe).sum((1, 2, 3)), w, atol=1e-6)
    assert torch.autograd.gradgradcheck(lambda w: (g.to_image(w) * probe).sum((1, 2, 3)), w, atol=1e-6)
    step = torch.randn(2, g.h_dim, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(g.offset, step)


def test_images_do_not_depend_on_batch_mates_or_on_the_layout() -> None:
    g = network()
    ws = g.ws(torch.randn(3, 5))
    whole = g.draw(ws)
    for i in range(3):
        assert error(g.draw(ws[i : i + 1]), whole[i : i + 1]) < 1e-5
    plain = AliasFreeGenerator(T).requires_grad_(False)
    plain.load_state_dict(g.state_dict())
    plain.to(memory_format=torch.contiguous_format)
    assert error(plain.draw(ws), whole) < 1e-5


def test_magnitudes_are_tracked_in_training_only() -> None:
    g = network()
    ws = g.ws(torch.randn(2, 5))
    g.draw(ws)
    layer = g.synthesis.layers[0]
    assert layer.magnitude_ema == 1.5
    x = g.synthesis.input(ws[:, 0])
    g.synthesis(ws, decay=0.75)
    assert torch.allclose(layer.magnitude_ema, 0.75 * torch.tensor(1.5) + 0.25 * x.square().mean())


def test_an_input_of_any_magnitude_gives_the_same_image() -> None:
    """Scaling the input's mixing by a and its running square by a^2 changes nothing."""
    g = network()
    ws = g.ws(torch.randn(2, 5))
    expected = g.draw(ws)
    g.synthesis.input.weight.mul_(3)
    g.synthesis.layers[0].magnitude_ema.mul_(9)
    assert error(g.draw(ws), expected) < 1e-5


# --- the seam -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
def test_both_generators_can_be_lifted(n_layers: int) -> None:
    stylegan2 = Generator(GeneratorConfig((4, 4, 4), z_dim=5, w_dim=7, n_mapping_layers=n_layers))
    for g in (stylegan2, network(replace(T, n_mapping_layers=n_layers))):
        assert isinstance(g, Liftable)
        assert (g.z_dim, g.w_dim, g.h_dim) == (5, 7, 5 if n_layers <= 3 else 7)
        w = g.to_w(torch.randn(2, 5))
        assert torch.equal(g.to_image(w), g.to_image(w)) and g.to_image(w).shape[2] == g.resolution
        assert torch.allclose(g.offset(torch.zeros(2, g.h_dim)), torch.zeros(2, 7), atol=1e-8)
        assert g.offset(torch.ones(2, g.h_dim)).abs().max() > 1e-3
        a, b = torch.randn(2, 7), torch.randn(2, 7)
        between = g.styles(a.lerp(b, 0.3))
        assert torch.allclose(between, g.styles(a).lerp(g.styles(b), 0.3), atol=1e-5)
    assert not isinstance(torch.nn.Linear(2, 2), Liftable)


def test_offsets_lead_from_latent_to_latent() -> None:
    """With z-normalized states as steps, w(0) + offset is w itself."""
    g = network(replace(T, n_mapping_layers=4))
    h = g.mapping.hidden(torch.randn(2, 5), 3)
    h0 = g.mapping.hidden(torch.zeros(1, 5), 3)
    assert torch.allclose(g.mapping.tail(h0, 3) + g.offset(h - h0), g.mapping.tail(h, 3), atol=1e-6)


def test_descriptions_of_generators() -> None:
    g = network(R)
    about = describe_generator(g)
    assert about["kind"] == "stylegan3" and about["conv_size"] == 1
    assert new_generator({**about, "channels": list(about["channels"])}, "file").config == R
    assert type(build_generator(GeneratorConfig((4, 4)))) is Generator
    with pytest.raises(ConfigError, match="the generator is of class Linear, which files cannot hold"):
        describe_generator(torch.nn.Linear(2, 2))


def test_it_computes_where_its_inputs_are() -> None:
    g = network().to("meta")
    z = torch.randn(2, 5, device="meta")
    assert g(z).device.type == "meta" and g.draw(g.ws(z), motion((0.1, 0.0))).device.type == "meta"
    with torch.device("meta"):
        empty = AliasFreeGenerator(T)
    empty.load_state_dict(network().state_dict(), assign=True)
    z = torch.randn(2, 5)
    assert torch.equal(empty(z), network()(z))


# --- settings -------------------------------------------------------------------------------------------


def test_published_designs() -> None:
    """Names of the layers in the published networks of 1024 pixels, configuration T."""
    t = AliasFreeConfig(alias_free_channels(1024), 1024)
    assert [d.name for d in layer_designs(t)] == [
        "L0_36_512", "L1_36_512", "L2_52_512", "L3_52_512", "L4_84_512", "L5_148_512", "L6_148_512",
        "L7_276_323", "L8_276_203", "L9_532_128", "L10_1044_81", "L11_1044_51", "L12_1044_32",
        "L13_1024_32", "L14_1024_3",
    ]  # fmt: skip
    assert alias_free_channels(1024, 65536, 1024)[-3:] == (102, 64, 64)
    assert t.n_ws == 16 and bands(t)[-1].cutoff == 512


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"resolution": 24}, "resolution is 24, expected a power of two"),
        ({"resolution": 4}, "resolution is 4, expected a whole number from 8"),
        ({"channels": (4,)}, "a number of layers is 1, expected a whole number from 2 to 64"),
        ({"channels": (4, 0)}, "a width in channels is 0"),
        ({"n_critical": 0}, "n_critical is 0, expected a whole number from 1 to 4"),
        ({"n_critical": 5}, "n_critical is 5, expected a whole number from 1 to 4"),
        ({"margin": 257}, "margin is 257"),
        ({"oversampling": 9}, "oversampling is 9"),
        ({"filter_size": 33}, "filter_size is 33"),
        ({"conv_size": 2}, "conv_size or radial is unusable"),
        ({"radial": 1}, "conv_size or radial is unusable"),
        ({"output_scale": -1.0}, "output_scale is -1.0, expected a positive number"),
        ({"first_cutoff": 17.0}, "first_cutoff 17.0 and first_stopband .* do not suit a resolution of 32"),
        ({"first_stopband": 1e9}, "do not suit a resolution of 32"),
        ({"first_stopband": 0.1}, "do not suit a resolution of 32"),
        ({"last_stopband_rel": 1e300}, "last_stopband_rel is 1e.300, expected at most 16"),
        ({"last_stopband_rel": 0.4}, "last_stopband_rel is 0.4: the last layers end below the resolution"),
        ({"first_cutoff": 9.0, "first_stopband": 1.0, "oversampling": 1}, "has a cutoff of .* less than"),
        ({"n_mapping_layers": 65}, "n_mapping_layers is 65"),
    ],
)  # fmt: skip
def test_settings_that_fit_no_network(change: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        replace(T, **change)


def test_a_wrong_number_of_layers_is_named() -> None:
    with pytest.raises(ConfigError, match="ws has 3 layers, this generator has 7"):
        network().draw(torch.zeros(1, 3, 7))
