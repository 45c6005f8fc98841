"""Files of alias-free generators, written by stand-ins of the original program, and our own."""

from dataclasses import replace
from pathlib import Path

import gan_files as files
import pytest
import torch
from tiny_gan import PRESET

from lift3d.errors import CheckpointError, CorruptFile
from lift3d.gan.alias_free import AliasFreeConfig
from lift3d.gan.config import DiscriminatorConfig
from lift3d.gan.files.load import describe, load, save_gan
from lift3d.gan.stylegan2 import Discriminator
from lift3d.gan.stylegan3 import AliasFreeGenerator
from lift3d.model import LiftedGAN

T = AliasFreeConfig((6, 5, 5, 4), 16, z_dim=5, w_dim=7, margin=4)
R = replace(T, conv_size=1, radial=True)


def generator(config: AliasFreeConfig = T, seed: int = 1) -> AliasFreeGenerator:
    torch.manual_seed(seed)
    network = files.scrambled(AliasFreeGenerator(config), seed)
    for layer in network.synthesis.layers:
        layer.magnitude_ema.abs_().add_(0.1)
    return network


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Equal settings and tensors, bit for bit."""
    ours, theirs = a.state_dict(), b.state_dict()
    equal = ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    return equal and a.config == b.config


@pytest.fixture
def write(tmp_path: Path):
    def write(value: object, protocol: int = 4) -> Path:
        (tmp_path / "gan.pkl").write_bytes(files.dumps(value, protocol))
        return tmp_path / "gan.pkl"

    return write


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_both_configurations_and_all_protocols(write, protocol: int) -> None:
    d = files.scrambled(Discriminator(DiscriminatorConfig((6, 5, 4))))
    for config, name in ((T, "T"), (R, "R"), (replace(T, radial=True), "other")):
        g, raw = generator(config), generator(config, seed=3)
        value = files.snapshot(
            files.alias_free_generator(g), files.nvlabs_discriminator(d), files.alias_free_generator(raw)
        )
        path = write(value, protocol)
        gan = load(path)
        assert same(gan.generator, g) and same(gan.discriminator, d)
        assert same(load(path, average=False).generator, raw)
        about = describe(path)
        assert (gan.kind, about.family, about.architecture) == ("nvlabs", "StyleGAN3", name)
        assert (about.resolution, about.channels, about.discriminator) == (16, (6, 5, 5, 4), True)


@pytest.mark.parametrize(
    "changes",
    [
        {"c_dim": 3, "n_mapping_layers": 8, "mapping_lr": 0.1},
        {"conv_clamp": None, "image_channels": 1, "output_scale": 1.0},
        {"conv_clamp": 0.5, "n_critical": 1, "margin": 0},
        {"channels": (6, 6, 5, 5, 4, 4, 4, 3, 3), "resolution": 64, "n_critical": 4, "margin": 16},
        {"oversampling": 1, "filter_size": 4, "resolution": 64},
        {"oversampling": 4, "filter_size": 5, "radial": True},
        {"first_cutoff": 1.5, "first_stopband": 9.0, "last_stopband_rel": 2**0.7},
        {"first_cutoff": 3.0, "last_stopband_rel": 1.0},
        {"channels": (4, 3), "n_critical": 1, "conv_size": 5},
    ],
)
def test_settings(write, changes: dict) -> None:
    g = generator(replace(T, **changes))
    stopbands = {name: changes[name] for name in changes if "stopband" in name}
    record = files.alias_free_generator(g, fp16=True, **stopbands)
    gan = load(write(record))
    assert same(gan.generator, g)
    z, c = torch.randn(2, 5), torch.eye(3)[:2] if g.config.c_dim else None
    assert torch.equal(gan.generator(z, c), g(z, c))


@pytest.mark.parametrize(
    ("path", "attribute", "value", "sentence"),
    [
        ("synthesis.L1_24_5", "in_cutoff", 2.1, "L1_24_5.in_cutoff = 2.1, where StyleGAN3 has 2.0"),
        ("synthesis.L1_24_5", "out_half_width", 1.0, "L1_24_5.out_half_width = 1.0, where"),
        ("synthesis.L3_16_4", "padding", [1, 1, 1, 1], "L3_16_4.padding = a list, where StyleGAN3 has"),
        ("synthesis.L3_16_4", "up_factor", 4, "L3_16_4.up_factor = 4, where StyleGAN3 has 2"),
        ("synthesis.L0_24_6", "conv_clamp", 1.0, "conv_clamp = 256.0, where StyleGAN3 has 1.0"),
        (
            "synthesis.L0_24_6",
            "conv_kernel",
            2,
            "not describe a network: conv_size or radial is unusable",
        ),
        ("synthesis.L0_24_6", "tmp_sampling_rate", 0, "no usable synthesis.L0_24_6.tmp_sampling_rate"),
        ("synthesis.input", "bandwidth", 3.0, "L0_24_6.in_cutoff = 2.0, where StyleGAN3 has 3.0"),
        ("synthesis.input", "bandwidth", -1.0, "synthesis.input.bandwidth = -1.0, expected a positive"),
        ("synthesis.input", "channels", 5, "synthesis.input.channels = 5, where StyleGAN3 has 6"),
        ("synthesis.input.affine", "weight_gain", 1.0, "input.affine.weight_gain = 1.0, where"),
        ("synthesis", "margin_size", 5, "padding = a list|in_half_width"),
        ("synthesis", "margin_size", 300, "does not describe a network: margin is 300"),
        ("synthesis", "num_critical", 4, "n_critical is 4, expected a whole number from 1 to 3"),
        ("synthesis", "num_layers", 5, "has nothing as synthesis.L5, where StyleGAN3 has a SynthesisLayer"),
        ("synthesis", "output_scale", "x", "synthesis.output_scale = 'x', expected a positive number"),
        ("mapping.fc1", "bias_gain", 0.5, "mapping.fc1.bias_gain = 0.5, where StyleGAN3 has 0.01"),
        ("", "num_ws", 3, "num_ws = 3, where StyleGAN3 has 6"),
        ("", "img_resolution", 32, "where StyleGAN3 has|does not"),
    ],
)
def test_other_arithmetic_is_refused(write, path: str, attribute: str, value: object, sentence: str) -> None:
    record = files.alias_free_generator(generator())
    (record.child(path) if path else record).state[attribute] = value
    with pytest.raises(CheckpointError, match=sentence):
        load(write(record))


def test_incomplete_and_foreign_networks_are_refused(write) -> None:
    def refused(sentence: str, kind: type[Exception] = CheckpointError) -> None:
        with pytest.raises(kind, match=sentence):
            load(write(files.snapshot(record)))

    record = files.alias_free_generator(generator())
    record.child("synthesis.L1_24_5").state["_buffers"]["down_filter"] = torch.ones(12) / 12
    refused(r"another filter \(synthesis.L1_24_5.down_filter\) than its settings give: give an unmodified")
    del record.child("synthesis.L1_24_5").state["_buffers"]["down_filter"]
    refused(r"another filter \(synthesis.L1_24_5.down_filter\)")
    record = files.alias_free_generator(generator())
    record.child("synthesis.L4_16_3").state["_buffers"]["up_filter"] = torch.ones(1)
    refused(r"another filter \(synthesis.L4_16_3.up_filter\)")
    record = files.alias_free_generator(generator())
    del record.child("synthesis.L1_24_5").state["_buffers"]["magnitude_ema"]
    refused("missing synthesis.L1_24_5.magnitude_ema, unexpected nothing; give an unmodified StyleGAN3")
    record = files.alias_free_generator(generator())
    record.child("synthesis.input").state["_buffers"]["freqs"] = torch.full((6, 2), torch.inf)
    refused("synthesis.input.freqs holds values that are not finite", CorruptFile)
    record = files.alias_free_generator(generator())
    layers = record.child("synthesis").state["_modules"]
    layers["L1_16_5"] = layers.pop("L1_24_5")
    refused("missing synthesis.L1_24_5.affine.bias")
    record = files.alias_free_generator(generator(), first_stopband="high")
    refused("first_stopband is 'high', expected a positive number")
    record = files.alias_free_generator(generator(), first_stopband=9.0)
    refused("L0_24_6.* where StyleGAN3 has")


def test_conversion_is_exact(tmp_path: Path) -> None:
    g, d = generator(R), files.scrambled(Discriminator(DiscriminatorConfig((6, 5, 4))))
    path = tmp_path / "gan.safetensors"
    save_gan(path, g, d, "CC0-1.0", torch.float32)
    gan = load(path)
    assert same(gan.generator, g) and same(gan.discriminator, d) and gan.kind == "lift3d"
    assert (describe(path).family, describe(path).architecture) == ("StyleGAN3", "R")
    save_gan(path, g)
    z = torch.randn(2, 5)
    assert torch.allclose(load(path).generator(z), g(z), atol=0.02 * float(g(z).abs().max()))


def test_a_lifted_model_holds_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LiftedGAN(PRESET, generator(replace(R, c_dim=0))).eval()
    model.save(tmp_path / "model.safetensors")
    other = LiftedGAN.load(tmp_path / "model.safetensors")
    assert same(other.generator, model.generator)
    ours, theirs = model.sample([1, 2]), other.sample([1, 2])
    assert torch.equal(ours.image, theirs.image) and torch.equal(ours.code, theirs.code)
    assert ours.image.shape == (2, 3, 16, 16)
