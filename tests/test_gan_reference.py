"""The networks against numbers that the original programs wrote (shared/fixtures/stylegan)."""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lift3d.gan.stylegan2 import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig

FIXTURES = Path(os.environ.get("LIFT3D_FIXTURES", "/work/shared/fixtures")) / "stylegan"
pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures in {FIXTURES}")


def relative_error(actual: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(actual.detach().numpy() - expected).max() / np.abs(expected).max())


def rosinality_generator(state: dict, latent_avg: torch.Tensor) -> Generator:
    config = GeneratorConfig((16, 16, 16, 16), z_dim=64, w_dim=64, demodulation_eps_per_input=True)
    generator = Generator(config)
    target = {"mapping.w_avg": latent_avg}
    for i in range(8):
        for kind in ("weight", "bias"):
            target[f"mapping.fc{i}.{kind}"] = state[f"style.{i + 1}.{kind}"]
    target["synthesis.b4.const"] = state["input.input"][0]

    def put(name: str, source: str, noise: int | None) -> None:
        target[f"{name}.weight"] = state[f"{source}.conv.weight"][0]
        target[f"{name}.affine.weight"] = state[f"{source}.conv.modulation.weight"]
        target[f"{name}.affine.bias"] = state[f"{source}.conv.modulation.bias"]
        if noise is None:
            target[f"{name}.bias"] = state[f"{source}.bias"].flatten()
        else:
            target[f"{name}.bias"] = state[f"{source}.activate.bias"]
            target[f"{name}.noise_strength"] = state[f"{source}.noise.weight"][0]
            target[f"{name}.noise_const"] = state[f"noises.noise_{noise}"][0, 0]

    put("synthesis.b4.conv1", "conv1", 0)
    put("synthesis.b4.torgb", "to_rgb1", None)
    for j in range(3):
        put(f"synthesis.b{8 << j}.conv0", f"convs.{2 * j}", 2 * j + 1)
        put(f"synthesis.b{8 << j}.conv1", f"convs.{2 * j + 1}", 2 * j + 2)
        put(f"synthesis.b{8 << j}.torgb", f"to_rgbs.{j}", None)
    generator.load_state_dict(target)
    return generator.requires_grad_(False)


def rosinality_discriminator(state: dict) -> Discriminator:
    discriminator = Discriminator(DiscriminatorConfig((16, 16, 16, 16)))
    names = {"b32.fromrgb.weight": "convs.0.0.weight", "b32.fromrgb.bias": "convs.0.1.bias"}
    for j in range(3):
        r = 32 >> j
        names |= {
            f"b{r}.conv0.weight": f"convs.{j + 1}.conv1.0.weight",
            f"b{r}.conv0.bias": f"convs.{j + 1}.conv1.1.bias",
            f"b{r}.conv1.weight": f"convs.{j + 1}.conv2.1.weight",
            f"b{r}.conv1.bias": f"convs.{j + 1}.conv2.2.bias",
            f"b{r}.skip.weight": f"convs.{j + 1}.skip.1.weight",
        }
    names |= {"b4.conv.weight": "final_conv.0.weight", "b4.conv.bias": "final_conv.1.bias"}
    for ours, theirs in (("fc", 0), ("out", 1)):
        for kind in ("weight", "bias"):
            names[f"b4.{ours}.{kind}"] = f"final_linear.{theirs}.{kind}"
    discriminator.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})
    return discriminator.requires_grad_(False)


@pytest.fixture(scope="module")
def rosinality():
    with torch.serialization.safe_globals([argparse.Namespace]):
        data = torch.load(FIXTURES / "ros_r32.pt", weights_only=True)
    reference = dict(np.load(FIXTURES / "ros_r32.npz"))
    return (
        rosinality_generator(data["g_ema"], data["latent_avg"]),
        rosinality_discriminator(data["d"]),
        {k: v for k, v in reference.items() if k != "meta"},
        json.loads(str(reference["meta"])),
    )


def test_generator_reproduces_rosinality(rosinality):
    g, _, ref, _ = rosinality
    z = torch.from_numpy(ref["z"])
    ws = g.ws(z)
    assert relative_error(ws, ref["w"]) <= 1e-5
    assert relative_error(g.ws(z, psi=0.7), ref["w_psi07"]) <= 1e-5
    assert relative_error(g.synthesis(ws[:2], "const"), ref["img_const"]) <= 1e-5
    assert relative_error(g.synthesis(ws[:2], "none"), ref["img_none"]) <= 1e-5
    assert relative_error(g(z[:2], psi=0.7, noise_mode="const"), ref["img_psi07"]) <= 1e-5
    assert relative_error(g.synthesis(torch.from_numpy(ref["w_mix"]), "const"), ref["img_mix"]) <= 1e-5


def test_discriminator_reproduces_rosinality(rosinality):
    _, d, ref, _ = rosinality
    images = torch.from_numpy(ref["d_in"])
    assert relative_error(d(images[:4]), ref["logits4"]) <= 1e-4
    assert relative_error(d(images), ref["logits8"]) <= 1e-4
    features = d.features(images[:4])
    assert len(features) == 3
    for i, feature in enumerate(features):
        assert relative_error(feature.abs().mean(dim=1), ref[f"d_feat{i}"]) <= 1e-4
